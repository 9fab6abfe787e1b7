"""What was measured, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TypeAlias

from flowq.standalone import EmbeddedServer
from tests.bench.compare.measure import Measurement
from tests.bench.compare.peer import Peer
from tests.bench.compare.shapes import Workload

Figure: TypeAlias = Callable[[Measurement], float]
"""What a table shows of a measurement."""

PACKAGES = ("flowq", "celery", "kombu", "redis", "pydantic")


def facts() -> dict[str, str]:
    """Give what the figures depend on besides the code."""
    with EmbeddedServer(appendonly=False) as server:
        found = {
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "server": server.version,
        }
    return found | {"Python": platform.python_version()} | {package: version(package) for package in PACKAGES}


def ms_per_node(measurement: Measurement) -> float:
    return median(measurement.seconds) / measurement.nodes * 1000


def cpu_ms_per_node(measurement: Measurement) -> float:
    return measurement.cpu_s / len(measurement.seconds) / measurement.nodes * 1000


def table(found: Sequence[Measurement], peers: Sequence[Peer], base: str, figure: Figure) -> str:
    """Give a row for each workload and a column for each peer: the median of its rounds, and its ratio to the base."""
    rows = [["", *(peer.title for peer in peers)], ["---", *("---:" for _ in peers)]]
    for workload in _workloads(found):
        row = [_median(found, workload, peer.name, figure) for peer in peers]
        to = next((value for peer, value in zip(peers, row, strict=True) if peer.name == base), None)
        star = " *" if workload.note else ""
        rows.append([f"{workload.key} {workload.title}{star}", *(_cell(value, to) for value in row)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def notes(found: Sequence[Measurement], peers: Sequence[Peer]) -> str:
    """Give what a reader must know to compare fairly."""
    lines = [f"- {peer.title}: {peer.note}." for peer in peers if peer.note]
    lines += [f"- \\* {workload.title}: {workload.note}" for workload in _workloads(found) if workload.note]
    return "\n".join(lines)


def write_json(path: Path, known: dict[str, str], found: Sequence[Measurement]) -> None:
    """Write every round's figures."""
    measurements = [
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
        for measurement in found
    ]
    path.write_text(json.dumps({"facts": known, "measurements": measurements}, indent=1) + "\n")


def _workloads(found: Sequence[Measurement]) -> list[Workload]:
    return list(dict.fromkeys(measurement.workload for measurement in found))


def _median(found: Sequence[Measurement], workload: Workload, peer: str, figure: Figure) -> float | str:
    own = [measurement for measurement in found if (measurement.workload, measurement.peer) == (workload, peer)]
    failed = next((measurement.failed for measurement in own if measurement.failed), "")
    if failed or not own:
        return failed or "–"
    return median(map(figure, own))


def _cell(value: float | str, base: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f} ({value / base:.2f}×)" if isinstance(base, float) else f"{value:.2f}"
