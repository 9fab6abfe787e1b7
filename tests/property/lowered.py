"""What a lowered plan makes Celery do, read from its documents alone, and whether that is what the plan's edges say.

Within a segment, what comes later in a chain begins when every task before it has ended; what stands side by side
begins together. Nothing here knows how regions are found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flowq.core.types import FlowType
from flowq.plan import JOIN, RESOLVED, EdgeKind, Lowering, Parallel, Plan, Region, Series, region_from_json
from flowq.plan.model import Edge, Node

PROMISED = 64_000
"""Bytes of a message."""

BYTES = 7_000
"""Per node and edge: what all messages of a run may have together."""


def graph(*upstreams: Sequence[int], inline: Sequence[int] = (), maps: Sequence[int] = ()) -> Plan:
    """Give a plan with these upstreams, node by node."""
    return Plan(
        tuple(
            Node(
                f"n{index}",
                "shop.orders:step",
                edges=tuple(Edge(upstream, True) for upstream in sorted(set(before))),
                placement=FlowType.INLINE if index in inline else FlowType.PROCESS,
                over=("input", "items") if index in maps else None,
            )
            for index, before in enumerate(upstreams)
        )
    )


def upstreams_of(plan: Plan) -> list[list[int]]:
    return [[edge.upstream for edge in node.edges] for node in plan]


def ancestors(upstreams: Sequence[Sequence[int]]) -> list[int]:
    """Give all that comes before each node, as bits."""
    found: list[int] = []
    for before in upstreams:
        bits = 0
        for upstream in before:
            bits |= found[upstream] | 1 << upstream
        found.append(bits)
    return found


def essential(upstreams: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Give, per node, the upstreams that it does not also come after by way of others: edge by edge."""
    found = []
    for node, before in enumerate(upstreams):
        others = [[*up] for up in upstreams[:node]]
        kept = [up for up in before if not any(_leads(others, up, other) for other in before if other != up)]
        found.append(tuple(sorted(kept)))
    return found


def _leads(upstreams: Sequence[Sequence[int]], start: int, end: int) -> bool:
    todo, seen = [end], set()
    while todo:
        node = todo.pop()
        if node == start:
            return True
        if node not in seen:
            seen.add(node)
            todo.extend(upstreams[node])
    return False


def segments_of(lowering: Lowering) -> list[Region]:
    """Give the segments as workers read them."""
    count = sum(name.startswith("s") for name in lowering.fields)
    return [region_from_json(json.loads(lowering.fields[f"s{index}"])) for index in range(count)]


def show(region: Region) -> str:
    """Write a region down: ``>`` is one after the other, ``|`` side by side, ``J`` a task that does nothing."""
    if isinstance(region, int):
        return "J" if region == JOIN else str(region)
    if isinstance(region, Series):
        return " > ".join(map(show, region.parts))
    return f"({' | '.join(map(show, region.parts))})"


def waits_of(region: Region) -> dict[int, int]:
    """Give, per node of a segment, all nodes that must have ended before Celery delivers it, as bits."""
    found: dict[int, int] = {}
    todo: list[tuple[Region, int]] = [(region, 0)]
    while todo:
        part, before = todo.pop()
        if isinstance(part, int):
            if part != JOIN:
                assert part not in found, f"{part} is there twice"
                found[part] = before
            continue
        for inner in part.parts:
            todo.append((inner, before))
            if isinstance(part, Series):
                before |= _bits(inner)
    return found


def check(plan: Plan, lowering: Lowering, *, chords: bool = True) -> None:
    """Raise AssertionError if a lowering says more or less than the plan's edges, or costs too much."""
    upstreams = upstreams_of(plan)
    inline = {index for index, node in enumerate(plan) if node.placement is FlowType.INLINE and node.edges}
    assert lowering.inline == inline
    segments = segments_of(lowering)
    waits = [waits_of(region) for region in segments]
    placed = [node for found in waits for node in found]
    assert sorted([*placed, *inline]) == list(range(len(plan))), "every node is in one place"
    for region in segments:
        _check_form(region, chords=chords)
    before = _cover(upstreams)
    _check_order(plan, before, waits, inline)
    _check_heads(lowering, before, waits)
    _check_edges(plan, lowering, before, waits, inline)
    assert all(segment.largest <= PROMISED for segment in lowering.segments)
    edges = sum(map(len, upstreams))
    assert sum(segment.bytes for segment in lowering.segments) <= BYTES * (len(plan) + edges)


