"""The runs of a chaos: their graphs, made from a seed, and what must come of each, worked out without any engine."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeAlias

from flowq import Flow, FlowConfig, FlowType, RetryPolicy
from tests.chaos.flows import MAX_CRASHES, Work, core_of, map_flow, part_core

NODES = 20
"""Of every run, whatever its shape, as far as the shape allows."""

ALWAYS = 1_000_000
"""A node that fails so often never completes."""

DELAY_S = 0.2
"""Before the first retry; it doubles with each."""

COMPLETED, FAILED, SKIPPED, UPSTREAM_FAILED = "completed", "failed", "skipped", "upstream_failed"


@dataclass(frozen=True)
class Step:
    """A node as it is written."""

    path: str
    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    takes_ms: int = 20
    placement: FlowType = FlowType.PROCESS
    fails: int = 0
    skips: bool = False
    retries: int = 0
    pad: int = 0

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_spare(self) -> bool:
        """Whether its run is to complete without it."""
        return self.skips or self.fails > self.retries


@dataclass(frozen=True)
class Node:
    """What is known of a node before it runs; paths name nodes."""

    status: str = COMPLETED
    core: str = ""
    """Of its value, if it completes; empty: it has none of its own (a map's is the list of its items')."""
    required: tuple[str, ...] = ()
    """It starts when these have completed,"""
    optional: tuple[str, ...] = ()
    """and these have settled."""
    sees: Mapping[str, str] = field(default_factory=dict)
    """Its inputs by name: whose output each is. ``spread#2`` is an entry of a list."""
    has_body: bool = True
    is_fused: bool = False
    """It runs before its last upstream is recorded, within the same claim."""
    executions: int = 1
    """That it takes when nothing goes wrong."""
    max_attempts: int = 1
    delay_s: float = 0.0


@dataclass(frozen=True)
class Design:
    """A run."""

    run: str
    kind: str
    flow: Any
    """What is submitted: a Flow or a FunctionFlow."""
    nodes: Mapping[str, Node]
    status: str
    dispatch: str = "pull"
    cancel_after_s: float | None = None
    takes_s: float = 0.0
    """Its longest path."""


Steps: TypeAlias = list[Step]


def design(seed: int, index: int, run: str, lease_s: float, *, is_short: bool = False) -> Design:
    """Make the run of this number: the same for the same seed, whatever the other runs are.

    ``is_short``: none of its nodes is to be longer than a lease.
    """
    choose = random.Random(f"{seed} {index}")
    kind = KINDS[index % len(KINDS)]
    kind = "layered" if kind == "long" and is_short else kind
    dispatch = "canvas" if index % 5 == 4 else "pull"
    cancel_after_s = choose.uniform(0.1, 1.0) if index % 12 == 7 else None
    if kind == "map":
        flow, nodes = _map(choose)
        return Design(run, kind, flow, nodes, COMPLETED, dispatch, cancel_after_s)
    steps = _steps(kind, choose, lease_s)
    nodes = expected(steps)
    status = COMPLETED if nodes["end"].status == COMPLETED else FAILED
    return Design(run, kind, as_flow(steps), nodes, status, dispatch, cancel_after_s, longest_s(steps, nodes))


def _steps(kind: str, choose: random.Random, lease_s: float) -> Steps:
    match kind:
        case "layered":
            return _layered(choose)
        case "fork-join":
            middle = [f"part{i}" for i in range(NODES - 2)]
            return [
                _step(choose, "split"),
                *(_step(choose, name, required=("split",)) for name in middle),
                _step(choose, "merge", required=tuple(middle)),
            ]
        case "chain":
            return [_step(choose, f"n{i}", required=(f"n{i - 1}",) if i else (), most_ms=60) for i in range(NODES)]
        case "nested":
            return _nested(choose)
        case "optional":
            return _with_failures(choose)
        case "flaky":
            return _with_retries(choose)
        case "doomed":
            return _doomed(choose)
        case _:
            return _long(choose, lease_s)


KINDS = ("layered", "fork-join", "map", "optional", "chain", "layered", "flaky", "nested", "layered", "long", "doomed")
"""A prime number of them, so that each is dispatched both ways, and cancelled now and then."""


