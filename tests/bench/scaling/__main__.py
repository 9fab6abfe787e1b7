"""How flowq uses more workers, and how near it is to a perfect schedule: ``python -m tests.bench.scaling``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer

from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.limit_peer import LimitPeer
from tests.bench.compare.measure import Measurement, measure
from tests.bench.compare.peer import Peer
from tests.bench.compare.report import facts, markdown, of
from tests.bench.compare.shapes import Independent, Sleeping
from tests.bench.compare.workloads import Workload
from tests.bench.report import Report
from tests.bench.scaling.graphs import own, read
from tests.bench.scaling.schedule import list_schedule, lower_bound

SLOTS = 16
WORKERS = (1, 2, 4)
SLEEPERS = Workload("", "independent nodes of 10 ms", Independent(400, "nap"))


def main(
    only: Annotated[str, typer.Option(help="Some of workers,makespan; default: all.")] = "",
    rounds: Annotated[int, typer.Option(min=0, help="How often all is measured; the median counts. 0: 3, full 5.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Five rounds.")] = False,
    instances: Annotated[Path | None, typer.Option(help="A folder of WfFormat files, to be run too.")] = None,
    target_s: Annotated[float, typer.Option(help="Their run times are scaled to take so long.")] = 2.0,
    timeout_s: Annotated[float, typer.Option(help="A run that takes longer has failed.")] = 60.0,
    out: Annotated[Path | None, typer.Option(help="A folder for scaling.json and scaling.md.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write the tables into docs/performance.md.")] = False,
) -> None:
    """Measure how flowq scales with workers, and how near it is to a perfect schedule."""
    chosen = only.split(",") if only else ["workers", "makespan"]
    rounds = rounds or (5 if full else 3)
    known = facts()
    parts, written = dict[str, str](), dict[str, Any]()
    if "workers" in chosen:
        fleets: list[Peer] = [FlowqPeer("pull", workers=workers) for workers in WORKERS]
        found = measure(fleets, [SLEEPERS], rounds=rounds, timeout_s=timeout_s, say=_say)
        parts["scaling"] = (
            f"Nodes of 10 ms a second, by the number of workers with one slot.\n\n{workers_table(found, fleets)}"
        )
        written["workers"] = _seconds(found)
    if "makespan" in chosen:
        graphs = own() | (read(instances, target_s, SLOTS) if instances else {})
        peers: list[Peer] = [FlowqPeer("pull", workers=2, slots=SLOTS // 2), LimitPeer(workers=SLOTS)]
        workloads = [_workload(name, graph) for name, graph in graphs.items()]
        found = measure(peers, workloads, rounds=rounds, timeout_s=timeout_s, say=_say)
        parts["makespan"] = (
            f"Makespan on {SLOTS} slots, divided by that of a perfect list schedule (critical path first).\n\n"
            + makespan_table(found, peers, graphs)
        )
        written["makespan"] = _seconds(found)
        written["bounds_s"] = {name: bound_s(graph) for name, graph in graphs.items()}
    Report("scaling", known, parts, written).publish(out, docs)


def bound_s(graph: Sleeping) -> float:
    """Give the makespan of a perfect list schedule."""
    return list_schedule(graph.upstreams, graph.naps_ms, SLOTS) / 1000


def workers_table(found: Sequence[Measurement], fleets: Sequence[Peer]) -> str:
    """Give the rate of each fleet, and how many times that of the first it is."""
    rows = [["workers", "nodes/s", "times the first"], ["---:", "---:", "---:"]]
    first = of(found, SLEEPERS, fleets[0].name, _seconds_of)
    for workers, fleet in zip(WORKERS, fleets, strict=True):
        seconds = of(found, SLEEPERS, fleet.name, _seconds_of)
        if isinstance(seconds, str) or isinstance(first, str):
            rows.append([str(workers), str(seconds), "–"])
        else:
            rows.append([str(workers), f"{SLEEPERS.shape.nodes / seconds:.0f}", f"{first / seconds:.2f}"])
    return markdown(rows)


def makespan_table(found: Sequence[Measurement], peers: Sequence[Peer], graphs: Mapping[str, Sleeping]) -> str:
    """Give each peer's makespan in terms of the bound; and what no schedule at all could beat."""
    rows = [["", "nodes", "bound, s", "no schedule below", *(peer.title for peer in peers)]]
    rows.append(["---", *("---:" for _ in rows[0][1:])])
    for name, graph in graphs.items():
        bound = bound_s(graph)
        least = lower_bound(graph.upstreams, graph.naps_ms, SLOTS) / 1000
        row = [of(found, _workload(name, graph), peer.name, _seconds_of) for peer in peers]
        cells = [value if isinstance(value, str) else f"{value / bound:.2f}" for value in row]
        rows.append([name, str(graph.nodes), f"{bound:.2f}", f"{least / bound:.2f}", *cells])
    return markdown(rows)


def _workload(name: str, graph: Sleeping) -> Workload:
    return Workload("", name, graph, times=3 if bound_s(graph) < 1 else 1)


def _seconds_of(measurement: Measurement) -> float:
    return median(measurement.seconds)


def _seconds(found: Sequence[Measurement]) -> list[dict[str, Any]]:
    return [
        {
            "round": one.round,
            "title": one.workload.title,
            "peer": one.peer,
            "seconds": one.seconds,
            "failed": one.failed,
        }
        for one in found
    ]


def _say(measurement: Measurement) -> None:
    what = measurement.failed or f"{median(measurement.seconds):.3f} s"
    print(f"round {measurement.round + 1}, {measurement.workload.title}, {measurement.peer}: {what}", file=sys.stderr)


if __name__ == "__main__":
    typer.run(main)
