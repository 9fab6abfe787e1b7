"""The flows whose workers are killed, and what must come of each, worked out in plain Python.

Every body notes its start and its end, passes a point at both, and gives a digest of its name and its inputs.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from typing import Any, NamedTuple

from pydantic import BaseModel

from flowq import (
    DependencyData,
    Flow,
    FlowConfig,
    FlowStatus,
    FlowType,
    NodeStatus,
    RetryPolicy,
    current_attempt,
    flow,
    task,
)
from tests.chaos.points.passing import passes
from tests.conformance.engines.effects import by_node, effects, note
from tests.conformance.engines.shapes import digest

PROCESS, THREAD, INLINE = FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE
END = "end"
ITEMS = [3, 1, 4, 1, 5]
MEET_S = 20.0


class Step(NamedTuple):
    """A node as drawn."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    fails: int = 0
    """So many first attempts raise, of at most ``MOST``."""
    placement: FlowType = PROCESS
    group: str = ""
    """The flow that it is a child of; that one runs after all its children."""
    by_hand: bool = False
    """It is not tried again by itself: somebody retries its run."""


MOST = 4
ALWAYS = 99
RETRY = RetryPolicy(max_attempts=MOST, delay_s=0.05, backoff=2, jitter=0)
ONCE = RetryPolicy(max_attempts=1)


class Drawn(NamedTuple):
    """A flow and what must come of it."""

    make: Callable[[str], Any]
    """Gives the flow; the text makes its plan one of its own."""
    status: FlowStatus
    output: Any
    nodes: Mapping[str, NodeStatus]
    starts: Mapping[str, int]
    """How often each body begins if nothing is killed."""
    attempts: int = 1
    """How many attempts of a node may fail."""
    holds: int = 1
    """How many bodies one killed process may have to run again: those of one claim, and of all its threads."""
    dispatch: str = "pull"


class Failing(Exception):
    """What nodes that fail by design raise."""


class Point(BaseModel):
    """The body of a node."""

    name: str
    fails: int = 0
    by_hand: bool = False
    salt: str = ""

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> str:
        def body() -> str:
            info = current_attempt()
            attempt = info.attempt
            if self.by_hand:  # attempts are counted anew in a run that is retried
                attempt = len(by_node(input_data["log"], info.run_id, "start")[info.node])
            if attempt <= self.fails:
                raise Failing(f"attempt {attempt}")
            return digest(self.name, {name: str(value) for name, value in dependencies.items()})

        found: str = noted(body, input_data["log"], input_data["takes_s"])
        return found


def noted(body: Callable[[], Any], log: str, takes_s: float) -> Any:
    """Run a body between its two points, and note its start and its end."""
    passes("body:before")
    note(log, "start")
    time.sleep(takes_s)  # what workers and the fleet's keeper do meanwhile is to be met, too
    value = body()
    note(log, "end")
    passes("body:after")
    return value


def drawn(steps: Mapping[str, Step], **more: Any) -> Drawn:
    """Make a drawing a flow whose parent gathers what all nodes gave, and evaluate it."""
    statuses, values = _evaluate(steps)
    top = [name for name, step in steps.items() if not step.group]
    bad = {name for name in steps if statuses[name] is not NodeStatus.COMPLETED}

    def make(salt: str) -> Flow:
        flows = {
            name: Flow(
                Point(name=name, fails=step.fails, by_hand=step.by_hand, salt=salt),
                FlowConfig(
                    name=name,
                    flow_type=step.placement,
                    retries=RETRY if 0 < step.fails < MOST and not step.by_hand else ONCE,
                ),
            )
            for name, step in steps.items()
        }
        end = Flow(None, FlowConfig(name=END))
        for name, step in steps.items():
            flows[name].register_to(
                flows[step.group] if step.group else end,
                required_deps=[flows[upstream].process_id for upstream in step.required],
                optional_deps=[flows[upstream].process_id for upstream in step.optional],
                optional=name in bad,
            )
        return end

    path = {name: f"{step.group}/{name}" if step.group else name for name, step in steps.items()}
    nodes = {path[name]: status for name, status in statuses.items()} | {END: NodeStatus.COMPLETED}
    starts = {
        path[name]: 1 if step.fails >= MOST else step.fails + 1
        for name, step in steps.items()
        if statuses[name] is not NodeStatus.UPSTREAM_FAILED
    }
    output = {name: values.get(name) for name in top}
    return Drawn(make, FlowStatus.COMPLETED, output, nodes, starts, **more)


def _evaluate(steps: Mapping[str, Step]) -> tuple[dict[str, NodeStatus], dict[str, str]]:
    """Say how every node ends, and what those give that complete: one after the other, without any engine."""
    children = {name: tuple(other for other, step in steps.items() if step.group == name) for name in steps}
    required = {name: step.required + children[name] for name, step in steps.items()}
    order = TopologicalSorter({name: required[name] + step.optional for name, step in steps.items()}).static_order()
    statuses: dict[str, NodeStatus] = {}
    values: dict[str, str] = {}
    for name in order:
        step = steps[name]
        if any(statuses[upstream] is not NodeStatus.COMPLETED for upstream in required[name]):
            statuses[name] = NodeStatus.UPSTREAM_FAILED
        elif step.fails >= MOST:
            statuses[name] = NodeStatus.FAILED
        else:
            statuses[name] = NodeStatus.COMPLETED
            values[name] = digest(name, {up: str(values.get(up)) for up in required[name] + step.optional})
    return statuses, values


