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
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Any, TypeAlias

from flowq.core.types import FlowType
from flowq.plan.model import Plan
from flowq.plan.order import cover, invert
from flowq.plan.regions import Parallel, Region, Series, fold, in_parallel, in_series, nodes_of, parts_of, regions

JOIN = -1
"""Stands in a region for a task that does nothing: a chord can count a branch that ends in several tasks only if one
more follows them. What comes after waits for them anyway."""

MAX_MESSAGE = 60_000
"""Bytes that no message is larger than; 64 KB is what is promised."""

CARRIED = 5
"""A segment's messages carry what follows them, and again in every step. They may be so many times as large by that as
without: so the bytes of a whole run grow as its nodes do."""

ENVELOPE = 1100
"""About the bytes of a message, besides the signatures that it carries."""

SIGNATURE = 400
"""About the bytes that one signature adds to a message which carries it, besides the processor's name."""


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


def to_json(region: Region) -> Any:
    """Give a region as plain JSON: a number, or a list that begins with ``chain`` or ``group``."""

    def combine(part: Region, inner: list[Any]) -> Any:
        return part if isinstance(part, int) else ["chain" if isinstance(part, Series) else "group", *inner]

    return fold(region, parts_of, combine)


def from_json(content: Any) -> Region:
    """Read a region back."""
    if isinstance(content, int):
        return content
    kind, *parts = content
    return (Series if kind == "chain" else Parallel)(tuple(map(from_json, parts)))


def lower(plan: Plan, *, chords: bool = True) -> Lowering:
    """Lower a plan. The same plan gives the same lowering, wherever that is done.

    Without ``chords`` (Celery counts them in a result backend) nothing follows a group: the run's state goes on there.
    """
    upstreams = [[edge.upstream for edge in node.edges] for node in plan]
    before = cover(upstreams)
    inline, closed = _inline(plan, before)
    found = regions(before, lambda node: not plan.nodes[node].is_map and node not in closed)
    cutter = _Cutter(plan, chords)
    segments: list[Segment] = []
    first: set[int] = set()
    """The heads of segments that are not there for the size of messages."""
    for region in found:
        visible = _without(region, inline)
        if visible is None:  # nothing of it has a message
            continue
        pieces = cutter.cut(visible)
        for part in pieces[0].parts if isinstance(pieces[0], Parallel) else pieces[:1]:
            first.update(_heads(part))
        segments += [cutter.segment(piece) for piece in (*pieces, *cutter.rest)]
        cutter.rest.clear()
    segments = [part for segment in segments for part in cutter.apart(segment)]
    heads = {node: segment for segment in segments for node in segment.heads}
    sources = tuple(index for index, segment in enumerate(segments) if not before[segment.heads[0]])
    kinds = {}
    for node, all_before in enumerate(upstreams):
        for upstream in all_before:
            kinds[upstream, node] = _kind(plan, before, inline, heads.keys(), first, upstream, node)
    return Lowering(tuple(segments), inline, sources, kinds)


def _inline(plan: Plan, before: list[tuple[int, ...]]) -> tuple[frozenset[int], set[int]]:
    """Find the INLINE nodes, which run in the task of whoever settles their last upstream, and what they close.

    Celery delivers what follows a task when it returns, and so when the inline nodes have run. That is in time for what
    follows these, but would be late for anything else: then Celery can follow up neither the upstream nor the inline
    node.
    """
    after = invert(before)
    inline = frozenset(index for index, node in enumerate(plan) if node.placement is FlowType.INLINE and node.edges)
    closed = {index for index, others in enumerate(after) if 0 < sum(node in inline for node in others) < len(others)}
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


def _heads(region: Region) -> Iterator[int]:
    """Give the nodes that a region begins with."""
    todo = [region]
    while todo:
        part = todo.pop()
        if isinstance(part, int):
            yield part
        else:
            todo.extend(part.parts[:1] if isinstance(part, Series) else reversed(part.parts))


@dataclass(frozen=True, slots=True)
class _Size:
    """What publishing a region costs."""

    messages: int
    embedded: int
    """Bytes that it adds to a message which carries it."""
    carried: int
    """Bytes that its own messages carry, all together."""
    largest: int
    """The most that one of its messages carries."""


_Pieces: TypeAlias = tuple[list[Region], bool]


