"""What was measured, as Markdown and as JSON."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from statistics import median, quantiles
from typing import Any, TypeAlias

from flowq.standalone import EmbeddedServer
from tests.bench.compare.measure import Measurement
from tests.bench.compare.peer import Peer
from tests.bench.compare.workloads import Workload

Figure: TypeAlias = Callable[[Measurement], float]
"""What a table shows of a measurement: the less, the better."""

PACKAGES = ("flowq", "celery", "kombu", "redis", "hiredis", "pydantic")

MANY = 30
"""Runs of a measurement whose latencies are worth a median and a 99th percentile."""


def facts(further: Sequence[str] = ()) -> dict[str, str]:
    """Give what the figures depend on besides the code; of further packages those that are installed."""
    with EmbeddedServer(appendonly=False) as server:
        found = {
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "load average before": f"{os.getloadavg()[0]:.1f}",
            "server": server.version,
        }
    there = [package for package in further if _version(package) != "none"]
    return found | {"Python": platform.python_version()} | {name: _version(name) for name in (*PACKAGES, *there)}


def ms_per_node(measurement: Measurement) -> float:
    return median(measurement.seconds) / measurement.nodes * 1000


def cpu_ms_per_node(measurement: Measurement) -> float:
    return measurement.cpu_s / len(measurement.seconds) / measurement.nodes * 1000


def p50_ms(measurement: Measurement) -> float:
    return median(measurement.latencies_s) * 1000


def p99_ms(measurement: Measurement) -> float:
    return quantiles(measurement.latencies_s, n=100, method="inclusive")[98] * 1000


def table(found: Sequence[Measurement], peers: Sequence[Peer], base: str, figure: Figure, digits: int = 2) -> str:
    """Give a row for each workload, a column for each peer: the median of its rounds, and the base's divided by it."""

    def cell(value: float | str, to: float | str | None) -> str:
        if isinstance(value, str):
            return value
        return f"{value:.{digits}f} ({to / value:.2f}×)" if isinstance(to, float) and value else f"{value:.{digits}f}"

    return _table(found, peers, base, figure, cell)


def ratios(found: Sequence[Measurement], peers: Sequence[Peer], base: str) -> str:
    """Give how many nodes each peer runs in the time in which the base runs one."""

    def cell(value: float | str, to: float | str | None) -> str:
        return value if isinstance(value, str) else f"{to / value:.2f}" if isinstance(to, float) else "–"

    return _table(found, peers, base, ms_per_node, cell)


def latencies(found: Sequence[Measurement], peers: Sequence[Peer]) -> str:
    """Give the median and the 99th percentile of runs' latencies, where a measurement has many runs; else nothing."""
    many = [measurement for measurement in found if measurement.failed or len(measurement.latencies_s) >= MANY]
    kept = {measurement.workload for measurement in many if not measurement.failed}
    rows = [["", *(peer.title for peer in peers)], ["---", *("---:" for _ in peers)]]
    for workload in dict.fromkeys(measurement.workload for measurement in many if measurement.workload in kept):
        halves, ends = ([of(many, workload, peer.name, figure) for peer in peers] for figure in (p50_ms, p99_ms))
        rows.append([f"{workload.key} {workload.title}", *map(_pair, halves, ends)])
    return markdown(rows) if kept else ""


def headline(found: Sequence[Measurement], own: str, base: str, limit: str) -> str:
    """Give a peer beside the one that it is to beat and the one that nobody can: times per node, and their ratios."""
    rows = [["", "flowq, ms per node", "tuned canvas", "times as fast", "limit", "times the limit's time"]]
    rows.append(["---", *("---:" for _ in rows[0][1:])])
    for workload in workloads_of(found):
        values = [of(found, workload, name, ms_per_node) for name in (own, base, limit)]
        mine, canvas, least = values
        cells = [value if isinstance(value, str) else f"{value:.3f}" for value in values]
        faster = f"{canvas / mine:.1f}" if isinstance(canvas, float) and isinstance(mine, float) else "–"
        above = f"{mine / least:.1f}" if isinstance(least, float) and isinstance(mine, float) else "–"
        rows.append([_name(workload), cells[0], cells[1], faster, cells[2], above])
    return markdown(rows)


def of(found: Sequence[Measurement], workload: Workload, peer: str, figure: Figure) -> float | str:
    """Give the median of a peer's rounds; or why there is none."""
    own = [measurement for measurement in found if (measurement.workload, measurement.peer) == (workload, peer)]
    failed = next((measurement.failed for measurement in own if measurement.failed), "")
    if failed or not own:
        return failed or "–"
    return median(map(figure, own))


def notes(found: Sequence[Measurement], peers: Sequence[Peer]) -> str:
    """Give what a reader must know to compare fairly."""
    times = Counter((measurement.peer, measurement.workload) for measurement in found if not measurement.failed)
    most = max(times.values(), default=0)
    fewer = [
        f"{peer.title} on {workload.key} {workload.title} ({count})"
        for peer in peers
        for workload in workloads_of(found)
        if 0 < (count := times[peer.name, workload]) < most
    ]
    lines = [f"- {peer.title}: {peer.note}." for peer in peers if peer.note]
    lines += [f"- \\* {workload.title}: {workload.note}" for workload in workloads_of(found) if workload.note]
    if fewer:
        lines.append(f"- In fewer rounds, as each takes long: {', '.join(fewer)}.")
    return "\n".join(lines)


def workloads_of(found: Sequence[Measurement]) -> list[Workload]:
    return list(dict.fromkeys(measurement.workload for measurement in found))


def every_round(found: Sequence[Measurement]) -> list[dict[str, Any]]:
    """Give every round's figures, for JSON."""
    return [
        {
            "round": measurement.round,
            "workload": measurement.workload.key,
            "title": measurement.workload.title,
            "peer": measurement.peer,
            "nodes": measurement.nodes,
            "seconds": measurement.seconds,
            "cpu_s": measurement.cpu_s,
            "failed": measurement.failed,
        }
        | _latencies(measurement)
        for measurement in found
    ]


def _latencies(measurement: Measurement) -> dict[str, Any]:
    if len(measurement.latencies_s) < MANY:
        return {}
    return {"run_p50_ms": p50_ms(measurement), "run_p99_ms": p99_ms(measurement)}


def _table(
    found: Sequence[Measurement],
    peers: Sequence[Peer],
    base: str,
    figure: Figure,
    cell: Callable[[float | str, float | str | None], str],
) -> str:
    rows = [["", *(peer.title for peer in peers)], ["---", *("---:" for _ in peers)]]
    for workload in workloads_of(found):
        to = of(found, workload, base, figure)
        cells = [cell(of(found, workload, peer.name, figure), to) for peer in peers]
        rows.append([_name(workload), *cells])
    return markdown(rows)


def _name(workload: Workload) -> str:
    star = " \\*" if workload.note else ""
    return f"{workload.key} {workload.title}{star}"


def _pair(half: float | str, end: float | str) -> str:
    return half if isinstance(half, str) else f"{half:.1f} / {end:.1f}"


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Give a table: its head, the line below that, and its rows."""
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
