"""What a retry makes anew of an ended run: the chosen nodes and all that is downstream of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from flowq.core.types import FINAL, FlowStatus, NodeStatus
from flowq.runtime.events import Ref
from flowq.runtime.machine import NodeState, RunState

UNFINISHED = (NodeStatus.FAILED, NodeStatus.CANCELLED)
"""What a retry without a choice begins with; what these have kept from running is downstream of them."""


class Reopened(NamedTuple):
    """What a retry changes; all other results are kept."""

    anew: list[Ref]
    """Nodes and items that stand otherwise now."""
    dropped: list[Ref]
    """Items of maps that begin from nothing."""
    ready: list[Ref]
    """What may be claimed now, in the plan's order."""


def reopen(state: RunState, roots: Iterable[Ref] = ()) -> Reopened:
    """Open an ended run again, in place.

    Args:
        state: of an ended run.
        roots: nodes and items to begin with; none: those that failed or were cancelled. An item brings its map along,
            which keeps its other items.
    """
    again, items = _chosen(state, set(roots) or _unfinished(state))
    dropped = [Ref(index, item) for index in again for item in range(state.nodes[Ref(index)].opened)]
    for ref in dropped:
        del state.nodes[ref]
    for index in again:
        state.nodes[Ref(index)] = NodeState()
    for ref in items:
        state.nodes[ref] = NodeState(NodeStatus.READY)
    for index in {ref.node for ref in items}:
        _open_map(state, index)
    reopened = again | {ref.node for ref in items}
    for index in again:
        node = state.nodes[Ref(index)]
        node.waiting = sum(edge.upstream in reopened for edge in state.plan.nodes[index].edges)
        node.status = NodeStatus.PENDING if node.waiting else NodeStatus.READY
    if reopened:
        state.status = FlowStatus.RUNNING
        state.remaining = len(reopened)
        kept = (state.nodes[Ref(sink)].status for sink in state.plan.sinks if sink not in reopened)
        state.bad_sinks = sum(status not in (NodeStatus.COMPLETED, NodeStatus.SKIPPED) for status in kept)
    ready = [*items, *(Ref(index) for index in again if not state.nodes[Ref(index)].waiting)]
    return Reopened(sorted({*items, *map(Ref, reopened)}), sorted(dropped), sorted(ready))


def blockers(state: RunState, roots: Iterable[Ref]) -> list[Ref]:
    """Give the required upstreams that did not complete and would not run again: what needs them could not start."""
    again, items = _chosen(state, set(roots))
    reopened = again | {ref.node for ref in items}
    upstreams = {edge.upstream for index in again for edge in state.plan.nodes[index].edges if edge.required}
    bad = (index for index in upstreams - reopened if state.nodes[Ref(index)].status is not NodeStatus.COMPLETED)
    return [Ref(index) for index in sorted(bad)]


def _unfinished(state: RunState) -> set[Ref]:
    """Find what has failed by itself or was cancelled; of a map that was open, its items."""
    found: set[Ref] = set()
    for ref, node in state.nodes.items():
        if ref.item >= 0 or node.status not in UNFINISHED:
            continue
        bad = [Ref(ref.node, item) for item in range(node.opened)]
        bad = [item for item in bad if state.nodes[item].status in UNFINISHED] if node.opened == node.total else []
        found.update(bad or [ref])
    # What was skipped is no result: where it would keep something from running again, it is asked anew.
    while upstreams := blockers(state, found):
        found.update(upstreams)
    return found


def _chosen(state: RunState, roots: set[Ref]) -> tuple[set[int], set[Ref]]:
    """Give the nodes that begin from nothing, and the items that do while their map is kept."""
    maps = {ref.node for ref in roots if ref.item >= 0}
    half_open = {index for index in maps if state.nodes[Ref(index)].opened != state.nodes[Ref(index)].total}
    again = {ref.node for ref in roots if ref.item < 0} | half_open
    todo = [*again, *maps]
    while todo:
        for index, _ in state.plan.downstream[todo.pop()]:
            if index not in again:
                again.add(index)
                todo.append(index)
    return again, {ref for ref in roots if ref.item >= 0 and ref.node not in again}


def _open_map(state: RunState, index: int) -> None:
    """Let a map wait for its items again."""
    node = state.nodes[Ref(index)]
    ends = [state.nodes[Ref(index, item)].status for item in range(node.opened)]
    bad = [status for status in ends if status in FINAL and status is not NodeStatus.COMPLETED]
    node.status, node.fence, node.reason = NodeStatus.RUNNING, 0, None
    node.settled = sum(status in FINAL for status in ends)
    worst = (NodeStatus.FAILED, NodeStatus.CANCELLED, NodeStatus.SKIPPED)
    node.broken = next((status for status in worst if status in bad), None)