class _Cutter:
    """Cuts regions so that no message grows too large, nor all of them together."""

    def __init__(self, plan: Plan, chords: bool) -> None:
        self._plan = plan
        self._chords = chords
        self._sizes: dict[int, _Size] = {}
        """By the identity of regions, which are kept in ``_kept``."""
        self._kept: list[Region] = []
        self.rest: list[Region] = []
        """What was cut off and stands behind nothing of its own region."""

    def segment(self, region: Region) -> Segment:
        size = self.size(region)
        return Segment(
            region,
            tuple(_heads(region)),
            size.messages,
            size.messages * ENVELOPE + size.carried,
            ENVELOPE + size.largest,
        )

    def apart(self, segment: Segment) -> Iterator[Segment]:
        """Give regions side by side each by itself: nothing joins them."""
        if isinstance(segment.region, Parallel):
            yield from map(self.segment, segment.region.parts)
        else:
            yield segment

    def cut(self, region: Region) -> list[Region]:
        """Give the pieces of a region, one after the other; what stands beside them is in ``rest``."""
        return fold(region, parts_of, self._cut)[0]

    def _cut(self, region: Region, parts: list[_Pieces]) -> _Pieces:
        """Give the pieces, and whether Celery can follow up the last one."""
        if isinstance(region, int):
            return [region], True
        if isinstance(region, Parallel):
            for pieces, _ in parts:
                self.rest += pieces[1:]
            is_open = all(len(pieces) == 1 and can_precede for pieces, can_precede in parts)
            return [in_parallel(pieces[0] for pieces, _ in parts)], is_open
        pieces, is_open = parts[-1]
        pieces = pieces[::-1]  # from the end, as what follows is what messages carry
        for before, can_precede in reversed(parts[:-1]):
            whole = self._joined(before[-1], pieces[-1]) if can_precede else None
            pieces = [*pieces, *before[::-1]] if whole is None else [*pieces[:-1], whole, *before[:-1][::-1]]
        return pieces[::-1], is_open

    def _joined(self, region: Region, following: Region) -> Region | None:
        """Put two pieces in series; None if their messages would grow too large."""
        *before, last = region.parts if isinstance(region, Series) else (region,)
        if isinstance(last, Parallel):
            if not self._chords:
                return None
            region = in_series([*before, Parallel(tuple(_countable(part) for part in last.parts))])
        size = self._in_series([self.size(region), self.size(following)])
        if ENVELOPE + size.largest > MAX_MESSAGE or size.carried > CARRIED * ENVELOPE * size.messages:
            return None
        whole = in_series([region, following])
        self._keep(whole, size)
        return whole

    def size(self, region: Region) -> _Size:
        """Give what a region costs; those of its parts that were sized before are known."""
        return fold(region, lambda part: () if id(part) in self._sizes else parts_of(part), self._size)

    def _size(self, region: Region, parts: list[_Size]) -> _Size:
        if isinstance(region, int):
            name = "" if region == JOIN else self._plan.nodes[region].processor
            return _Size(1, SIGNATURE + len(name), 0, 0)
        if id(region) in self._sizes:
            return self._sizes[id(region)]
        if isinstance(region, Series):
            size = self._in_series(parts)
        else:
            size = _Size(
                sum(part.messages for part in parts),
                sum(part.embedded for part in parts) + SIGNATURE,
                sum(part.carried for part in parts),
                max(part.largest for part in parts),
            )
        self._keep(region, size)
        return size

    @staticmethod
    def _in_series(sizes: list[_Size]) -> _Size:
        messages = embedded = carried = largest = 0
        for part in reversed(sizes):  # each message of a part carries all that follows it
            carried += part.carried + part.messages * embedded
            largest = max(largest, part.largest + embedded)
            embedded += part.embedded
            messages += part.messages
        return _Size(messages, embedded, carried, largest)

    def _keep(self, region: Region, size: _Size) -> None:
        self._sizes[id(region)] = size
        self._kept.append(region)


def _countable(branch: Region) -> Region:
    """Give a branch that a chord can count: by its last task. If these are several, Celery holds a worker to wait."""
    ends_in_several = isinstance(branch, Series) and isinstance(branch.parts[-1], Parallel)
    return in_series([branch, JOIN]) if ends_in_several else branch


def joins(region: Region) -> int:
    """Give how many tasks of a region do nothing."""
    return sum(node == JOIN for node in nodes_of(region))
