"""The graphs that all competitors run: what they are, and what must come of them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TypeAlias

MODULO = 1_000_003
"""Values of layered graphs stay below it."""

REACH = 3
"""Nodes of a layered graph have their upstreams in so many layers before their own."""


@dataclass(frozen=True)
class Chains:
    """Chains of nodes that each add 1 to the number before, from 0 on; all started at once."""

    length: int
    count: int = 1

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

    @property
    def expected(self) -> list[int]:
        return list(range(self.nodes))


@dataclass(frozen=True)
class Layered:
    """Layers of nodes, each after 1 to 5 random ones of the layers before; it gives the last layer's values.

    A node's value is ``value_of`` its number and its upstreams' values. The same fields give the same graph anywhere.
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

    @property
    def expected(self) -> list[int]:
        values: list[int] = []
        for number, upstreams in enumerate(self.upstreams):
            values.append(value_of(number, [values[upstream] for upstream in upstreams]))
        return values[-self.width :]


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

    @property
    def nodes(self) -> int:
        return 5 * self.count

    @property
    def expected(self) -> list[int]:
        return [3 * (number + 1) + 6 for number in range(self.count)]


Shape: TypeAlias = Chains | FanIn | Independent | Layered | Tree | Diamonds


def value_of(number: int, upstreams: list[int]) -> int:
    """Give the value of a layered graph's node."""
    return (1 + number + sum(upstreams)) % MODULO


@lru_cache
def layered(layers: int, width: int, seed: int) -> Layered:
    """Give a layered graph whose upstreams are drawn once only."""
    return Layered(layers, width, seed)


@dataclass(frozen=True)
class Workload:
    """A shape under the name that tables have for it."""

    key: str
    title: str
    shape: Shape
    times: int = 1
    """It is run so often in each round, one after the other, and the median counts."""
    note: str = ""
    """What a reader must know to compare its figures fairly."""


_BARRIERS = (
    "Hand-written canvases can only say it with barriers: no node of a layer starts before the whole layer before has"
    " ended. flowq adds none."
)

QUICK = (
    Workload("W1", "chain of 100", Chains(100), times=5),
    Workload("W1", "10 chains of 100", Chains(100, 10)),
    Workload("W2", "fan-in of 100", FanIn(100), times=5),
    Workload("W2", "fan-in of 1,000", FanIn(1_000)),
    Workload("W3", "1,000 independent", Independent(1_000)),
    Workload("W4", "layers, 10 × 50", Layered(10, 50), note=_BARRIERS),
    Workload("W5", "tree of 128", Tree(128)),
    Workload("W6", "100 diamonds at once", Diamonds(100)),
    Workload("W6", "a diamond, p50 of 30", Diamonds(1), times=30),
)

FULL = (
    *QUICK[:4],
    Workload("W2", "fan-in of 10,000", FanIn(10_000)),
    Workload("W3", "10,000 independent", Independent(10_000)),
    QUICK[5],
    Workload("W5", "tree of 1,024", Tree(1_024)),
    Workload("W6", "1,000 diamonds at once", Diamonds(1_000)),
    QUICK[8],
)
