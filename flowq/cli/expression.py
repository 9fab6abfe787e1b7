"""A region of a canvas in Celery's terms, as people write them: ``chain(load, chord([clean, stats], report))``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from flowq.plan import JOIN, Parallel, Plan, Region
from flowq.plan.regions import fold, parts_of

ALIKE: Final = 4
"""Alike parts side by side (or one after the other) are all written if they are so many; of more, two are."""

WIDTH: Final = 100
"""Characters; what is longer goes onto several lines."""

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class _Part:
    lines: list[str]
    shape: int
    """Equal if nothing but the nodes' names differs."""
    branches: list[list[str]] | None = None
    """Of a group: what it is made of."""


def express(plan: Plan, region: Region, *, short: bool, width: float = WIDTH) -> list[str]:
    """Write a region down, as the canvas is that it becomes; ``short``: only some of the parts that are alike."""

    def combine(part: Region, inner: list[_Part]) -> _Part:
        shape = _shape(plan, part, [one.shape for one in inner])
        if isinstance(part, int):
            return _Part(["flowq.join" if part == JOIN else plan.nodes[part].path], shape)
        if isinstance(part, Parallel):
            branches = [one.lines for one in (_shortened(inner, keep_last=False) if short else inner)]
            return _Part(_call("group(", branches, ")", width), shape, branches)
        return _Part(_series(_shortened(inner, keep_last=True) if short else inner, width), shape)

    return fold(region, parts_of, combine).lines


def shape_of(plan: Plan, region: Region) -> int:
    """Give a number that is the same for regions that differ in nothing but the names of alike nodes."""
    return fold(region, parts_of, lambda part, inner: _shape(plan, part, inner))


def _shape(plan: Plan, region: Region, inner: Sequence[int]) -> int:
    if isinstance(region, int):
        node = plan.nodes[region] if region != JOIN else None
        if node is None:
            return JOIN
        return hash((node.processor, node.placement, node.queue, node.is_map))
    return hash((isinstance(region, Parallel), *inner))


def _shortened(parts: Sequence[_Part], *, keep_last: bool) -> list[_Part]:
    found: list[_Part] = []
    for shape, run in groupby(parts, key=lambda part: part.shape):
        alike = list(run)
        if len(alike) > ALIKE:
            last = alike[-1:] if keep_last else []
            alike = [*alike[:2], _Part([f"… {len(alike) - 2 - len(last)} more"], shape), *last]
        found += alike
    return found


def _series(parts: Sequence[_Part], width: float) -> list[str]:
    """Chain parts; a group that something follows is the header of a chord."""
    following: list[list[str]] = []
    for part in reversed(parts):
        if part.branches is not None and following:
            header = _call("[", part.branches, "]", width)
            following = [_call("chord(", [header, _chain(following, width)], ")", width)]
        else:
            following.insert(0, part.lines)
    return _chain(following, width)


def _chain(parts: list[list[str]], width: float) -> list[str]:
    return parts[0] if len(parts) == 1 else _call("chain(", parts, ")", width)


def _call(begin: str, parts: list[list[str]], end: str, width: float) -> list[str]:
    if all(len(part) == 1 for part in parts):
        line = f"{begin}{', '.join(part[0] for part in parts)}{end}"
        if len(line) <= width:
            return [line]
    inner = (f"{_INDENT}{line}" for part in parts for line in (*part[:-1], f"{part[-1]},"))
    return [begin, *inner, end]
