"""What a retry must make anew, worked out naively: by closure over the plan's edges, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from flowq.core.types import NodeStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import RunState
from flowq.runtime.reopening import Reopened
from tests.property.choices import Choose, one_of, some_of

BAD = (NodeStatus.FAILED, NodeStatus.CANCELLED)


def choose_roots(plan: Plan, state: RunState, choose: Choose) -> list[Ref]:
    """Choose what a retry begins with: nothing, nodes, or items of maps."""
    match choose(4):
        case 0:
            return []
        case 1:
            bad = sorted(ref for ref, node in state.nodes.items() if node.status in BAD)
            return some_of(choose, bad, 2)
    return [one_of(choose, sorted(state.nodes))]


def downstream(plan: Plan, roots: Iterable[int]) -> set[int]:
    """Give these nodes and all that come after them."""
    found = set(roots)
    for index, node in enumerate(plan.nodes):  # upstreams come first
        if any(edge.upstream in found for edge in node.edges):
            found.add(index)
    return found


def check_reopened(
    plan: Plan, before: Mapping[Ref, tuple[Any, ...]], state: RunState, roots: list[Ref], opened: Reopened
) -> None:
    """Raise AssertionError unless exactly what was asked for is to run again.

    Args:
        before: the nodes as they were, as tuples that begin with the status.
    """
    begins = set(roots) or _bad(plan, before)
    again, items = _closure(plan, before, begins)
    while not roots and (more := _skipped_upstreams(plan, before, again, items)):
        begins |= more
        again, items = _closure(plan, before, begins)
    maps = {item.node for item in items}
    assert {*opened.anew} == {Ref(index) for index in again | maps} | items
    assert {*opened.dropped} == {ref for ref in before if ref.item >= 0 and ref.node in again}
    for ref in before.keys() - {*opened.anew, *opened.dropped}:
        now = state.nodes[ref]
        assert (now.status, now.attempt, now.crashes, now.reason) == _told(before[ref]), f"{ref} is kept"
    for index in again:
        node = state.nodes[Ref(index)]
        waits = sum(edge.upstream in again | maps for edge in plan.nodes[index].edges)
        expected = NodeStatus.PENDING if waits else NodeStatus.READY
        assert (node.status, node.waiting, node.attempt, node.crashes) == (expected, waits, 0, 0), Ref(index)
        assert (node.total, node.opened, node.settled, node.broken) == (-1, 0, 0, None), Ref(index)
    for item in items:
        node = state.nodes[item]
        assert (node.status, node.attempt, node.crashes) == (NodeStatus.READY, 0, 0), item
    for index in maps:
        node = state.nodes[Ref(index)]
        assert node.status is NodeStatus.RUNNING
        assert node.settled == node.total - len({item for item in items if item.node == index}), Ref(index)
    sources = {Ref(index) for index in again if not state.nodes[Ref(index)].waiting}
    assert {*opened.ready} == items | sources
    assert not state.status.is_final or not opened.anew


def _told(before: tuple[Any, ...]) -> tuple[Any, ...]:
    status, _waiting, attempt, crashes, _fence, reason, *_ = before
    return status, attempt, crashes, reason


def _bad(plan: Plan, before: Mapping[Ref, tuple[Any, ...]]) -> set[Ref]:
    """What failed by itself or was cancelled: of a map whose items were all open, its bad items."""
    found: set[Ref] = set()
    for index in range(len(plan)):
        node = before[Ref(index)]
        if node[0] in BAD:
            items = {ref for ref in before if ref.node == index and ref.item >= 0}
            bad = {ref for ref in items if before[ref][0] in BAD}
            found |= bad if bad and len(items) == _total(node) else {Ref(index)}
    return found


def _total(node: tuple[Any, ...]) -> int:
    total: int = node[6]
    return total


def _closure(plan: Plan, before: Mapping[Ref, tuple[Any, ...]], roots: set[Ref]) -> tuple[set[int], set[Ref]]:
    """The nodes that begin from nothing, and the items that do within a map that is kept."""
    items = {ref for ref in roots if ref.item >= 0}
    maps = {ref.node for ref in items}
    complete = {index for index in maps if _total(before[Ref(index)]) == before[Ref(index)][7]}
    after = downstream(plan, {ref.node for ref in roots}) - {ref.node for ref in roots}
    again = {ref.node for ref in roots if ref.item < 0} | (maps - complete) | after
    again |= downstream(plan, again)
    return again, {item for item in items if item.node not in again}


def _skipped_upstreams(plan: Plan, before: Mapping[Ref, tuple[Any, ...]], again: set[int], items: set[Ref]) -> set[Ref]:
    """What would keep something from running again: required upstreams that did not complete, and are kept."""
    reopened = again | {item.node for item in items}
    upstreams = {edge.upstream for index in again for edge in plan.nodes[index].edges if edge.required} - reopened
    return {Ref(index) for index in upstreams if before[Ref(index)][0] is not NodeStatus.COMPLETED}
