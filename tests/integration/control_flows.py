"""Flows that are cancelled, paused and retried in the middle; and what was seen of them."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FlowType, RetryPolicy, current_attempt, flow, task
from tests.conformance.engines.effects import note
from tests.integration.supervised_flows import Noted, Waits, starts


class Unwinds(Waits):
    """Writes down how it was stopped, and tidies up."""

    def work(self, input_data: dict[str, Any]) -> None:
        try:
            super().work(input_data)
        except BaseException as error:
            note(input_data["log"], "stopped", type(error).__name__)
            raise
        finally:
            note(input_data["log"], "tidied")


class Breaks(Noted):
    """Fails until the test has mended it: there is a file of that name then."""

    def work(self, input_data: dict[str, Any]) -> None:
        if not Path(f"{input_data['log']}.mended").exists():
            raise LookupError("not mended yet")


class Counts(BaseModel):
    """Gives one more than all its upstreams together."""

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> int:
        note(input_data["log"], "start", os.getpid())
        total: int = 1 + sum(dict(dependencies).values())
        return total


def row(held: Any, placement: FlowType = FlowType.PROCESS, **config: Any) -> Flow:
    """Give first ─▶ held ─▶ late ─▶ end, all of one placement; ``late`` can do without ``held``."""
    end = Flow(Counts(), FlowConfig(name="end", flow_type=placement))
    first = Flow(Counts(), FlowConfig(name="first", flow_type=placement))
    middle = Flow(held, FlowConfig(name="held", flow_type=placement, **config))
    late = Flow(Counts(), FlowConfig(name="late", flow_type=placement))
    for child in (first, middle, late):
        child.register_to(
            end,
            required_deps=[first.process_id] if child is middle else [],
            optional_deps=[middle.process_id] if child is late else [],
        )
    return end


def nested(held: Any) -> Flow:
    """Give the same inside a flow inside a flow."""
    outer = Flow(Counts(), FlowConfig(name="outer"))
    inner = Flow(Counts(), FlowConfig(name="inner"))
    row(held).register_to(inner)
    inner.register_to(outer)
    return outer


SOON = RetryPolicy(max_attempts=3, delay_s=0.4, backoff=1, jitter=0)


def diamond() -> Flow:
    """Give source ─▶ (good, bad) ─▶ join ─▶ end, and alone ─▶ end."""
    end = Flow(Counts(), FlowConfig(name="end"))
    made = {
        "source": Flow(Counts(), FlowConfig(name="source")),
        "good": Flow(Counts(), FlowConfig(name="good")),
        "bad": Flow(Breaks(), FlowConfig(name="bad")),
        "join": Flow(Counts(), FlowConfig(name="join")),
        "alone": Flow(Counts(), FlowConfig(name="alone")),
    }
    needs = {"source": [], "good": ["source"], "bad": ["source"], "join": ["good", "bad"], "alone": []}
    for name, child in made.items():
        child.register_to(end, required_deps=[made[need].process_id for need in needs[name]])
    return end


@task
def pages(count: int, log: str) -> list[int]:
    note(log, "start", os.getpid())
    return list(range(count))


@task
def measure(page: int, log: str) -> int:
    """Wait until the test lets this item go."""
    Waits().process({"log": log})
    return page * current_attempt().attempt


@task
def fragile(page: int, log: str) -> int:
    """Fail for the third item until the test has mended it."""
    note(log, "start", os.getpid())
    if page == 2 and not Path(f"{log}.mended").exists():
        raise LookupError("not mended yet")
    return page * 10


@task
def gather(sizes: list[int], log: str) -> int:
    note(log, "start", os.getpid())
    return sum(sizes)


@flow
def waiting_items(count: int, log: str) -> int:
    return gather(measure.map(pages(count, log), log=log), log)


@flow
def fragile_items(count: int, log: str) -> int:
    return gather(fragile.map(pages(count, log), log=log), log)


def counted(log: str, run: str) -> dict[str, int]:
    """Give how often each node of a run has begun."""
    return dict(Counter(seen.node for seen in starts(log, run)))
