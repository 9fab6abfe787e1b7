"""Flows within flows, in both forms, and steps that note when they ran."""

from __future__ import annotations

import time
from typing import Any

from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FlowType, flow, optional, task
from tests.conformance.engines.effects import note


class Noted(BaseModel):
    """Notes its start and its end, and gives the names of what it depended on."""

    takes_s: float = 0.0
    fails: bool = False

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> dict[str, Any]:
        note(input_data["log"], "start")
        time.sleep(self.takes_s)  # long enough that a wrong order would show
        note(input_data["log"], "end")
        if self.fails:
            raise ValueError("told to fail")
        return {"upstreams": sorted(dependencies)}


def noted(name: str, takes_s: float = 0.03, fails: bool = False) -> Flow:
    return Flow(Noted(takes_s=takes_s, fails=fails), FlowConfig(name=name))


def group(name: str, flow_type: FlowType = FlowType.PARALLEL) -> Flow:
    return Flow(Noted(), FlowConfig(name=name, flow_type=flow_type))


def gather(name: str, flow_type: FlowType = FlowType.PARALLEL) -> Flow:
    return Flow(None, FlowConfig(name=name, flow_type=flow_type))


@task
def stamp(log: str, value: int = 0) -> int:
    note(log, "start")
    time.sleep(0.03)
    note(log, "end")
    return value


@task
def stamp_and_fail(log: str) -> int:
    note(log, "start")
    note(log, "end")
    raise ValueError("told to fail")


@task
def add(first: int, second: int) -> int:
    return first + second


@flow
def ordered(log: str) -> int:
    early = stamp.options(name="early")(log, 1)
    other = stamp.options(name="other")(log, 2)
    return stamp.options(name="late")(log, 3, after=[early, other])


@flow
def ordered_after_a_failure(log: str) -> int:
    bad = stamp_and_fail(log)
    return stamp.options(name="late")(log, 3, after=optional(bad))


@flow
def ordered_after_a_required_failure(log: str) -> int:
    bad = stamp_and_fail(log)
    return stamp.options(name="late")(log, 3, after=[bad])


@flow
def inner(log: str, value: int) -> int:
    return add(stamp.options(name="left")(log, value), stamp.options(name="right")(log, 10))


@flow
def outer(log: str, value: int) -> int:
    first = inner(log, value)
    second = inner(log, first)
    return add(first, second)


@flow
def gated(log: str) -> int:
    early = stamp.options(name="early")(log, 1)
    return inner(log, 5, after=[early])


@flow
def inner_side(log: str) -> int:
    """Has a branch that its output does not read."""
    stamp.options(name="side")(log)
    return stamp.options(name="main")(log, 4)


@flow
def waits_for_the_whole_of_a_nested_flow(log: str) -> int:
    nested = inner_side(log)
    return stamp.options(name="late")(log, 1, after=[nested])


@flow
def inner_that_fails(log: str) -> int:
    return add(stamp_and_fail(log), 1)


@flow
def optional_nested(log: str) -> int:
    return stamp.options(name="late")(log, 8, after=[optional(inner_that_fails(log))])


@flow
def several_outputs(log: str, value: int) -> dict[str, Any]:
    first = stamp.options(name="first")(log, value)
    second = stamp.options(name="second")(log, 2)
    return {"first": first, "both": [first, second], "constant": 5, "input": value}
