"""The graphs that all competitors run: what they are, and what must come of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

from tests.bench.compare.bodies import Work, value

REACH = 3
"""Nodes of a layered graph have their upstreams in so many layers before their own."""


@dataclass(frozen=True)
class Chains:
    """Chains of nodes that each add 1 to the number before, from 0 on; all started at once."""

    length: int
    count: int = 1
    work: Work = ""

    @property
    def nodes(self) -> int:
        return self.length * self.count

    @property
    def expected(self) -> list[int]:
        return [self.length] * self.count


@dataclass(frozen=True)
class FanIn:
    """Leaves that give their number, and one node that sums them."""

    leaves: int
    work: Work = ""

    @property
    def nodes(self) -> int:
        return self.leaves + 1

    @property
    def expected(self) -> list[int]:
        return [sum(range(self.leaves))]


@dataclass(frozen=True)
class Independent:
    """Nodes that give their number. It ends when the producer has read every result."""

    nodes: int
    work: Work = ""

    @property
    def expected(self) -> list[int]:
        return list(range(self.nodes))


@dataclass(frozen=True)
class Layered:
    """Layers of nodes, each after 1 to 5 random ones of the layers before; it gives the values of all sinks.

    A node's value is ``value`` of its upstreams' values and its number, so that a wrong one shows in a sink's. The same
    fields give the same graph anywhere.
    """

    layers: int
    width: int
    seed: int = 1

    @property
    def nodes(self) -> int:
        return self.layers * self.width

    @cached_property
    def upstreams(self) -> list[list[int]]:
        """The numbers of each node's upstreams."""
        dice, width = random.Random(self.seed), self.width
        return [
            sorted(dice.sample(range(max(0, layer - REACH) * width, layer * width), min(dice.randint(1, 5), width)))
            if layer
            else []
            for layer in range(self.layers)
            for _ in range(width)
        ]

    @cached_property
    def sinks(self) -> list[int]:
        return _sinks(self.upstreams)

    @property
    def expected(self) -> list[int]:
        values: list[int] = []
        for number, upstreams in enumerate(self.upstreams):
            values.append(value([values[upstream] for upstream in upstreams], number))
        return [values[sink] for sink in self.sinks]

    @cached_property
    def kept(self) -> list[list[int]]:
        """For each layer and for the end, the nodes of layers before the last one whose values are still needed."""
        found, needed = [], {*self.sinks}
        for layer in reversed(range(self.layers + 1)):
            needed.update(*self.upstreams[layer * self.width : (layer + 1) * self.width])
            found.append(sorted(number for number in needed if number < (layer - 1) * self.width))
        return found[::-1]


@dataclass(frozen=True)
class Tree:
    """Leaves that give their number, added up in pairs. A power of two of them."""

    leaves: int

    @property
    def nodes(self) -> int:
        return 2 * self.leaves - 1

    @property
    def expected(self) -> list[int]:
        return [sum(range(self.leaves))]


@dataclass(frozen=True)
class Diamonds:
    """Flows a → b, c, d → e: 1 is added to the flow's number, then 1, 2 and 3 to that, and the sum taken.

    All are started at once.
    """

    count: int
    work: Work = ""

    @property
    def nodes(self) -> int:
        return 5 * self.count

    @property
    def expected(self) -> list[int]:
        return [3 * (number + 1) + 6 for number in range(self.count)]


@dataclass(frozen=True)
class Sleeping:
    """Any graph, of nodes that sleep: each after its upstreams. Sinks give the length of a longest path to them."""

    upstreams: tuple[tuple[int, ...], ...]
    naps_ms: tuple[int, ...]

    @property
    def nodes(self) -> int:
        return len(self.naps_ms)

    @cached_property
    def sinks(self) -> list[int]:
        return _sinks(self.upstreams)

    @property
    def expected(self) -> list[int]:
        depths: list[int] = []
        for upstreams in self.upstreams:
            depths.append(1 + max((depths[upstream] for upstream in upstreams), default=0))
        return [depths[sink] for sink in self.sinks]


Shape: TypeAlias = Chains | FanIn | Independent | Layered | Tree | Diamonds | Sleeping


def _sinks(upstreams: Sequence[Sequence[int]]) -> list[int]:
    inner = {upstream for before in upstreams for upstream in before}
    return [number for number in range(len(upstreams)) if number not in inner]


@lru_cache
def layered(layers: int, width: int, seed: int) -> Layered:
    """Give a layered graph whose upstreams are drawn once only."""
    return Layered(layers, width, seed)
