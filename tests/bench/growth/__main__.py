"""How flowq's costs grow with a run: ``python -m tests.bench.growth``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.report import facts, markdown
from tests.bench.growth.points import KINDS, Point, points
from tests.bench.report import Report

QUICK = (100, 1_000)
FULL = (100, 1_000, 10_000, 100_000)

MANY = 10_000
"""With fewer nodes, what the server keeps free for itself is more than they take."""

HEAD = [
    *("", "nodes", "ms per node", "CPU ms per node", "Redis bytes per node", "of these, its run", "of these, its plan"),
    *("server's memory, bytes per node", "run and plan in Redis, MB", "plan, s", "submit, s", "producer, MB"),
]


def main(
    only: Annotated[str, typer.Option(help="Kinds, such as chain,map; default: all.")] = "",
    sizes: Annotated[str, typer.Option(help="Numbers of nodes, such as 100,5000.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Up to 100,000 nodes.")] = False,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 300.0,
    out: Annotated[Path | None, typer.Option(help="A folder for growth.json and growth.md.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables into docs/performance.md.")] = False,
) -> None:
    """Measure what a run costs in time and memory, by its size."""
    chosen = [kind for kind in KINDS if not only or kind.name in only.split(",")]
    numbers = [int(size) for size in sizes.split(",")] if sizes else [*(FULL if full else QUICK)]
    known = facts()
    found = []
    for point in points(chosen, numbers, timeout_s):
        found.append(point)
        what = point.failed or f"{point.ms_per_node:.3f} ms per node"
        print(f"{point.kind} of {point.nodes:,}: {what}", file=sys.stderr)
    written = {"points": [asdict(point) for point in found]}
    Report("growth", known, {"growth": sizes_table(found), "growth-keys": keys_table(found)}, written).publish(
        out, docs
    )


def sizes_table(found: Sequence[Point]) -> str:
    """Give a row for each point."""
    rows = [HEAD, ["---", *("---:" for _ in HEAD[1:])], *map(_row, found)]
    return f"What a run costs, by its size; two workers.\n\n{markdown(rows)}"


def keys_table(found: Sequence[Point]) -> str:
    """Give what each kind of keys takes, in the largest run of each kind of flows."""
    largest = {point.kind: point for point in found if not point.failed}
    kinds = sorted({kind for point in largest.values() for kind in point.key_bytes})
    by_key = [
        ["", *(f"{name}, {point.nodes:,}" for name, point in largest.items())],
        ["---", *("---:" for _ in largest)],
    ]
    by_key += [
        [kind, *(f"{point.key_bytes.get(kind, 0) / point.nodes:.1f}" for point in largest.values())] for kind in kinds
    ]
    return f"Bytes per node of each kind of keys, in the largest run.\n\n{markdown(by_key)}"


def _row(point: Point) -> list[str]:
    if point.failed:
        return [point.kind, f"{point.nodes:,}", point.failed, *("–" for _ in HEAD[3:])]
    each = point.nodes
    return [
        point.kind,
        f"{point.nodes:,}",
        f"{point.ms_per_node:.3f}",
        f"{point.cpu_s / each * 1000:.3f}",
        f"{(point.run_bytes + point.plan_bytes) / each:.0f}",
        f"{point.run_bytes / each:.0f}",
        f"{point.plan_bytes / each:.0f}",
        f"{point.used_bytes / each:.0f}" if each >= MANY else "–",
        f"{(point.run_bytes + point.plan_bytes) / 1e6:.2f}",
        f"{point.plan_s:.2f}",
        f"{point.submit_s:.3f}",
        f"{point.producer_bytes / 1e6:.1f}",
    ]


if __name__ == "__main__":
    typer.run(main)
