"""How flowq's costs grow with a run: ``python -m tests.bench.growth``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare.report import facts, markdown
from tests.bench.growth.points import KINDS, Point, Submits, points, submits

QUICK = (100, 1_000)
FULL = (100, 1_000, 10_000, 100_000)

HEAD = [
    *("", "nodes", "ms per node", "CPU ms per node", "Redis bytes per node", "of these, its run", "of these, its plan"),
    *("server's memory, bytes per node", "plan, s", "submit, s", "producer, MB"),
]


def main(
    only: Annotated[str, typer.Option(help="Kinds, such as chain,map; default: all.")] = "",
    sizes: Annotated[str, typer.Option(help="Numbers of nodes, such as 100,5000.")] = "",
    full: Annotated[bool, typer.Option("--full", help="Up to 100,000 nodes.")] = False,
    times: Annotated[int, typer.Option(min=2, help="How often a known flow is submitted.")] = 300,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 300.0,
    out: Annotated[Path | None, typer.Option(help="A folder for growth.json and growth.md.")] = None,
) -> None:
    """Measure what a run costs in time and memory, by its size; and what it costs to submit a known flow."""
    chosen = [kind for kind in KINDS if not only or kind.name in only.split(",")]
    numbers = [int(size) for size in sizes.split(",")] if sizes else [*(FULL if full else QUICK)]
    known = facts()
    found = []
    for point in points(chosen, numbers, timeout_s):
        found.append(point)
        what = point.failed or f"{point.ms_per_node:.3f} ms per node"
        print(f"{point.kind} of {point.nodes:,}: {what}", file=sys.stderr)
    submitted = submits(times)

    text = report(found, submitted, known)
    print("\n" + text)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        written = {"facts": known, "points": [asdict(point) for point in found]}
        written["submits"] = [asdict(one) | {"p50_ms": one.p50_ms, "p99_ms": one.p99_ms} for one in submitted]
        (out / "growth.json").write_text(json.dumps(written, indent=1) + "\n")
        (out / "growth.md").write_text(text)


def report(found: Sequence[Point], submitted: Sequence[Submits], known: dict[str, str]) -> str:
    """Give the tables: the points, the keys of the largest ones, and the submits."""
    rows = [HEAD, ["---", *("---:" for _ in HEAD[1:])], *map(_row, found)]
    largest = {point.kind: point for point in found if not point.failed}
    kinds = sorted({kind for point in largest.values() for kind in point.key_bytes})
    by_key = [
        ["", *(f"{name}, {point.nodes:,}" for name, point in largest.items())],
        ["---", *("---:" for _ in largest)],
    ]
    by_key += [
        [kind, *(f"{point.key_bytes.get(kind, 0) / point.nodes:.1f}" for point in largest.values())] for kind in kinds
    ]
    times = [["", "p50, ms", "p99, ms"], ["---", "---:", "---:"]]
    times += [[one.how, f"{one.p50_ms:.3f}", f"{one.p99_ms:.3f}"] for one in submitted]
    parts = [
        ", ".join(f"{name} {value}" for name, value in known.items()),
        f"What a run costs, by its size; two workers.\n\n{markdown(rows)}",
        f"Bytes per node of each kind of keys, in the largest run.\n\n{markdown(by_key)}",
        f"Submitting a flow that is known, {len(submitted[0].seconds)} times.\n\n{markdown(times)}",
    ]
    return "\n\n".join(parts) + "\n"


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
        f"{point.used_bytes / each:.0f}",
        f"{point.plan_s:.2f}",
        f"{point.submit_s:.3f}",
        f"{point.producer_bytes / 1e6:.1f}",
    ]


if __name__ == "__main__":
    typer.run(main)
