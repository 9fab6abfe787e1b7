"""The workloads W1 to W6, small and in full, and with work."""

from __future__ import annotations

from dataclasses import dataclass

from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Tree


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
_SPIN = ", 1 ms of work"
_HEAVY = ", 100 KB"

_CHAINS = (
    Workload("W1", "chain of 100", Chains(100), times=5),
    Workload("W1", "10 chains of 100", Chains(100, 10)),
)
_LAYERED = Workload("W4", "layers, 10 × 50", Layered(10, 50), note=_BARRIERS)
_ONE_DIAMOND = Workload("W6", "a diamond, p50 of 30", Diamonds(1), times=30)


def _fan_ins(*leaves: int) -> list[Workload]:
    return [Workload("W2", f"fan-in of {n:,}", FanIn(n), times=5 if n < 1000 else 1) for n in leaves]


QUICK = (
    *_CHAINS,
    *_fan_ins(10, 100, 1_000),
    Workload("W3", "1,000 independent", Independent(1_000)),
    _LAYERED,
    Workload("W5", "tree of 128", Tree(128)),
    Workload("W6", "100 diamonds at once", Diamonds(100)),
    _ONE_DIAMOND,
)

FULL = (
    *_CHAINS,
    *_fan_ins(10, 100, 1_000, 10_000),
    Workload("W3", "10,000 independent", Independent(10_000)),
    _LAYERED,
    Workload("W5", "tree of 1,024", Tree(1_024)),
    Workload("W6", "1,000 diamonds at once", Diamonds(1_000)),
    _ONE_DIAMOND,
)

WORK = (
    Workload("W1", f"chain of 100{_SPIN}", Chains(100, work="spin")),
    Workload("W1", f"10 chains of 100{_SPIN}", Chains(100, 10, "spin")),
    Workload("W2", f"fan-in of 1,000{_SPIN}", FanIn(1_000, "spin")),
    Workload("W3", f"1,000 independent{_SPIN}", Independent(1_000, "spin")),
    Workload("W1", f"chain of 100{_HEAVY}", Chains(100, work="heavy")),
    Workload("W1", f"10 chains of 100{_HEAVY}", Chains(100, 10, "heavy")),
    Workload("W2", f"fan-in of 100{_HEAVY}", FanIn(100, "heavy")),
    Workload("W2", f"fan-in of 1,000{_HEAVY}", FanIn(1_000, "heavy")),
    Workload("W3", f"1,000 independent{_HEAVY}", Independent(1_000, "heavy")),
)
"""With nodes that do something. 10,000 independent ones of 100 KB would be 1 GB."""
