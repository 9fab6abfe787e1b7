"""What must hold of a run in which somebody was killed: seen from its result, its events and the bodies' own notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from flowq import FlowHandle, FlowResult, FlowStatus
from flowq.core.types import NodeStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.missing import label
from flowq.runtime.state import State
from tests.chaos.points.passing import CHILD, TREE
from tests.chaos.points.shapes import Drawn
from tests.conformance.engines.effects import by_node

CRASHES = 2
"""So many attempts of one node a single kill may count as crashed: the killed one, and one that was given out again
while what was lost with Redis came back."""


def violations(shape: Drawn, handle: FlowHandle, result: FlowResult, log: str, state: State, victim: str) -> list[str]:
    """Give what is wrong with a run that has ended."""
    return [
        *wrong_result(shape, result),
        *_wrong_events(result, state, handle.run_id),
        *_wrong_effects(shape, result, log, victim),
        *_wrong_attempts(shape, handle, state),
    ]


def extra_starts(shape: Drawn, run: str, log: str) -> int:
    """Count how many bodies began beyond what the drawing says."""
    found = by_node(log, run, "start")
    return sum(max(0, len(found.get(name, ())) - count) for name, count in shape.starts.items())


def wrong_result(shape: Drawn, result: FlowResult) -> Iterator[str]:
    """Give where a result is not what the drawing says."""
    if result.status is not shape.status:
        yield f"the run is {result.status}, not {shape.status}: {result.error}"
    if result.output != shape.output:
        yield f"its output is {result.output!r:.200}, not {shape.output!r:.200}"
    found = {name: node.status for name, node in result.nodes.items()}
    for name in found.keys() | shape.nodes.keys():
        if found.get(name) is not shape.nodes.get(name):
            yield f"{name} is {found.get(name)}, not {shape.nodes.get(name)}"


def _wrong_events(result: FlowResult, state: State, run: str) -> Iterator[str]:
    entries = list(state.told(run))
    plan = plan_of(state, run)
    ends = Counter(_label(plan, key) for key, status, *_ in entries if key != "run" and NodeStatus(status).is_final)
    for name, node in result.nodes.items():
        if ends[name] != int(node.status.is_final):
            yield f"{name} is {node.status}, and has {ends[name]} terminal events"
    yield from wrong_end(result.status, [status for key, status, *_ in entries if key == "run"])


def wrong_end(status: FlowStatus, events: list[str]) -> Iterator[str]:
    """A run ends once; what else may happen to it is no end."""
    ends = [event for event in events if event in set(FlowStatus) and FlowStatus(event).is_final]
    if ends != [str(status)]:
        yield f"the run is {status}, and its own events are {events}"


def _wrong_effects(shape: Drawn, result: FlowResult, log: str, victim: str) -> Iterator[str]:
    starts, ends = by_node(log, result.run_id, "start"), by_node(log, result.run_id, "end")
    for name in shape.starts:
        if result.nodes[name].status is NodeStatus.COMPLETED and not ends.get(name):
            yield f"{name} has completed, and its body has never ended"
    for name in starts.keys() - shape.starts.keys():
        yield f"{name} has run, and must not"
    extra = extra_starts(shape, result.run_id, log)
    most = max(2, shape.holds) if victim in (CHILD, TREE) else len(shape.starts)
    if extra > most:
        yield f"{extra} bodies began more often than they must, and one kill explains {most}"


def _wrong_attempts(shape: Drawn, handle: FlowHandle, state: State) -> Iterator[str]:
    run = handle.run_id
    plan = plan_of(state, run)
    keys = [key.decode() for key in state.client.hkeys(state.keys.nodes(run))]
    for key, record in zip(keys, state.records(run, keys), strict=True):
        if record is None:
            continue
        failures = record.attempt - record.crashes
        if failures > shape.attempts or record.crashes > CRASHES:
            yield f"{_label(plan, key)} is in attempt {record.attempt}, of which {record.crashes} have crashed"


def plan_of(state: State, run: str) -> Plan:
    return state.plan(state.head(run)["plan"])


def _label(plan: Plan, key: str) -> Any:
    return label(plan, Ref.parse(key))
