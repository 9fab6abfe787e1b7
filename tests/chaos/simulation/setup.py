"""What a seed decides before anything happens: plans, workers, times, and which faults may strike."""

from __future__ import annotations

import random
from collections.abc import Collection
from functools import cache
from typing import NamedTuple

from flowq.plan import Edge, Node, Plan
from tests.chaos.simulation.delivery import US
from tests.property.choices import seeded
from tests.property.graphs import random_plan

PLANS = 256
"""Different plans; a seed takes one or two of them."""

SMALLEST, LARGEST = 4, 12
"""Nodes."""

KINDS = (
    "lost wake-ups",
    "repeated wake-ups",
    "late wake-ups",
    "lost replies",
    "late calls",
    "a process dies",
    "a process dies",
    "a worker dies",
    "a process freezes",
    "a worker freezes",
    "clocks differ",
    "the store is away",
    "the store rewinds",
    "the store is emptied",
    "a cancel",
    "a pause",
    "a retry",
    "a retry",
    "deadlines",
    "a worker closes",
)


QUIET = frozenset({"repeated wake-ups", "late wake-ups", "clocks differ", "a cancel", "a pause", "a retry"})
"""With these alone, a run needs no sweep: whatever is ready, somebody is told of it in time."""


SHORT = 200
"""Microseconds. Attempts that take no longer are run in batches."""


class Times(NamedTuple):
    """Microseconds."""

    lease: int
    renew: int
    sweep: int
    slice: int
    linger: int


TIMES = (
    Times(15 * US, 5 * US, 2 * US, US // 5, US // 50),
    Times(6 * US, 2 * US, 1 * US, US // 5, 0),
    Times(3 * US, 1 * US, US // 2, US // 50, US // 100),
)


class Setup(NamedTuple):
    """The beginning of a simulated run."""

    plans: list[Plan]
    deadlines: list[int]
    """Of the runs; 0: none."""
    times: Times
    workers: int
    processes: int
    threads: int
    is_supervised: bool
    is_busy: bool
    """Other runs keep all processes in touch with the store."""
    kinds: frozenset[str]
    strikes: list[tuple[int, str]]
    """At which call of the store which fault strikes."""
    latency: int
    """The longest usual one."""
    duration: int
    """The longest usual one of an attempt."""

    @property
    def is_steady(self) -> bool:
        """Whoever calls the store gets its answer at once, unless a fault strikes."""
        return self.kinds.isdisjoint(("lost replies", "late calls"))

    @property
    def is_quiet(self) -> bool:
        """Nobody sweeps, but for retries."""
        return self.kinds <= QUIET


@cache
def plan_of(number: int) -> Plan:
    """Give one of the plans."""
    choose = seeded(number)
    for _ in range(100):
        plan = random_plan(choose, LARGEST)
        if len(plan) >= SMALLEST:
            break
    plan.hash, plan.downstream, plan.ahead  # noqa: B018 - worked out once
    return plan


@cache
def wide_plan(width: int) -> Plan:
    """Give a plan of nodes side by side, and one that waits for all of them: they are claimed in batches."""
    side = [Node(f"s{number}", "m:f", max_crashes=1 if number % 7 == 5 else 3) for number in range(width)]
    return Plan((*side, Node("z", "m:f", edges=tuple(Edge(number, number % 2 == 0, "v") for number in range(width)))))


def setup_of(chance: random.Random, always: Collection[str] = ()) -> Setup:
    """Draw a beginning; ``always``: what goes wrong in any case."""
    draw = chance.random
    kinds = frozenset((*chance.choices(KINDS, k=int(draw() * 5)), *always))
    strikes = []
    for kind in sorted(kinds):
        if kind[:2] in ("a ", "th"):
            strikes += [(int(draw() ** 2 * 60), kind) for _ in range(1 + int(draw() * 2.2))]
    plans = [plan_of(int(draw() * PLANS)) for _ in range(1 if draw() < 0.85 else 2)]
    duration = (SHORT, 5_000, 100_000, 2 * US)[int(draw() * 4)]
    if duration == SHORT and draw() < 0.7:
        plans[0] = wide_plan(4 + int(draw() * LARGEST))
    has_deadlines = "deadlines" in kinds
    return Setup(
        plans=plans,
        deadlines=[1 + int(draw() ** 3 * 20 * US) if has_deadlines and draw() < 0.7 else 0 for _ in plans],
        times=TIMES[int(draw() * len(TIMES))],
        workers=1 + int(draw() * 3),
        processes=1 + int(draw() * 2),
        threads=1 + int(draw() * 3),
        is_supervised=draw() < 0.6,
        is_busy=draw() < 0.3,
        kinds=kinds,
        strikes=sorted(strikes),
        latency=(300, 2_000, 50_000)[int(draw() * 3)],
        duration=duration,
    )
