"""``python -m tests.chaos.recovery``: how long it takes until work goes on after a fault, with default settings."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import typer
from rich.console import Console
from rich.table import Table

from tests.chaos import recoveries


class Kind(NamedTuple):
    """What is measured."""

    title: str
    measure: Callable[[int, int], list[float]]
    """Takes the number of events and a seed, and gives the seconds of each."""
    target_s: float
    few: int
    """Events, unless all are asked for."""
    sites: int
    """So many at once, each with workers and a server of its own, when all are asked for."""


KINDS = {
    "child": Kind("pool process killed → its node runs again", recoveries.child_killed, 2.0, 10, 1),
    "tree": Kind("worker killed → its nodes run elsewhere", recoveries.tree_killed, 20.0, 10, 1),
    "server": Kind("server killed → first start once it answers again", recoveries.server_killed, 10.0, 4, 3),
    "wake-up": Kind("wake-up lost → the run starts", recoveries.wake_up_lost, 5.0, 10, 1),
    "term": Kind("SIGTERM, end of the grace → runs elsewhere", recoveries.terminated, 3.0, 10, 1),
}

FULL = 100
"""Events of each kind, with --full."""


def measure(kind: Kind, events: int, seed: int, sites: int) -> list[float]:
    """Make the events, spread over the sites."""
    with ThreadPoolExecutor(sites) as pool:
        shares = [len(range(site, events, sites)) for site in range(sites)]
        going = [pool.submit(kind.measure, share, seed + 1000 * site) for site, share in enumerate(shares) if share]
        return [seconds for future in going for seconds in future.result()]


def percentile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that so many are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def main(
    kinds: Annotated[str, typer.Option(help="Some of them, comma-separated.")] = ",".join(KINDS),
    full: Annotated[bool, typer.Option("--full", help=f"{FULL} events of each.")] = False,
    events: Annotated[int, typer.Option(help="So many of each.")] = 0,
    seed: Annotated[int, typer.Option(help="Repeats the moments at which the faults strike.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it there.")] = None,
) -> None:
    """Make faults, and see when work goes on. Fails if any target is missed."""
    unknown = set(kinds.split(",")) - KINDS.keys()
    if unknown:
        raise typer.BadParameter(f"no such kinds: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    console = Console(width=None if sys.stdout.isatty() else 130)
    table = Table(title="Recovery, in seconds")
    for column in ("", "events", "p50", "p99", "max", "target", ""):
        table.add_column(column, justify="left" if not column else "right")
    seen, is_bad = {}, False
    for name in kinds.split(","):
        kind, began = KINDS[name], time.monotonic()
        found = measure(kind, events or (FULL if full else kind.few), seed, kind.sites if full else 1)
        p99 = percentile(found, 0.99)
        is_missed = p99 > kind.target_s
        is_bad |= is_missed
        figures = [f"{value:.2f}" for value in (median(found), p99, max(found))]
        table.add_row(kind.title, str(len(found)), *figures, f"≤ {kind.target_s:g}", "missed" if is_missed else "met")
        console.print(f"{name}: {len(found)} events in {time.monotonic() - began:.0f} s", style="dim")
        seen[name] = {"target_s": kind.target_s, "seconds": found}
    console.print(table)
    if json_file is not None:
        json_file.write_text(json.dumps({"seed": seed, "kinds": seen}, indent=1) + "\n")
    if is_bad:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
