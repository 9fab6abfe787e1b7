"""Runs whose every result is known beforehand, whatever is lost on their way: one flow for each thing flowq can do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic import BaseModel

from flowq import (
    DependencyData,
    Flow,
    FlowConfig,
    FlowContext,
    FlowStatus,
    FlowType,
    RetryPolicy,
    Skip,
    current_attempt,
    flow,
    optional,
    task,
)
from flowq.core.config import Dispatch
from tests.conformance.engines.effects import note
from tests.conformance.engines.shapes import Shape, chain, digest, evaluate, fork_join, layered, montage

CRASHES = 50
"""Attempts whose claim is lost count as crashes; no node is to give up because of that here."""

AGAIN = RetryPolicy(max_attempts=3, delay_s=0.02, jitter=0)


class Noted(BaseModel):
    """Gives the digest of its name and its upstreams' digests, and notes that it ran."""

    name: str

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> str:
        note(input_data["log"], "start")
        return digest(self.name, dict(dependencies))


def as_flow(shape: Shape, placements: Mapping[str, FlowType] | None = None) -> Flow:
    """Write a graph as a flow whose end gathers what all nodes gave."""
    end = Flow(None, FlowConfig(name="end", max_crashes=CRASHES))
    flows: dict[str, Flow] = {}
    for name in shape:
        placement = (placements or {}).get(name, FlowType.PROCESS)
        flows[name] = Flow(Noted(name=name), FlowConfig(name=name, flow_type=placement, max_crashes=CRASHES))
    for name, upstreams in shape.items():
        flows[name].register_to(end, required_deps=[flows[upstream].process_id for upstream in upstreams])
    return end


def mixed(shape: Shape) -> dict[str, FlowType]:
    """Place a shape's nodes everywhere in turn."""
    kinds = (FlowType.PROCESS, FlowType.INLINE, FlowType.THREAD, FlowType.INLINE, FlowType.PROCESS)
    return {name: kinds[number % len(kinds)] for number, name in enumerate(shape)}


@task(max_crashes=CRASHES)
def numbers(count: int, log: str) -> list[int]:
    note(log, "start")
    return list(range(count))


@task(max_crashes=CRASHES, retries=AGAIN)
def square(item: int, log: str) -> int:
    """Square a number; every fifth one at the second attempt only."""
    note(log, "start")
    if item % 5 == 0 and current_attempt().attempt == 1:
        raise ValueError("not yet")
    return item * item


@task(max_crashes=CRASHES, flow_type="thread")
def halve(item: int, log: str) -> float:
    note(log, "start")
    return item / 2


@task(max_crashes=CRASHES, flow_type="inline")
def total(values: list[float], log: str) -> float:
    note(log, "start")
    return sum(values)


@task(max_crashes=CRASHES, retries=AGAIN)
def lucky(x: int, log: str) -> int:
    """Add one, at the third attempt."""
    note(log, "start")
    if current_attempt().attempt < 3:
        raise ValueError("not yet")
    return x + 1


@task(max_crashes=CRASHES)
def breaks(x: int, log: str) -> int:
    note(log, "start")
    raise ValueError("told to fail")


@task(max_crashes=CRASHES)
def leaves(x: int, log: str) -> int:
    note(log, "start")
    raise Skip("not needed")


@task(max_crashes=CRASHES)
def step(x: int, log: str) -> int:
    note(log, "start")
    return x + 1


@task(max_crashes=CRASHES)
def gather(x: int, log: str, y: int | None = None, z: int | None = None) -> list[int | None]:
    note(log, "start")
    return [x, y, z]


@flow
def mapped(count: int, log: str) -> float:
    return total(halve.map(square.map(numbers(count, log), log=log), log=log), log)


@flow
def retried(x: int, log: str) -> int:
    return lucky(step(lucky(x, log), log), log)


@flow
def bypassed(x: int, log: str) -> list[int | None]:
    """Two optional upstreams do not complete: one fails, with one more in between; one is skipped."""
    first = step(x, log)
    return gather(lucky(first, log), log, optional(step(breaks(first, log), log)), optional(leaves(first, log)))


@flow
def failing(x: int, log: str) -> int:
    return step(breaks(step(x, log), log), log)


class Case(NamedTuple):
    """A flow, and how every run of it ends."""

    flow: Any
    given: dict[str, Any]
    output: Any
    executions: int
    """How often its nodes run, all in all, if nothing is run in vain."""
    status: FlowStatus = FlowStatus.COMPLETED

    def submit(self, log: str, context: FlowContext, dispatch: Dispatch | None = None) -> Any:
        """Start a run; its nodes note in ``log`` that they run."""
        given = {**self.given, "log": log}
        if isinstance(self.flow, Flow):
            return self.flow.submit(given, context=context, dispatch=dispatch)
        return self.flow.submit(**given, context=context, dispatch=dispatch)


def of_shape(shape: Shape, placements: Mapping[str, FlowType] | None = None) -> Case:
    return Case(as_flow(shape, placements), {}, evaluate(shape), len(shape))


_LAYERED = layered(6, 6, seed=4)
_CHAIN = chain(8)

CASES: dict[str, Case] = {
    "a chain": of_shape(_CHAIN),
    "a chain, inline and fused": of_shape(_CHAIN, dict.fromkeys(list(_CHAIN)[1:], FlowType.INLINE)),
    "a fan": of_shape(fork_join(12)),
    "layers": of_shape(_LAYERED),
    "layers, placed everywhere": of_shape(_LAYERED, mixed(_LAYERED)),
    "an irreducible block": of_shape(montage(4), mixed(montage(4))),
    "maps": Case(mapped, {"count": 15}, sum(item * item / 2 for item in range(15)), 1 + 15 + 3 + 15 + 1),
    "retries": Case(retried, {"x": 1}, 4, 3 + 1 + 3),
    "optional failures": Case(bypassed, {"x": 1}, [3, None, None], 1 + 3 + 1 + 1 + 1),
    "a failure": Case(failing, {"x": 1}, None, 2, FlowStatus.FAILED),
}