def _step(choose: random.Random, path: str, *, most_ms: int = 200, **more: Any) -> Step:
    placement = choose.choices([FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE], [70, 15, 15])[0]
    most_ms = min(most_ms, 30) if placement is FlowType.INLINE else most_ms
    takes_ms = min(most_ms, 5 + int(choose.expovariate(1 / 50)))
    pad = choose.choice([20_000, 60_000]) if choose.random() < 0.08 else 0
    return Step(path, **{"takes_ms": takes_ms, "placement": placement, "pad": pad, **more})


def _replace(step: Step, **more: Any) -> Step:
    return Step(**{**step.__dict__, **more})


def _layered(choose: random.Random) -> Steps:
    steps: Steps = []
    before: list[str] = []
    layer: list[str] = []
    for number in range(NODES):
        if layer and choose.random() < 0.35:
            before, layer = layer, []
        upstreams = set(choose.sample(before, min(len(before), choose.randint(1, 3))))
        if before and len(steps) > 3 and choose.random() < 0.2:
            upstreams.add(choose.choice([step.path for step in steps if step.path not in layer]))
        steps.append(_step(choose, f"n{number}", required=tuple(sorted(upstreams))))
        layer.append(f"n{number}")
    return steps


def _with_failures(choose: random.Random) -> Steps:
    """Some nodes fail or skip, and only optional edges lead away from them."""
    steps = _layered(choose)
    spare = set()
    for number in choose.sample(range(NODES), 5):
        spare.add(steps[number].path)
        ends = {"skips": True} if choose.random() < 0.3 else {"fails": ALWAYS, "retries": choose.randint(0, 1)}
        steps[number] = _replace(steps[number], **ends)
    return [
        _replace(
            step,
            required=tuple(path for path in step.required if path not in spare),
            optional=tuple(path for path in step.required if path in spare),
        )
        for step in steps
    ]


def _with_retries(choose: random.Random) -> Steps:
    steps = _layered(choose)
    for number in choose.sample(range(NODES), 6):
        steps[number] = _replace(steps[number], retries=3, fails=choose.randint(1, 2))
    return steps


