"""One processor for every node of a generated graph, in both forms."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FlowType, FunctionFlow, flow, task
from tests.conformance.engines.effects import note
from tests.conformance.engines.shapes import Shape, digest


class Digest(BaseModel):
    """Gives the digest of its name and its upstreams' digests; notes when it began and ended."""

    name: str
    takes_s: float = 0.0

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> str:
        note(input_data["log"], "start")
        found = digest(self.name, dict(dependencies))
        time.sleep(self.takes_s)
        note(input_data["log"], "end")
        return found


@task
def digest_of(name: str, upstreams: dict[str, str], log: str) -> str:
    note(log, "start")
    found = digest(name, upstreams)
    note(log, "end")
    return found


def as_class_form(
    shape: Shape, placements: Mapping[str, FlowType] | None = None, processors: Mapping[str, Any] | None = None
) -> Flow:
    """Write the graph with Flow and register_to; its parent gathers what all nodes gave."""
    end = Flow(None, FlowConfig(name="end"))
    flows: dict[str, Flow] = {}
    for name in shape:
        placement = (placements or {}).get(name, FlowType.PROCESS)
        processor = (processors or {}).get(name) or Digest(name=name)
        flows[name] = Flow(processor, FlowConfig(name=name, flow_type=placement))
    for name, upstreams in shape.items():
        flows[name].register_to(end, required_deps=[flows[upstream].process_id for upstream in upstreams])
    return end


def as_function_form(shape: Shape) -> FunctionFlow[..., dict[str, str]]:
    """Write the graph as a function; shapes are in topological order."""

    @flow
    def graph(log: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, upstreams in shape.items():
            found[name] = digest_of.options(name=name)(name, {up: found[up] for up in upstreams}, log)
        return found

    return graph