def chain(length: int = 7) -> dict[str, Step]:
    return {f"n{i}": Step((f"n{i - 1}",) if i else ()) for i in range(length)}


def fork_join(width: int = 5, placement: FlowType = PROCESS) -> dict[str, Step]:
    parts = tuple(f"part{i}" for i in range(width))
    return {"split": Step(), **{part: Step(("split",), placement=placement) for part in parts}, "merge": Step(parts)}


def layered(seed: int = 4) -> dict[str, Step]:
    """Layers of two or three with edges of both kinds; a node in the middle fails."""
    choose = random.Random(seed)
    steps: dict[str, Step] = {}
    before: list[str] = []
    for layer in range(4):
        names = [f"l{layer}n{i}" for i in range(choose.choice((2, 3)))]
        for name in names:
            upstreams = choose.sample(before, min(len(before), choose.choice((1, 2, 2))))
            kinds = [choose.random() < 0.6 for _ in upstreams]
            steps[name] = Step(
                tuple(upstream for upstream, is_required in zip(upstreams, kinds, strict=True) if is_required),
                tuple(upstream for upstream, is_required in zip(upstreams, kinds, strict=True) if not is_required),
            )
        before = before[-2:] + names
    steps["l1n0"] = steps["l1n0"]._replace(fails=ALWAYS)
    steps["after"] = Step(("l1n0", "l2n0"))  # never runs
    steps["despite"] = Step(("l2n1",), ("l1n0",))
    return steps


def nested() -> dict[str, Step]:
    """Two groups one after the other; what is inline in them runs in the claim of what was before it."""
    return {
        "first": Step(placement=INLINE),
        "load": Step(group="first"),
        "clean": Step(("load",), placement=INLINE, group="first"),
        "check": Step(("clean",), placement=INLINE, group="first"),
        "second": Step(("first",)),
        "left": Step(group="second"),
        "right": Step(group="second"),
        "both": Step(("left", "right"), placement=INLINE, group="second"),
    }


def retries() -> dict[str, Step]:
    return {
        "once": Step(),
        "twice": Step(("once",), fails=1),
        "thrice": Step(("once",), fails=2),
        "inline": Step(("twice",), fails=1, placement=INLINE),
        "last": Step(("thrice", "inline")),
    }


@task
def numbers(log: str, takes_s: float) -> list[int]:
    found: list[int] = noted(lambda: ITEMS, log, takes_s)
    return found


@task
def squared(item: int, log: str, takes_s: float) -> int:
    found: int = noted(lambda: item * item, log, takes_s)
    return found


@task
def total(values: list[int], log: str, takes_s: float) -> int:
    found: int = noted(lambda: sum(values), log, takes_s)
    return found


@flow
def squares(log: str, takes_s: float) -> int:
    return total(squared.map(numbers(log, takes_s), log, takes_s), log, takes_s)


def _squares(salt: str) -> Any:
    return squares


_BODIES = {"numbers": 1, "total": 1, **{f"squared[{i}]": 1 for i in range(len(ITEMS))}}
MAP = Drawn(
    make=_squares,
    status=FlowStatus.COMPLETED,
    output=sum(item * item for item in ITEMS),
    nodes=dict.fromkeys([*_BODIES, "squared"], NodeStatus.COMPLETED),
    starts=_BODIES,
)

SHAPES: Mapping[str, Drawn] = {
    "chain": drawn(chain()),
    "fork-join": drawn(fork_join()),
    "layered": drawn(layered()),
    "map": MAP,
    "nested": drawn(nested(), holds=3),
    "retries": drawn(retries(), attempts=MOST),
    "threads": drawn(fork_join(placement=THREAD), holds=6),
    "canvas fork-join": drawn(fork_join(), dispatch="canvas"),
    "canvas layered": drawn(layered(), dispatch="canvas"),
    "canvas retries": drawn(retries(), attempts=MOST, dispatch="canvas"),
    "canvas map": MAP._replace(dispatch="canvas"),
    "canvas nested": drawn(nested(), holds=3, dispatch="canvas"),
}

MENDED = "mended by hand"
TO_MEND = {"before": Step(), "broken": Step(("before",), fails=1, by_hand=True), "behind": Step(("broken",))}
ERRANDS_ALONE: Mapping[str, Drawn] = {MENDED: drawn(TO_MEND)}
"""What is met by producers only."""


class Meets(BaseModel):
    """Ends when so many nodes of its run have begun: only if so many slots are at work."""

    others: int

    def process(self, input_data: dict[str, Any]) -> str:
        note(input_data["log"], "start")
        run, deadline, pause = current_attempt().run_id, time.monotonic() + MEET_S, threading.Event()
        while len({effect.node for effect in effects(input_data["log"], run)}) < self.others:
            if time.monotonic() > deadline:
                raise TimeoutError("the other slots do nothing")
            pause.wait(0.005)
        return "met"


def meeting(count: int) -> Flow:
    """Give a flow that ends only if so many slots work on it at once."""
    end = Flow(None, FlowConfig(name=END))
    for i in range(count):
        Flow(Meets(others=count), FlowConfig(name=f"m{i}")).register_to(end)
    return end


def bystander() -> Flow:
    """Give a flow of one node."""
    return Flow(Point(name="bystander"), FlowConfig(name="bystander"))