def _doomed(choose: random.Random) -> Steps:
    """A node fails, and others need it: the run fails, by design."""
    steps = _layered(choose)
    number = choose.randint(1, NODES // 2)
    steps[number] = _replace(steps[number], fails=ALWAYS, retries=1)
    steps[-1] = _replace(steps[-1], required=tuple(sorted({*steps[-1].required, steps[number].path})))
    return steps


def _long(choose: random.Random, lease_s: float) -> Steps:
    """Two nodes take longer than a lease."""
    steps = _layered(choose)
    for number in choose.sample(range(NODES), 2):
        kind = choose.choice([FlowType.PROCESS, FlowType.THREAD])
        steps[number] = _replace(steps[number], takes_ms=int(lease_s * choose.uniform(1100, 1300)), placement=kind)
    return steps


def _nested(choose: random.Random) -> Steps:
    """Two groups, one after the other; each has a processor of its own that joins it."""
    steps = [_step(choose, f"n{i}") for i in range(3)]
    before = tuple(step.path for step in steps)
    for group in ("g", "h"):
        inner = [f"{group}/{group}{i}" for i in range(7)]
        for number, path in enumerate(inner):
            upstreams = choose.sample(inner[:number], min(number, choose.randint(0, 2)))
            steps.append(_step(choose, path, required=tuple(sorted(upstreams))))
        # INLINE is a leaf's placement.
        steps.append(_step(choose, group, required=before, placement=FlowType.PARALLEL))
        before = (group,)
    steps.append(_step(choose, "last", required=("h",)))
    return steps


def as_flow(steps: Steps) -> Flow:
    """Write the steps with Flow and register_to; the parent gathers what all of them gave."""
    flows: dict[str, Flow] = {"end": Flow(None, FlowConfig(name="end"))}
    for step in steps:
        body = {name: getattr(step, name) for name in ("takes_ms", "fails", "skips", "pad")}
        config = FlowConfig(
            name=step.name,
            flow_type=step.placement,
            max_crashes=MAX_CRASHES,
            retries=RetryPolicy(max_attempts=step.retries + 1, delay_s=DELAY_S, backoff=2, jitter=0),
        )
        flows[step.path] = Flow(Work(**body), config)
    for step in steps:
        flows[step.path].register_to(
            flows[step.path.rpartition("/")[0] or "end"],
            required_deps=[flows[path].process_id for path in step.required],
            optional_deps=[flows[path].process_id for path in step.optional],
            optional=step.is_spare and "end" not in step.path and _only_optional(step, steps),
        )
    return flows["end"]


def _only_optional(step: Step, steps: Steps) -> bool:
    return not any(step.path in other.required for other in steps)


def expected(steps: Steps) -> dict[str, Node]:
    """Work out what must come of the steps. They are in an order in which they could run, but for groups' own steps."""
    of = {step.path: step for step in steps}
    nodes: dict[str, Node] = {}

    def visit(step: Step) -> Node:
        if step.path not in nodes:
            nodes[step.path] = _node(step, of, {path: visit(of[path]) for path in _upstreams(step, of)})
        return nodes[step.path]

    for step in steps:
        visit(step)
    outer = [step for step in steps if "/" not in step.path]
    bad = [step.path for step in outer if nodes[step.path].status != COMPLETED]
    spare = {step.path for step in outer if step.is_spare and _only_optional(step, steps)}
    nodes["end"] = Node(
        status=UPSTREAM_FAILED if set(bad) - spare else COMPLETED,
        required=tuple(step.path for step in outer if step.path not in spare),
        optional=tuple(spare),
        has_body=False,
    )
    return nodes


def longest_s(steps: Steps, nodes: Mapping[str, Node]) -> float:
    """Give how long the nodes of the longest path take together."""
    takes = {step.path: step.takes_ms / 1000 for step in steps}

    @cache
    def until(path: str) -> float:
        node = nodes[path]
        return takes.get(path, 0.0) + max(
            (until(upstream) for upstream in (*node.required, *node.optional)), default=0.0
        )

    return until("end")


def _upstreams(step: Step, of: Mapping[str, Step]) -> list[str]:
    """Give all nodes that a step comes after: those it names, its children, and those that its group comes after."""
    group = step.path.rpartition("/")[0]
    children = [path for path in of if path.rpartition("/")[0] == step.path]
    return [*step.required, *step.optional, *children, *(_upstreams_of_group(group, of) if group else ())]


def _upstreams_of_group(group: str, of: Mapping[str, Step]) -> list[str]:
    return list(of[group].required)


def _node(step: Step, of: Mapping[str, Step], upstreams: Mapping[str, Node]) -> Node:
    required = tuple(path for path in upstreams if path not in step.optional)
    group = step.path.rpartition("/")[0]
    gates = set(_upstreams_of_group(group, of)) if group else set()
    sees = {of[path].name: path for path in upstreams if path not in gates}
    failures = min(step.fails, step.retries + 1)
    status, core = COMPLETED, ""
    if any(upstreams[path].status != COMPLETED for path in required):
        status, failures = UPSTREAM_FAILED, -1
    elif step.skips:
        status = SKIPPED
    elif step.fails > step.retries:
        status, failures = FAILED, step.retries
    else:
        core = core_of(step.path, {name: upstreams[path].core or None for name, path in sees.items()})
    return Node(
        status=status,
        core=core,
        required=required,
        optional=step.optional,
        sees=sees,
        # Of a group's nodes, only those that come after no other one wait for what the group comes after.
        is_fused=step.placement is FlowType.INLINE and len(set(upstreams) - gates or gates) == 1,
        executions=failures + 1,
        max_attempts=step.retries + 1,
        delay_s=DELAY_S,
    )


def _map(choose: random.Random) -> tuple[Any, dict[str, Node]]:
    count = NODES - 3
    placement = choose.choice([FlowType.PROCESS, FlowType.PROCESS, FlowType.THREAD])
    items = [f"item[{index}]" for index in range(count)]
    cores = [core_of(path, {"part": part_core(index)}) for index, path in enumerate(items)]
    nodes = {
        "spread": Node(core=part_core(0)),
        "item": Node(required=("spread",), has_body=False),
        "gather": Node(
            core=core_of("gather", {str(index): core for index, core in enumerate(cores)}),
            required=tuple(items),
            sees={str(index): path for index, path in enumerate(items)},
        ),
    }
    for index, path in enumerate(items):
        nodes[path] = Node(core=cores[index], required=("spread",), sees={"part": f"spread#{index}"})
    return map_flow(count, 5 + int(choose.expovariate(1 / 60)), placement), nodes
