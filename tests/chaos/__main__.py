"""``make chaos``: kill, stop and restart workers and the server under runs, and see what is left of these."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from tests.chaos.faults import Fault, Mix, make_plan
from tests.chaos.flowq_peer import FlowqPeer
from tests.chaos.outcome import Outcome
from tests.chaos.peers import CeleryPeer
from tests.chaos.report import show, write_json

QUICK = FlowqPeer("flowq", "flowq, leases of 3 s", 3.0, 1.0, 0.5)
DEFAULTS = FlowqPeer("flowq-defaults", "flowq, default settings", 15.0, 5.0, 2.0)
CELERY = CeleryPeer("celery", "Celery chords, defaults")
TUNED = CeleryPeer("celery-tuned", "Celery chords, tuned")
PEERS = {peer.name: peer for peer in (QUICK, DEFAULTS, CELERY, TUNED)}

SHARE = {DEFAULTS.name: 0.25}
"""Of the runs and the faults; what is left is the others', each."""

PACE_S = 5.0
"""From one fault to the next, on average."""

PATIENCE_S = 60.0
"""After the last fault: twice what a run may take, so that the late can be told from the stuck."""

SHORT, LONG = 80, 500
"""Runs."""


class Job(NamedTuple):
    """What a peer has to stand."""

    peer: FlowqPeer | CeleryPeer
    times: Sequence[float]
    plan: Sequence[Fault]


def job(peer: FlowqPeer | CeleryPeer, seed: int, runs: int, seconds: float) -> Job:
    """Make a peer's share of the runs and the faults."""
    share = SHARE.get(peer.name, 1 - SHARE[DEFAULTS.name])
    own = max(1, round(runs * share))
    lease_s = peer.lease_s if isinstance(peer, FlowqPeer) else QUICK.lease_s
    plan = make_plan(seed, seconds, Mix.of(own), lease_s)
    return Job(peer, times_of(seed, plan, own), plan)


def times_of(seed: int, plan: Sequence[Fault], runs: int) -> list[float]:
    """Have the runs begin just before the faults, so that they are in the middle when these strike."""
    choose = random.Random(f"times {seed}")
    return sorted(max(0.0, plan[number % len(plan)].at_s - choose.uniform(0.1, 1.2)) for number in range(runs))


def main(
    runs: Annotated[int, typer.Option(min=0, help=f"Runs of flowq; default: {SHORT}, with --long {LONG}.")] = 0,
    seconds: Annotated[float, typer.Option(help="How long faults are made; default: by the number of runs.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Repeats a plan of runs and faults.")] = 1,
    long: Annotated[bool, typer.Option("--long", help="The long form.", envvar="CHAOS_LONG")] = False,
    peers: Annotated[str, typer.Option(help="Some of them, comma-separated.")] = ",".join(PEERS),
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it there.")] = None,
) -> None:
    """Strike flowq and bare Celery with the same faults, side by side, and check what became of the runs."""
    unknown = set(peers.split(",")) - PEERS.keys()
    if unknown:
        raise typer.BadParameter(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    runs = runs or (LONG if long else SHORT)
    mix = Mix.of(max(1, round(runs * (1 - SHARE[DEFAULTS.name]))))
    seconds = seconds or PACE_S * sum(mix)
    jobs = [job(PEERS[name], seed, runs, seconds) for name in peers.split(",")]
    console = Console(width=None if sys.stdout.isatty() else 150)
    console.print(f"seed {seed}: {runs} runs, faults for {seconds:.0f} s")
    began = time.monotonic()
    with ThreadPoolExecutor(len(jobs)) as pool:
        going = [pool.submit(one.peer.chaos, seed, one.times, one.plan, patience_s=PATIENCE_S) for one in jobs]
        outcomes: list[Outcome] = [future.result() for future in going]
    show(outcomes, console)
    console.print(f"{time.monotonic() - began:.0f} s")
    if json_file is not None:
        write_json(json_file, seed, outcomes)
    if any(outcome.is_bad for outcome in outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
