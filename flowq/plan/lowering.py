"""The lowering of a plan to Celery's own terms, for those who dispatch it as a canvas: pure, nothing of Celery in it.

::

    Plan ─▶ cover (without edges that say it twice) ─▶ regions ─▶ cut where messages grow too large ─▶ segments

A *segment* is what is published at once: a chain, group or chord of nodes, nested at will. Within it Celery delivers
every node when all that comes before it has ended. Its *heads*, the nodes that it begins with, are released by the
run's state: the worker that settles their last upstream publishes the segment.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any

from flowq.core.types import FlowType
from flowq.plan.cutting import ENVELOPE, Cutter
from flowq.plan.model import Plan
from flowq.plan.order import cover, invert
from flowq.plan.regions import (
    Parallel,
    Region,
    Series,
    fold,
    heads_of,
    in_parallel,
    in_series,
    parts_of,
    regions,
    to_json,
)


class EdgeKind(Enum):
    """How the end of an upstream reaches a node."""

    CANVAS = "canvas"
    """Celery delivers the node."""
    INLINE = "inline"
    """The worker that settles the upstream runs the node itself, before its task returns."""
    IMPLIED = "implied"
    """Another upstream of the node comes after this one."""
    CONTINUATION = "continuation"
    """The run's state releases the next segment, which was cut off for the size of messages."""
    RESOLVER = "resolver"
    """The run's state releases the node: no chain, group or chord says this without a further barrier."""
    MAP = "map"
    """The run's state releases the node: how many items a map has is not known before it runs."""


RESOLVED = (EdgeKind.RESOLVER, EdgeKind.MAP)
"""The edges that Celery's primitives cannot express."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes that are published together."""

    region: Region
    heads: tuple[int, ...]
    messages: int
    bytes: int
    """Of all its messages, about."""
    largest: int
    """Bytes of its largest message, about."""


@dataclass(frozen=True)
class Lowering:
    """A plan as Celery's canvas."""

    segments: tuple[Segment, ...]
    inline: frozenset[int]
    """The nodes that have no message: they run in the task of whoever settles their last upstream."""
    sources: tuple[int, ...]
    """The segments that a run begins with."""
    edges: dict[tuple[int, int], EdgeKind]
    """By upstream and node."""

    @cached_property
    def fields(self) -> dict[str, str]:
        """What the scripts read of it: ``i`` for an inline node, "segment heads" for a head, and segments as JSON."""
        found = {str(node): "i" for node in self.inline}
        for index, segment in enumerate(self.segments):
            found |= {str(node): f"{index} {len(segment.heads)}" for node in segment.heads if index not in self.sources}
            found[f"s{index}"] = json.dumps(to_json(segment.region), separators=(",", ":"))
        return found

    @cached_property
    def starts(self) -> list[Region]:
        """The regions that a run begins with."""
        return [self.segments[index].region for index in self.sources]

    @cached_property
    def digest(self) -> str:
        """Names it: 8 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()[:8]


def lower(plan: Plan, *, chords: bool = True) -> Lowering:
    """Lower a plan. The same plan gives the same lowering, wherever that is done.

    Without ``chords`` (Celery counts them in a result backend) nothing follows a group: the run's state goes on there.
    """
    upstreams = [[edge.upstream for edge in node.edges] for node in plan]
    before = cover(upstreams)
    inline, closed = _inline(plan, before)
    found = regions(before, lambda node: not plan.nodes[node].is_map and node not in closed)
    cutter = Cutter(plan, chords)
    segments: list[Segment] = []
    first: set[int] = set()
    """The heads of segments that are not there for the size of messages."""
    for region in found:
        visible = _without(region, inline)
        if visible is None:  # nothing of it has a message
            continue
        pieces, rest = cutter.cut(visible)
        begin = pieces[0]
        for part in begin.parts if isinstance(begin, Parallel) else (begin,):
            first.update(heads_of(part))
        for piece in (*pieces, *rest):  # side by side, each by itself: nothing joins them
            segments += [_segment(part, cutter) for part in (piece.parts if isinstance(piece, Parallel) else (piece,))]
    heads = {node: segment for segment in segments for node in segment.heads}
    sources = tuple(index for index, segment in enumerate(segments) if not before[segment.heads[0]])
    kinds = {}
    for node, all_before in enumerate(upstreams):
        for upstream in all_before:
            kinds[upstream, node] = _kind(plan, before, inline, heads.keys(), first, upstream, node)
    return Lowering(tuple(segments), inline, sources, kinds)


def _segment(region: Region, cutter: Cutter) -> Segment:
    size = cutter.size(region)
    heads = tuple(heads_of(region))
    return Segment(region, heads, size.messages, size.messages * ENVELOPE + size.carried, ENVELOPE + size.largest)


def _inline(plan: Plan, before: list[tuple[int, ...]]) -> tuple[frozenset[int], set[int]]:
    """Find the INLINE nodes, which run in the task of whoever settles their last upstream, and what they close.

    Celery delivers what follows a task when it returns, and so when the inline nodes have run. That is in time for what
    follows these, but would be late for anything else: then Celery can follow up neither the upstream nor the inline
    node.
    """
    after = invert(before)
    inline = frozenset(index for index, node in enumerate(plan) if node.placement is FlowType.INLINE and node.edges)

    def delays(others: list[int]) -> bool:
        together = inline.issuperset(others) and all(after[node] == after[others[0]] for node in others)
        return not inline.isdisjoint(others) and not together

    closed = {index for index, others in enumerate(after) if delays(others)}
    for index in sorted(inline):
        if any(upstream in closed or plan.nodes[upstream].is_map for upstream in before[index]):
            closed.add(index)
    return inline, closed


def _kind(
    plan: Plan,
    before: list[tuple[int, ...]],
    inline: frozenset[int],
    heads: Any,
    first: set[int],
    upstream: int,
    node: int,
) -> EdgeKind:
    if upstream not in before[node]:
        return EdgeKind.IMPLIED
    if node in inline:
        return EdgeKind.INLINE
    if node not in heads:
        return EdgeKind.CANVAS
    if node not in first:
        return EdgeKind.CONTINUATION
    return EdgeKind.MAP if plan.nodes[upstream].is_map else EdgeKind.RESOLVER


def _without(region: Region, inline: frozenset[int]) -> Region | None:
    """Leave out the nodes that have no message."""

    def combine(part: Region, inner: list[Region | None]) -> Region | None:
        if isinstance(part, int):
            return None if part in inline else part
        visible = [one for one in inner if one is not None]
        return (in_series if isinstance(part, Series) else in_parallel)(visible) if visible else None

    return fold(region, parts_of, combine)
