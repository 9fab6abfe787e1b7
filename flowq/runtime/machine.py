"""The state machine of a run: events in, commands out. No clock, no I/O, no randomness.

The local engine runs it. The Lua scripts are its production form in Redis, and are held equal to it by tests that drive
both with the same events, replays and reorderings.

::

            waiting = 0            Claim              Complete
    PENDING ───────────▶ READY ───────────▶ RUNNING ───────────▶ COMPLETED
       ▲                   ▲                   │ Fail, Expire ──▶ FAILED
       │                   │                   │ Skip ──────────▶ SKIPPED
       │ Fail, with        └── Expire, Release ┤
       └ attempts left ────────────────────────┘    PENDING ────▶ UPSTREAM_FAILED, SKIPPED, CANCELLED: a required
         (then Due makes it READY)                                upstream ended so
    any of them ── Cancel, Overrun ──▶ CANCELLED

A *map* is claimed once, to open its items (Extend); it stays RUNNING until all of them are settled. Its required
downstream fails with the first failed item; its optional downstream waits for all. A map that fails before all its
items are open takes those that are along: they are CANCELLED.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from flowq.core.types import FINAL, FlowStatus, MissingReason, NodeStatus
from flowq.plan import Node, Plan
from flowq.runtime.events import (
    Announce,
    Cancel,
    Claim,
    Command,
    Complete,
    Due,
    End,
    Enqueue,
    Event,
    Expire,
    Extend,
    Fail,
    Fenced,
    NodeEvent,
    Overrun,
    Ref,
    Release,
    SetTimer,
    Skip,
    Stop,
)

P, READY, RUNNING = NodeStatus.PENDING, NodeStatus.READY, NodeStatus.RUNNING
COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED


# ── state ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(slots=True)
class NodeState:
    """What a run knows of one node (or item)."""

    status: NodeStatus = P
    waiting: int = 0
    """Upstreams that are not settled yet."""
    attempt: int = 0
    crashes: int = 0
    fence: int = 0
    """Of the claim that is valid now; 0: none."""
    reason: MissingReason | None = None
    """Why it did not complete."""
    total: int = -1
    """A map's number of items; -1: not known yet."""
    opened: int = 0
    settled: int = 0
    broken: NodeStatus | None = None
    """The first way, other than COMPLETED, in which an item ended; FAILED wins over SKIPPED."""


@dataclass(slots=True)
class RunState:
    """A run. ``apply`` changes it in place, because a copy would cost O(flow) per event; ``start`` makes it."""

    plan: Plan
    status: FlowStatus = FlowStatus.PENDING
    nodes: dict[Ref, NodeState] = field(default_factory=dict)
    remaining: int = 0
    """Nodes of the plan that are not settled; items count with their map."""
    bad_sinks: int = 0
    fence: int = 0
    """The last one given out."""

    def spec(self, ref: Ref) -> Node:
        return self.plan.nodes[ref.node]


def start(plan: Plan) -> tuple[RunState, list[Command]]:
    """Give a new run and its first commands."""
    state = RunState(plan, remaining=len(plan))
    commands: list[Command] = []
    for index, node in enumerate(plan.nodes):
        ref, waiting = Ref(index), len(node.edges)
        state.nodes[ref] = NodeState(P if waiting else READY, waiting)
        if not waiting:
            commands.append(Enqueue(ref))
    _end_if_done(state, commands)
    return state, commands


def apply(state: RunState, event: Event) -> list[Command]:
    """Change the state as the event says and give the commands that follow.

    What does not fit the state is late, repeated or forged, and changes nothing: an ended run, a node in another
    status, a fence that is no longer valid.
    """
    commands: list[Command] = []
    if state.status.is_final:
        return commands
    if isinstance(event, Cancel):
        _cut_short(state, FlowStatus.CANCELLED, commands)
    elif isinstance(event, Overrun):
        _cut_short(state, FlowStatus.FAILED, commands)
    elif (node := state.nodes.get(event.ref)) is not None:
        transition = TABLE.get((node.status, type(event)))
        if transition is not None and _holds(node, event):
            transition(state, node, event, commands)
            _end_if_done(state, commands)
    return commands


def _holds(node: NodeState, event: NodeEvent) -> bool:
    """Fence 0 is no claim's: a map whose items are all open has given its own up."""
    return not isinstance(event, Fenced) or event.fence == node.fence != 0


def _opens_map(state: RunState, ref: Ref) -> bool:
    return ref.item < 0 and state.spec(ref).is_map


def _claim(state: RunState, node: NodeState, event: Claim, commands: list[Command]) -> None:
    state.fence = max(event.fence or state.fence + 1, state.fence)
    node.status, node.fence = RUNNING, state.fence
    node.attempt += 1
    state.status = FlowStatus.RUNNING


def _complete(state: RunState, node: NodeState, event: Complete, commands: list[Command]) -> None:
    if not _opens_map(state, event.ref):  # a map completes through its items alone
        _settle(state, event.ref, COMPLETED, commands)


def _fail(state: RunState, node: NodeState, event: Fail, commands: list[Command]) -> None:
    failures = node.attempt - node.crashes
    if event.retry and failures < state.spec(event.ref).retry.max_attempts:
        node.status, node.fence = P, 0
        commands.append(SetTimer(event.ref, node.attempt, failures))
    else:
        _settle(state, event.ref, FAILED, commands)
        if event.timed_out:
            node.reason = MissingReason.TIMED_OUT