def _cover(upstreams: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """As ``essential``, for large graphs."""
    behind = ancestors(upstreams)
    return [tuple(up for up in before if not any(behind[other] >> up & 1 for other in before)) for before in upstreams]


def _check_form(region: Region, *, chords: bool) -> None:
    """Whether Celery can count what a chord waits for: a branch by its last task."""
    assert not isinstance(region, Parallel), "nothing joins what stands side by side"
    todo: list[Region] = [region]
    while todo:
        part = todo.pop()
        if isinstance(part, int):
            continue
        todo.extend(part.parts)
        assert len(part.parts) > 1
        for inner in part.parts:
            assert type(inner) is not type(part), "a chain in a chain, or a group in a group"
        if isinstance(part, Series):
            for inner in part.parts[:-1]:
                assert not isinstance(inner, Parallel) or chords
                for branch in inner.parts if isinstance(inner, Parallel) else ():
                    assert not isinstance(branch, Series) or isinstance(branch.parts[-1], int)


def _check_order(
    plan: Plan, before: Sequence[Sequence[int]], waits: Sequence[dict[int, int]], inline: set[int]
) -> None:
    behind = ancestors(before)
    hosts = _hosts(before, inline)
    hosted = [0] * len(plan)
    for node in inline:
        for host in range(len(plan)):
            if hosts[node] >> host & 1:
                hosted[host] |= 1 << node
    for found in waits:
        for node, waited in found.items():
            assert not waited & ~behind[node], f"{node} waits in vain for {_listed(waited & ~behind[node])}"
            late = 0
            for host in _listed(waited):
                late |= hosted[host]
            assert not late & ~behind[node], f"{node} waits in vain for what runs inline: {_listed(late)}"
            if waited:
                needed = 0
                for upstream in before[node]:
                    needed |= hosts[upstream] if upstream in inline else 1 << upstream
                assert not needed & ~waited, f"{node} comes too early for {_listed(needed & ~waited)}"
                maps = [upstream for upstream in _listed(needed) if plan.nodes[upstream].is_map]
                assert not maps, f"{node} comes before the items of {maps}"


def _hosts(before: Sequence[Sequence[int]], inline: set[int]) -> list[int]:
    """Give, per inline node, those in whose tasks it may run, as bits."""
    found = [0] * len(before)
    for node in sorted(inline):
        for upstream in before[node]:
            found[node] |= found[upstream] if upstream in inline else 1 << upstream
    return found


def _check_heads(lowering: Lowering, before: Sequence[Sequence[int]], waits: Sequence[dict[int, int]]) -> None:
    for index, (segment, found) in enumerate(zip(lowering.segments, waits, strict=True)):
        heads = {node for node, waited in found.items() if not waited}
        assert heads == set(segment.heads)
        first, *others = (before[node] for node in heads)
        assert all(other == first for other in others), "a segment's heads are released by the same upstreams"
        assert (index in lowering.sources) == (first == ())
        for node in found:
            told = f"{index} {len(heads)}" if node in heads and first else None
            assert lowering.fields.get(str(node)) == told
    assert all(lowering.fields[str(node)] == "i" for node in lowering.inline)


def _check_edges(
    plan: Plan,
    lowering: Lowering,
    before: Sequence[Sequence[int]],
    waits: Sequence[dict[int, int]],
    inline: set[int],
) -> None:
    """Whether the kinds of edges are told as they are."""
    delivered = {node for found in waits for node, waited in found.items() if waited}
    assert lowering.edges.keys() == {(edge.upstream, index) for index, node in enumerate(plan) for edge in node.edges}
    for (upstream, node), kind in lowering.edges.items():
        kind = EdgeKind(kind.value)
        assert (kind is EdgeKind.IMPLIED) == (upstream not in before[node])
        if kind is not EdgeKind.IMPLIED:
            assert (kind is EdgeKind.INLINE) == (node in inline)
            assert (kind is EdgeKind.CANVAS) == (node in delivered)
            assert plan.nodes[upstream].is_map or kind is not EdgeKind.MAP


def resolved(lowering: Lowering) -> list[tuple[int, int]]:
    """Give the edges that no chain, group or chord expresses."""
    return [edge for edge, kind in lowering.edges.items() if kind in RESOLVED]


def _bits(region: Region) -> int:
    bits = 0
    todo: list[Any] = [region]
    while todo:
        part = todo.pop()
        if isinstance(part, int):
            bits |= 0 if part == JOIN else 1 << part
        else:
            todo.extend(part.parts)
    return bits


def _listed(bits: int) -> list[int]:
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found
