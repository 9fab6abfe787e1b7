"""Cuts regions into pieces, so that no message grows too large, nor all of them together.

The bytes of messages are estimates, made to lie above what Celery sends: a message carries all that follows it in its
segment, as JSON in base64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from flowq.plan.model import Plan
from flowq.plan.regions import JOIN, Parallel, Region, Series, fold, in_parallel, in_series, parts_of

MAX_MESSAGE = 55_000
"""Bytes that no message is larger than. 64 KB is what is promised: run ids may be longer than flowq's own."""

CARRIED = 5
"""A segment's messages carry what follows them, and again in every step. They may be so many times as large by that as
without, and have besides what each edge of a join carries: so the bytes of a run grow as its nodes and edges do."""

MAX_NESTED = 5
"""Celery takes one more of its pool of 10 connections for a chord in a header, and waits for ever if none is there."""

ENVELOPE = 1100
"""Bytes of a message, besides the signatures that it carries."""

SIGNATURE = 330
"""Bytes that a signature adds to a message which carries it, besides the task's name."""

GROUP, BRANCH, NESTED = 600, 30, 220
"""Bytes that a group adds to what its parts do, for itself, for each part, and for each part that is not one task."""

MEMBER = 200
"""Bytes that a member of a group carries of the group."""

QUEUE = 16
"""Bytes around a queue's name."""


@dataclass(frozen=True, slots=True)
class Size:
    """What publishing a region costs."""

    messages: int
    embedded: int
    """Bytes that it adds to a message which carries it."""
    carried: int
    """Bytes that its own messages carry, all together."""
    largest: int
    """The most that one of its messages carries."""
    heads: int = 1
    ends: int = 1
    joined: int = 0
    """The edges between its parts."""
    nested: int = 0
    """How deep chords stand in the headers of chords."""

    @property
    def fits(self) -> bool:
        """Whether it may be published as one segment."""
        allowed = CARRIED * ENVELOPE * self.messages + (SIGNATURE + ENVELOPE) * self.joined
        return ENVELOPE + self.largest <= MAX_MESSAGE and self.carried <= allowed and self.nested <= MAX_NESTED


Pieces: TypeAlias = tuple[list[Region], bool]
"""What is published one after the other, and whether Celery can follow up the last of it."""


class Cutter:
    """Cuts the regions of one plan."""

    def __init__(self, plan: Plan, chords: bool) -> None:
        self._plan = plan
        self._chords = chords
        self._sizes: dict[int, Size] = {}
        """By the identity of regions, which are kept in ``_kept``."""
        self._kept: list[Region] = []
        self._rest: list[Region] = []

    def cut(self, region: Region) -> tuple[list[Region], list[Region]]:
        """Give the pieces of a region, one after the other, and what was cut off beside them."""
        self._rest = []
        pieces, _ = fold(region, parts_of, self._cut)
        return pieces, self._rest

    def size(self, region: Region) -> Size:
        """Give what a region costs; those of its parts that were sized before are known."""
        return fold(region, lambda part: () if id(part) in self._sizes else parts_of(part), self._size)

    def _cut(self, region: Region, parts: list[Pieces]) -> Pieces:
        if isinstance(region, int):
            return [region], True
        if isinstance(region, Parallel):
            for pieces, _ in parts:
                self._rest += pieces[1:]
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
            region = in_series([*before, Parallel(tuple(_countable(branch) for branch in last.parts))])
        size = _in_series([self.size(region), self.size(following)])
        if not size.fits:
            return None
        whole = in_series([region, following])
        self._keep(whole, size)
        return whole

    def _size(self, region: Region, parts: list[Size]) -> Size:
        if isinstance(region, int):
            return self._of_task(region)
        if id(region) in self._sizes:
            return self._sizes[id(region)]
        size = _in_series(parts) if isinstance(region, Series) else _in_parallel(region, parts)
        self._keep(region, size)
        return size

    def _of_task(self, node: int) -> Size:
        if node == JOIN:
            return Size(1, SIGNATURE + 14, 10, 10)
        name, queue = self._plan.nodes[node].processor, self._plan.nodes[node].queue
        embedded = SIGNATURE + _in_base64(len(name)) + (_in_base64(len(queue)) + QUEUE if queue else 0)
        own = len(name) + len(queue)
        return Size(1, embedded, own, own)

    def _keep(self, region: Region, size: Size) -> None:
        self._sizes[id(region)] = size
        self._kept.append(region)


def _in_base64(length: int) -> int:
    return -(-4 * length // 3)


def _in_series(sizes: list[Size]) -> Size:
    messages = embedded = carried = largest = joined = heads = 0
    nested = max(part.nested + (part.ends > 1 and position < len(sizes) - 1) for position, part in enumerate(sizes))
    for part in reversed(sizes):  # each message of a part carries all that follows it
        carried += part.carried + part.messages * embedded
        largest = max(largest, part.largest + embedded)
        embedded += part.embedded
        messages += part.messages
        joined += part.joined + part.ends * heads
        heads = part.heads
    return Size(messages, embedded, carried, largest, heads, sizes[-1].ends, joined, nested)


def _in_parallel(region: Parallel, sizes: list[Size]) -> Size:
    messages = sum(part.messages for part in sizes)
    nested = sum(not isinstance(part, int) for part in region.parts)
    return Size(
        messages,
        sum(part.embedded for part in sizes) + GROUP + BRANCH * len(sizes) + NESTED * nested,
        sum(part.carried for part in sizes) + MEMBER * messages,
        max(part.largest for part in sizes) + MEMBER,
        sum(part.heads for part in sizes),
        sum(part.ends for part in sizes),
        sum(part.joined for part in sizes),
        max(part.nested for part in sizes),
    )


def _countable(branch: Region) -> Region:
    """Give a branch that a chord can count: by its last task. If these are several, Celery holds a worker to wait."""
    if not isinstance(branch, Series) or not isinstance(branch.parts[-1], Parallel):
        return branch
    last = Parallel(tuple(_countable(part) for part in branch.parts[-1].parts))
    return Series((*branch.parts[:-1], last, JOIN))
