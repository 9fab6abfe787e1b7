"""``make bench``: hand-written Celery canvas and flowq on the same graphs, side by side, in one run."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.celery_peer import CeleryPeer, TunedCeleryPeer
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.measure import Measurement, measure
from tests.bench.compare.peer import Peer
from tests.bench.compare.report import cpu_ms_per_node, facts, ms_per_node, table, write_json
from tests.bench.compare.shapes import FULL, QUICK

PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        CeleryPeer(),
        TunedCeleryPeer(),
        FlowqPeer("canvas"),
        FlowqPeer("pull"),
        FlowqPeer("canvas", "solo"),
        FlowqPeer("pull", "solo"),
    )
}
DEFAULT_PEERS = "celery,celery-tuned,flowq-canvas,flowq-pull"


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[str, typer.Option()] = "",
    peers: Annotated[str, typer.Option()] = DEFAULT_PEERS,
    full: Annotated[bool, typer.Option()] = False,
    timeout_s: float = 60.0,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    chosen = [PEERS[n] for n in peers.split(",")]
    workloads = [w for w in (FULL if full else QUICK) if not only or w.key in only.split(",")]

    def say(m: Measurement) -> None:
        print(m.round, m.workload.title, m.peer, m.failed or f"{ms_per_node(m):.3f} cpu {cpu_ms_per_node(m):.3f}", flush=True)

    found = measure(chosen, workloads, rounds=rounds, timeout_s=timeout_s, say=say)
    for figure in (ms_per_node, cpu_ms_per_node):
        print(table(found, chosen, "celery-tuned", figure))


if __name__ == "__main__":
    typer.run(main)
