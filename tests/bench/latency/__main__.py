"""How soon one node follows another, and a run its submission: ``python -m tests.bench.latency``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.celery_peer import TunedCeleryPeer
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.limit_peer import LimitPeer
from tests.bench.compare.peer import Peer
from tests.bench.compare.report import facts, markdown
from tests.bench.latency.hops import KINDS, Latency, measure
from tests.bench.latency.idle import idle_cores
from tests.bench.report import Report


def main(
    times: Annotated[int, typer.Option(min=1, help="How often each kind is measured in a round.")] = 30,
    rounds: Annotated[int, typer.Option(min=0, help="How often all is measured. 0: 1, full 5.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Five rounds.")] = False,
    idle_s: Annotated[float, typer.Option(help="How long idle workers are watched.")] = 10.0,
    out: Annotated[Path | None, typer.Option(help="A folder for latency.json and latency.md.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables into docs/performance.md.")] = False,
) -> None:
    """Measure hops within and across workers, single diamonds and submissions, beside a canvas and the limit."""
    known = facts()
    peers: list[Peer] = [FlowqPeer("pull"), FlowqPeer("pull", "solo"), TunedCeleryPeer(), LimitPeer()]
    found = measure(
        peers, times=times, rounds=rounds or (5 if full else 1), say=lambda what: print(what, file=sys.stderr)
    )
    idle = idle_cores(idle_s)
    rested = "With nothing to do: " + ", ".join(f"{who} {part:.2%} of a core" for who, part in idle.items()) + "."
    written = {
        peer: {kind: {"seconds": one.seconds, "missed": one.missed} for kind, one in kinds.items()}
        for peer, kinds in found.items()
    }
    parts = {"latency": table(found, peers), "idle": rested}
    Report("latency", known, parts, {"latencies": written, "idle_cores": idle}).publish(out, docs)


def table(found: Mapping[str, Mapping[str, Latency]], peers: Sequence[Peer]) -> str:
    """Give median and 99th percentile of each kind on each peer; the others' medians in terms of the first one's."""
    rows = [["milliseconds, p50 / p99", *(peer.title for peer in peers)]]
    rows.append(["---", *("---:" for _ in peers)])
    for kind in KINDS:
        own = found[peers[0].name][kind].p50_ms
        cells = []
        for peer in peers:
            one = found[peer.name][kind]
            times = f" ({one.p50_ms / own:.2f}×)" if peer is not peers[0] and one.seconds and own else ""
            cells.append(f"{one.p50_ms:.2f} / {one.p99_ms:.2f}{times}" if one.seconds else "–")
        rows.append([kind, *cells])
    return f"In brackets: the median, divided by that of {peers[0].title}.\n\n{markdown(rows)}"


if __name__ == "__main__":
    typer.run(main)