def _skip(state: RunState, node: NodeState, event: Skip, commands: list[Command]) -> None:
    _settle(state, event.ref, SKIPPED, commands)


def _extend(state: RunState, node: NodeState, event: Extend, commands: list[Command]) -> None:
    if not _opens_map(state, event.ref) or event.offset > node.opened:
        return
    if node.total < 0:
        node.total = event.total
    # A second expansion after a crash offers items again that are open already.
    for item in range(max(event.offset, node.opened), min(event.offset + event.count, node.total)):
        ref = Ref(event.ref.node, item)
        state.nodes[ref] = NodeState(READY)
        commands.append(Enqueue(ref))
        node.opened = item + 1
    if node.opened == node.total:
        node.fence = 0  # nobody needs to hold the map itself any longer
        if node.settled == node.total:
            _settle(state, event.ref, node.broken or COMPLETED, commands)


def _expire(state: RunState, node: NodeState, event: Expire, commands: list[Command]) -> None:
    node.crashes += 1
    if node.crashes >= state.spec(event.ref).max_crashes:
        _settle(state, event.ref, FAILED, commands)
    else:
        node.status, node.fence = READY, 0
        commands.append(Enqueue(event.ref))


def _release(state: RunState, node: NodeState, event: Release, commands: list[Command]) -> None:
    node.status, node.fence = READY, 0
    node.attempt -= 1
    commands.append(Enqueue(event.ref))


def _due(state: RunState, node: NodeState, event: Due, commands: list[Command]) -> None:
    if node.attempt == event.attempt and event.attempt > 0:
        node.status = READY
        commands.append(Enqueue(event.ref))


def _cut_short(state: RunState, status: FlowStatus, commands: list[Command]) -> None:
    for ref, node in state.nodes.items():
        _give_up(ref, node, commands)
    state.remaining = 0
    state.status = status
    commands.append(End(state.status))


def _give_up(ref: Ref, node: NodeState, commands: list[Command]) -> None:
    if node.status not in FINAL:
        if node.fence:
            commands.append(Stop(ref, node.fence))
        node.status, node.fence, node.reason = NodeStatus.CANCELLED, 0, MissingReason.CANCELLED
        commands.append(Announce(ref, NodeStatus.CANCELLED))


TABLE: dict[tuple[NodeStatus, type], Callable[..., None]] = {
    (READY, Claim): _claim,
    (RUNNING, Complete): _complete,
    (RUNNING, Fail): _fail,
    (RUNNING, Skip): _skip,
    (RUNNING, Extend): _extend,
    (RUNNING, Expire): _expire,
    (RUNNING, Release): _release,
    (P, Due): _due,
}
"""Every transition that an event can cause, by the status that it needs."""

CASCADE = {
    FAILED: NodeStatus.UPSTREAM_FAILED,
    NodeStatus.UPSTREAM_FAILED: NodeStatus.UPSTREAM_FAILED,
    SKIPPED: SKIPPED,
    NodeStatus.CANCELLED: NodeStatus.CANCELLED,
}
"""What becomes of a node whose required upstream ended so."""


def _settle(state: RunState, ref: Ref, status: NodeStatus, commands: list[Command]) -> None:
    """Settle a node and all that this decides: a map through its items, and downstream in a chain of consequences."""
    pending = deque([(ref, status)])
    while pending:
        ref, status = pending.popleft()
        node = state.nodes[ref]
        if node.status in FINAL:
            continue
        node.status, node.fence = status, 0
        node.reason = None if status is COMPLETED else MissingReason(status.value)
        commands.append(Announce(ref, status))
        if ref.item >= 0:
            pending.extend(_item_settled(state, Ref(ref.node), status))
            continue
        for item in range(node.opened if node.settled < node.opened else 0):
            _give_up(Ref(ref.node, item), state.nodes[Ref(ref.node, item)], commands)
        state.remaining -= 1
        if not state.plan.downstream[ref.node] and status not in (COMPLETED, SKIPPED):
            state.bad_sinks += 1
        for index, required in state.plan.downstream[ref.node]:
            downstream = state.nodes[Ref(index)]
            if downstream.status in FINAL:
                continue
            if required and status is not COMPLETED:
                pending.append((Ref(index), CASCADE[status]))
                continue
            downstream.waiting -= 1
            if downstream.waiting == 0:
                downstream.status = READY
                commands.append(Enqueue(Ref(index)))


def _item_settled(state: RunState, ref: Ref, status: NodeStatus) -> Iterator[tuple[Ref, NodeStatus]]:
    """Count an item, and give what its end settles: the map, and what requires the whole map."""
    node = state.nodes[ref]
    node.settled += 1
    if status is not COMPLETED:
        if node.broken is None:
            edges = state.plan.downstream[ref.node]
            yield from ((Ref(index), CASCADE[status]) for index, required in edges if required)
        if node.broken is None or status is FAILED:
            node.broken = status
    if node.settled == node.total:
        yield ref, node.broken or COMPLETED


def _end_if_done(state: RunState, commands: list[Command]) -> None:
    if state.remaining == 0 and not state.status.is_final:
        state.status = FlowStatus.FAILED if state.bad_sinks else FlowStatus.COMPLETED
        commands.append(End(state.status))
