"""``make bench``: hand-written Celery canvas and flowq on the same graphs, side by side, in one run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.celery_peer import CeleryPeer, TunedCeleryPeer
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.measure import Measurement, measure
from tests.bench.compare.peer import Peer
from tests.bench.compare.report import cpu_ms_per_node, facts, ms_per_node, notes, table, write_json
from tests.bench.compare.shapes import FULL, QUICK

DEFAULT: tuple[Peer, ...] = (CeleryPeer(), TunedCeleryPeer(), FlowqPeer("canvas"), FlowqPeer("pull"))
PEERS = {peer.name: peer for peer in (*DEFAULT, FlowqPeer("canvas", "solo"), FlowqPeer("pull", "solo"))}
USUAL = ",".join(peer.name for peer in DEFAULT)
BASE = TunedCeleryPeer.name
"""What the ratios are to."""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="How often all is measured; the median counts.")] = 3,
    only: Annotated[str, typer.Option(help="Workloads, such as W1,W2; default: all.")] = "",
    peers: Annotated[str, typer.Option(help=f"Some of {','.join(PEERS)}.")] = USUAL,
    full: Annotated[bool, typer.Option("--full", help="The big sizes, up to 10,000 nodes.")] = False,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 60.0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every round's figures there.")] = None,
) -> None:
    """Measure the same graphs on hand-written Celery canvases and on flowq, side by side."""
    unknown = set(peers.split(",")) - PEERS.keys()
    if unknown:
        raise typer.BadParameter(f"no such peers: {', '.join(sorted(unknown))}; there are {', '.join(PEERS)}")
    chosen = [PEERS[name] for name in peers.split(",")]
    keys = only.upper().split(",")
    workloads = [workload for workload in (FULL if full else QUICK) if not only or workload.key in keys]

    found = measure(chosen, workloads, rounds=rounds, timeout_s=timeout_s, say=_say)

    known = facts()
    if json_file is not None:
        write_json(json_file, known, found)
    print("\n" + ", ".join(f"{name} {value}" for name, value in known.items()))
    print(f"\nMilliseconds per node, median of {rounds} rounds; in brackets: times {PEERS[BASE].title}.\n")
    print(table(found, chosen, BASE, ms_per_node))
    if sys.platform == "linux":
        print("\nMilliseconds of processor time per node: producer, server and workers together.\n")
        print(table(found, chosen, BASE, cpu_ms_per_node))
    print("\n" + notes(found, chosen))


def _say(measurement: Measurement) -> None:
    what = measurement.failed or f"{ms_per_node(measurement):.2f} ms per node"
    print(f"round {measurement.round + 1}, {measurement.workload.title}, {measurement.peer}: {what}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
