"""``python -m tests.chaos.simulation``: many seeds, or the story of one."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Collection

from tests.chaos.simulation.oracles import Broken
from tests.chaos.simulation.simulate import Simulation, simulate
from tests.chaos.simulation.story import lines_of

SHOWN = 100
"""Broken seeds that are named."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=3000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--seed", type=int, help="this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: all that happened, call by call")
    parser.add_argument("--kinds", default="", help="what goes wrong in all of them, see setup.py: one,another")
    given = parser.parse_args(arguments)
    kinds = [kind for kind in given.kinds.split(",") if kind]
    logging.disable(logging.CRITICAL)
    if given.seed is not None:
        sys.exit(tell(given.seed, kinds, everything=given.trace))
    sys.exit(run(given.first, given.seeds, kinds))


def tell(seed: int, kinds: Collection[str], *, everything: bool) -> int:
    """Print a seed's story."""
    simulation = Simulation(seed, kinds=kinds, story=everything)
    problem = ""
    try:
        simulation.run()
    except Broken as broken:
        problem = str(broken)
    for line in lines_of(simulation.history):
        print(line)  # noqa: T201
    print(problem or f"seed {seed} is as it must be")  # noqa: T201
    return int(bool(problem))


def run(first: int, seeds: int, kinds: Collection[str] = ()) -> int:
    """Run seeds one after the other, and print what is wrong with any of them."""
    broken: list[str] = []
    began, began_cpu = time.perf_counter(), time.process_time()
    for seed in range(first, first + seeds):
        try:
            simulate(seed, kinds=kinds)
        except Broken as problem:
            broken.append(f"seed {seed}: {problem}")
    took_s, cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    for line in broken[:SHOWN]:
        print(line)  # noqa: T201
    print(  # noqa: T201
        f"{seeds} seeds in {took_s:.1f} s, {seeds / took_s * 60:.0f} a minute; "
        f"CPU {cpu_s:.1f} s, {cpu_s / seeds * 1000:.2f} ms a seed; {len(broken)} broken"
    )
    return int(bool(broken))
