"""``make bench``: flowq, hand-written Celery canvas and the physical limit on the same graphs, side by side."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.celery_peer import TunedCeleryPeer
from tests.bench.compare.competitors import OWN, USUAL, others
from tests.bench.compare.limit_peer import LimitPeer
from tests.bench.compare.measure import Measurement, measure
from tests.bench.compare.peer import Peer
from tests.bench.compare.picture import picture
from tests.bench.compare.report import cpu_ms_per_node, facts, latencies, ms_per_node, notes, ratios, table, write_json
from tests.bench.compare.workloads import FULL, QUICK

OTHERS = others()
NAMES = ",".join(peer.name for peer in USUAL)
BASE = TunedCeleryPeer.name
"""What the ratios are to."""
LIMIT = LimitPeer()


def main(
    rounds: Annotated[int, typer.Option(min=0, help="How often all is measured; the median counts. 0: 2, full 5.")] = 0,
    only: Annotated[str, typer.Option(help="Workloads, such as W1,W2; default: all.")] = "",
    peers: Annotated[str, typer.Option(help=f"Some of {','.join(OWN)}.")] = NAMES,
    also: Annotated[str, typer.Option(help=f"Others, where installed: some of {','.join(OTHERS)}, or all.")] = "",
    full: Annotated[bool, typer.Option("--full", help="The big sizes, up to 10,000 nodes.")] = False,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="A folder for compare.json, compare.md and compare.svg.")] = None,
) -> None:
    """Measure the same graphs on hand-written Celery canvases, on flowq, and on what is physically possible."""
    rounds = rounds or (5 if full else 2)
    competitors = chosen(peers, also)
    keys = only.upper().split(",")
    workloads = [workload for workload in (FULL if full else QUICK) if not only or workload.key in keys]
    known = facts()

    found = measure(competitors, workloads, rounds=rounds, timeout_s=timeout_s, say=_say)

    text = _report(found, competitors, known, rounds)
    print("\n" + text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / "compare.json", known, found)
        (out / "compare.md").write_text(text)
        (out / "compare.svg").write_text(picture(found, competitors))


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


def _report(found: list[Measurement], peers: list[Peer], known: dict[str, str], rounds: int) -> str:
    names = {peer.name for peer in peers}
    brackets = f"; in brackets: how many times as fast as {OWN[BASE].title}" if BASE in names else ""
    parts = [
        ", ".join(f"{name} {value}" for name, value in known.items()),
        f"Milliseconds per node, median of {rounds} rounds{brackets}.\n\n{table(found, peers, BASE, ms_per_node)}",
    ]
    if LIMIT.name in names:
        parts.append(f"Node rate, as a part of that of the {LIMIT.title}.\n\n{ratios(found, peers, LIMIT.name)}")
    if sys.platform == "linux":
        parts.append(
            "Milliseconds of processor time per node: producer, server and workers together.\n\n"
            + table(found, peers, BASE, cpu_ms_per_node, digits=3)
        )
    if many := latencies(found, peers):
        parts.append(f"Milliseconds from the submission of a run to its result, p50 / p99.\n\n{many}")
    return "\n\n".join([*parts, notes(found, peers)]) + "\n"


def _say(measurement: Measurement) -> None:
    what = measurement.failed or f"{ms_per_node(measurement):.3f} ms per node"
    print(f"round {measurement.round + 1}, {measurement.workload.title}, {measurement.peer}: {what}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
