"""``make bench``: flowq, hand-written Celery canvas and the physical limit on the same graphs, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tests.bench.compare.celery_peer import TunedCeleryPeer
from tests.bench.compare.competitors import OWN, USUAL, others
from tests.bench.compare.limit_peer import LimitPeer
from tests.bench.compare.measure import Measurement, measure
from tests.bench.compare.peer import Peer
from tests.bench.compare.picture import picture
from tests.bench.compare.report import (
    cpu_ms_per_node,
    every_round,
    facts,
    headline,
    latencies,
    ms_per_node,
    notes,
    ratios,
    table,
)
from tests.bench.compare.workloads import FULL, QUICK, WORK
from tests.bench.report import Report

OTHERS = others()
NAMES = ",".join(peer.name for peer in USUAL)
HERO = "flowq-pull"
BASE = TunedCeleryPeer.name
"""What the ratios are to."""
LIMIT = LimitPeer()

PACKAGES = ("distributed", "dramatiq", "huey", "ray", "rq", "streaq", "taskiq")
"""Of others, whose versions are told."""

SHORT: dict[str, Any] = {"enough_s": 10.0, "always": (HERO, BASE, LIMIT.name)}
"""What takes a peer so long in all is left out of its further rounds, but for those that are compared in all tables:
so the main table takes ten minutes, not an hour."""

BESIDE = f"{HERO},{BASE},{LIMIT.name}"
"""With whom others are measured."""


def main(
    rounds: Annotated[int, typer.Option(min=0, help="How often all is measured; the median counts. 0: 2, full 5.")] = 0,
    only: Annotated[str, typer.Option(help="Workloads, such as W1,W2; default: all.")] = "",
    peers: Annotated[str, typer.Option(help=f"Some of {','.join(OWN)}.")] = NAMES,
    also: Annotated[str, typer.Option(help=f"Others, where installed: some of {','.join(OTHERS)}, or all.")] = "",
    full: Annotated[bool, typer.Option("--full", help="The big sizes, up to 10,000 nodes.")] = False,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="A folder for compare.json, compare.md and compare.svg.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write tables and picture into docs/performance.md.")] = False,
) -> None:
    """Measure the same graphs on hand-written Celery canvases, on flowq, and on what is physically possible."""
    rounds = rounds or (5 if full else 2)
    workloads = [
        workload for workload in (FULL if full else QUICK) if not only or workload.key in only.upper().split(",")
    ]
    competitors = chosen(peers, also)
    known = facts()
    found = measure(competitors, workloads, rounds=rounds, timeout_s=timeout_s, **SHORT, say=_say)
    shown = picture(found, competitors)
    parts = {f"compare-{name}": part for name, part in tables(found, competitors, rounds).items()}
    written = {"measurements": every_round(found)}
    Report("compare", known, parts, written, {"performance.svg": shown}).publish(out, docs)


def work(
    rounds: Annotated[int, typer.Option(min=0, help="How often all is measured; the median counts. 0: 2, full 5.")] = 0,
    peers: Annotated[str, typer.Option(help=f"Some of {','.join(OWN)}.")] = BESIDE,
    full: Annotated[bool, typer.Option("--full", help="Five rounds.")] = False,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="A folder for work.json and work.md.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write the table into docs/performance.md.")] = False,
) -> None:
    """Measure graphs whose nodes do something: 1 ms of work, or 100 KB to take and to give."""
    rounds = rounds or (5 if full else 2)
    competitors, known = chosen(peers, ""), facts()
    found = measure(competitors, WORK, rounds=rounds, timeout_s=timeout_s, **SHORT, say=_say)
    made = tables(found, competitors, rounds)
    Report("work", known, {"work": made["headline"]}, {"measurements": every_round(found)}).publish(out, docs)


def beside(
    rounds: Annotated[int, typer.Option(min=0, help="How often all is measured; the median counts. 0: 2, full 5.")] = 0,
    also: Annotated[str, typer.Option(help=f"Where installed: some of {','.join(OTHERS)}, or all.")] = "all",
    full: Annotated[bool, typer.Option("--full", help="The big sizes, up to 10,000 nodes.")] = False,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="A folder for others.json and others.md.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables into docs/performance.md.")] = False,
) -> None:
    """Measure other task queues and graph executors, where they are installed, beside flowq."""
    rounds = rounds or (5 if full else 2)
    competitors, known = chosen(BESIDE, also), facts(PACKAGES)
    sizes = FULL if full else QUICK
    found = measure(competitors, sizes, rounds=rounds, timeout_s=timeout_s, **SHORT, say=_say)
    made = tables(found, competitors, rounds)
    parts = {f"others-{name}": made[name] for name in ("times", "cpu", "notes")}
    Report("others", known, parts, {"measurements": every_round(found)}).publish(out, docs)


def chosen(peers: str, also: str) -> list[Peer]:
    """Give the peers of these names, but for those that are not installed."""
    names = peers.split(",")
    if also:
        names += OTHERS if also == "all" else also.split(",")
    known = OWN | OTHERS
    if unknown := set(names) - known.keys():
        raise typer.BadParameter(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    found = []
    for peer in (known[name] for name in dict.fromkeys(names)):
        if missing := peer.missing():
            print(f"{peer.name} is left out: {missing}", file=sys.stderr)
        else:
            found.append(peer)
    return found


def tables(found: Sequence[Measurement], peers: Sequence[Peer], rounds: int) -> dict[str, str]:
    """Give all tables by their names, as far as the peers that they are about have been measured."""
    names = {peer.name for peer in peers}
    brackets = f"; in brackets: how many times as fast as {OWN[BASE].title}" if BASE in names else ""
    made = {}
    if names >= {HERO, BASE, LIMIT.name}:
        made["headline"] = (
            f"Medians of {rounds} interleaved rounds; flowq is {OWN[HERO].title}, the limit has"
            f" {LIMIT.title.removeprefix('limit, ')}.\n\n" + headline(found, HERO, BASE, LIMIT.name)
        )
    made["times"] = (
        f"Milliseconds per node, median of {rounds} rounds{brackets}.\n\n{table(found, peers, BASE, ms_per_node)}"
    )
    if LIMIT.name in names:
        made["rates"] = f"Node rate, as a part of that of the {LIMIT.title}.\n\n{ratios(found, peers, LIMIT.name)}"
    made["cpu"] = (
        "Milliseconds of processor time per node: producer, server and workers together.\n\n"
        + table(found, peers, BASE, cpu_ms_per_node, digits=3)
        if sys.platform == "linux"
        else "Processor time is measured on Linux only."
    )
    if many := latencies(found, peers):
        made["latencies"] = f"Milliseconds from the submission of a run to its result, p50 / p99.\n\n{many}"
    made["notes"] = notes(found, peers)
    return made


def _say(measurement: Measurement) -> None:
    what = measurement.failed or f"{ms_per_node(measurement):.3f} ms per node"
    print(f"round {measurement.round + 1}, {measurement.workload.title}, {measurement.peer}: {what}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
