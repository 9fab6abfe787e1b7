"""What was measured, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

from tests.bench.compare.measure import Measurement
from tests.bench.compare.peer import Peer
from tests.bench.compare.shapes import Workload

PACKAGES = ("flowq", "celery", "kombu", "redis", "pydantic")


def facts(server: str) -> dict[str, str]:
    """Give what the figures depend on besides the code."""
    found = {"machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"}
    found["python"] = platform.python_version()
    found["server"] = server
    return found | {package: version(package) for package in PACKAGES}


def ms_per_node(measurement: Measurement) -> float:
    return median(measurement.seconds) / measurement.nodes * 1000


def cpu_ms_per_node(measurement: Measurement) -> float:
    return measurement.cpu_s / len(measurement.seconds) / measurement.nodes * 1000


def table(
    found: Sequence[Measurement], peers: Sequence[Peer], base: str, figure: Callable[[Measurement], float]
) -> str:
    """Give a row for each workload and a column for each peer: the median of its rounds, and its ratio to the base."""
    rows = [["", *(peer.title for peer in peers)], ["---", *("---:" for _ in peers)]]
    for workload in dict.fromkeys(measurement.workload for measurement in found):
        row = {peer.name: _median(found, workload, peer.name, figure) for peer in peers}
        rows.append([f"{workload.key} {workload.title}", *(_cell(value, row.get(base)) for value in row.values())])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


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


def _median(
    found: Sequence[Measurement], workload: Workload, peer: str, figure: Callable[[Measurement], float]
) -> float | str:
    own = [measurement for measurement in found if (measurement.workload, measurement.peer) == (workload, peer)]
    for measurement in own:
        if measurement.failed:
            return measurement.failed
    return median(map(figure, own)) if own else "–"


def _cell(value: float | str, base: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return f"{value:.2f} ({value / base:.2f}×)" if isinstance(base, float) else f"{value:.2f}"
