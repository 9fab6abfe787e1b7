"""The matrix: which cells there are follows from what the runs pass."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import cycle

from tests.chaos.points.errands import ERRANDS
from tests.chaos.points.passing import CHILD, REDIS, TREE
from tests.chaos.points.shapes import SHAPES
from tests.chaos.points.stage import Cell

QUICK_S = Cell._field_defaults["takes_s"]
SLOW_S = 0.1
"""Bodies that take so long are met by renewals and by the fleet's keeper."""

PACES = (QUICK_S, SLOW_S)

Profiles = Mapping[tuple[str, float], Counter[str]]
"""By shape and pace: how often a run passes each point."""

_PERIODIC = ("register", "sweep", "renew", "vouch", "bury")
"""Passed by the clock, not by what a run does: met in slow runs."""


def to_profile() -> list[tuple[str, float]]:
    """Give what the profiles are needed of."""
    return [(shape, pace) for shape in SHAPES for pace in PACES] + [(errand, QUICK_S) for errand in ERRANDS]


def cells(profiles: Profiles, seed: int, *, everything: bool = False) -> list[Cell]:
    """Give the cells of a matrix: every point of every shape, with one or two of those that may die there, by turns;
    with ``everything``, all of those, the first and the last time, too."""
    choose = random.Random(seed)
    found = [cell for shape in SHAPES for cell in _of_shape(shape, profiles, choose, everything)]
    found += [cell for errand in ERRANDS for cell in _of_errand(errand, profiles)]
    choose.shuffle(found)  # what is slow is spread over the stages
    return found


def _of_shape(shape: str, profiles: Profiles, choose: random.Random, everything: bool) -> Iterator[Cell]:
    turns = cycle(((CHILD,), (TREE, REDIS), (CHILD, REDIS), (TREE,)))
    for _ in range(choose.randrange(4)):
        next(turns)
    for point, pace, times in _points(shape, profiles):
        is_childs = point.startswith("child:")
        victims = (CHILD, TREE, REDIS) if everything else next(turns)
        for victim in dict.fromkeys(TREE if victim == CHILD and not is_childs else victim for victim in victims):
            chosen = {1, times, choose.randint(1, times)} if everything else {choose.randint(1, times)}
            for nth in sorted(chosen):
                yield Cell(shape, point, nth, victim, pace)


def _of_errand(errand: str, profiles: Profiles) -> Iterator[Cell]:
    for point, times in sorted(profiles[errand, QUICK_S].items()):
        for nth in range(1, times + 1):
            yield Cell(errand, point, nth, CHILD)
        yield Cell(errand, point, times, REDIS)


def _points(shape: str, profiles: Profiles) -> Iterator[tuple[str, float, int]]:
    """Give the points that a shape passes, at which pace, and how often that may be."""
    quick, slow = (profiles[shape, pace] for pace in PACES)
    for point in sorted(quick.keys() | slow.keys()):
        is_periodic = point.split(":")[1] in _PERIODIC
        if is_periodic and slow[point]:
            yield point, SLOW_S, max(1, slow[point] // 2)  # the others come after the run's end
        elif not is_periodic and quick[point]:
            yield point, QUICK_S, quick[point]
