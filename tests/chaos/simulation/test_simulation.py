"""Thousands of virtual runs under faults: every seed's story must be as the oracles say."""

from __future__ import annotations

import pytest

from tests.chaos.simulation.oracles import Broken
from tests.chaos.simulation.planting import BUGS, Bug, planted
from tests.chaos.simulation.simulate import Simulation, simulate
from tests.chaos.simulation.world import Parts

SEEDS = 3000
PARTS = 10

ENOUGH = 3000
"""So many seeds must be enough to find any planted bug; most need a few."""


@pytest.mark.parametrize("part", range(PARTS))
def test_every_story_is_as_it_must_be(part: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    for seed in range(part * SEEDS // PARTS, (part + 1) * SEEDS // PARTS):
        simulate(seed)


def test_a_seed_is_one_story() -> None:
    first, second = Simulation(7), Simulation(7)
    first.run()
    second.run()
    assert first.history == second.history


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_planted_bug_is_found(bug: Bug, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL")
    parts = planted(bug)
    seed = next((seed for seed in range(ENOUGH) if is_broken(seed, parts, bug.kinds)), None)
    assert seed is not None, f"the bug is not found in {ENOUGH} seeds"
    simulate(seed, kinds=bug.kinds)  # it is the bug's doing


def is_broken(seed: int, parts: Parts, kinds: tuple[str, ...]) -> bool:
    try:
        simulate(seed, parts, kinds)
    except (Broken, AssertionError, LookupError):
        return True
    return False
