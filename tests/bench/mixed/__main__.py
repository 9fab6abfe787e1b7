"""How flows go together with other tasks of a Celery app: ``python -m tests.bench.mixed``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.report import facts, markdown
from tests.bench.mixed.probe import Waits, measure
from tests.bench.report import Report

NODES, FULL_NODES = 2_000, 10_000


def main(
    nodes: Annotated[int, typer.Option(min=0, help="Of the flow; 0: 2,000, full 10,000.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="A flow of 10,000 nodes.")] = False,
    idle_s: Annotated[float, typer.Option(help="Beside nothing, for so long.")] = 5.0,
    timeout_s: Annotated[float, typer.Option(help="What takes longer has failed.")] = 120.0,
    out: Annotated[Path | None, typer.Option(help="A folder for mixed.json and mixed.md.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables into docs/performance.md.")] = False,
) -> None:
    """Measure how long other tasks wait for their start while a flow runs on the same workers."""
    nodes = nodes or (FULL_NODES if full else NODES)
    known = facts()
    found = measure(nodes, idle_s=idle_s, timeout_s=timeout_s)
    for one in found:
        print(f"beside {one.what}: p50 {one.p50_ms:.1f} ms, p99 {one.p99_ms:.1f} ms", file=sys.stderr)
    written = [asdict(one) | {"p50_ms": one.p50_ms, "p99_ms": one.p99_ms} for one in found]
    Report("mixed", known, {"mixed": table(found, nodes)}, {"nodes": nodes, "waits": written}).publish(out, docs)


def table(found: Sequence[Waits], nodes: int) -> str:
    """Give the waits beside each."""
    rows = [["what runs beside", "p50, ms", "p99, ms", "longest, ms", "other tasks", "nodes took, s"]]
    rows.append(["---", *("---:" for _ in rows[0][1:])])
    for one in found:
        figures = [f"{value:,.1f}" for value in (one.p50_ms, one.p99_ms, one.most_ms)]
        took = "–" if one.what == "nothing" else f"{one.ran_s:.2f}"
        rows.append([one.what, *figures, str(len(one.seconds)), took])
    return (
        f"From the sending of another task to its start, on the same two workers and the same queue, while {nodes:,}"
        f" nodes of 1 ms run.\n\n{markdown(rows)}"
    )


if __name__ == "__main__":
    typer.run(main)
