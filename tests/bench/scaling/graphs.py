"""Graphs of sleeping nodes: the layered one, some in the shapes of published workflows, and those of WfFormat files."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from tests.bench.compare.shapes import Layered, Sleeping
from tests.bench.scaling.schedule import list_schedule

SHORTEST_MS = 10
"""No node sleeps less, however short it was when the workflow ran."""


def own() -> dict[str, Sleeping]:
    """Give the graphs that need no file."""
    layered = Layered(10, 50)
    return {
        "W4, 10 ms each": Sleeping(tuple(map(tuple, layered.upstreams)), (SHORTEST_MS,) * layered.nodes),
        "fork-join of 64, 10 to 50 ms": _drawn(
            {"split": [], **_many("part", 64, ["split"]), "join": _names("part", 64)}
        ),
        "mosaic of 24 tiles, 10 to 50 ms": _drawn(_mosaic(24)),
    }


def read(folder: Path, target_s: float, slots: int) -> dict[str, Sleeping]:
    """Give the graphs of all WfFormat files of a folder, their run times scaled to make a schedule of ``target_s``."""
    return {
        path.stem: from_wfformat(json.loads(path.read_text()), target_s, slots)
        for path in sorted(folder.glob("*.json"))
    }


def from_wfformat(document: Mapping[str, Any], target_s: float, slots: int) -> Sleeping:
    """Read a workflow of WfFormat 1.5 (https://github.com/wfcommons/WfFormat): tasks, parents and run times."""
    tasks = {task["id"]: task for task in document["workflow"]["specification"]["tasks"]}
    times_s = {task["id"]: float(task["runtimeInSeconds"]) for task in document["workflow"]["execution"]["tasks"]}
    order = list(TopologicalSorter({name: task["parents"] for name, task in tasks.items()}).static_order())
    numbers = {name: number for number, name in enumerate(order)}
    upstreams = tuple(tuple(sorted({numbers[parent] for parent in tasks[name]["parents"]})) for name in order)
    durations_s = [times_s.get(name, 0.0) for name in order]
    scale = target_s / (list_schedule(upstreams, durations_s, slots) or 1.0)
    naps_ms = tuple(max(SHORTEST_MS, round(duration_s * scale * 1000)) for duration_s in durations_s)
    return Sleeping(upstreams, naps_ms)


def _mosaic(tiles: int) -> dict[str, list[str]]:
    """Neighbours are compared, all comparisons give a model, and each tile is corrected by that and by itself."""
    compared = {f"compare{i}": [f"tile{i}", f"tile{i + 1}"] for i in range(tiles - 1)}
    corrected = {f"correct{i}": [f"tile{i}", "model"] for i in range(tiles)}
    return {**_many("tile", tiles, []), **compared, "model": [*compared], **corrected, "mosaic": [*corrected]}


def _many(name: str, count: int, upstreams: list[str]) -> dict[str, list[str]]:
    return dict.fromkeys(_names(name, count), upstreams)


def _names(name: str, count: int) -> list[str]:
    return [f"{name}{i}" for i in range(count)]


def _drawn(graph: Mapping[str, Sequence[str]]) -> Sleeping:
    """Give a graph, written in an order in which it can run, with naps drawn at random, the same ones every time."""
    dice, numbers = random.Random(1), {name: number for number, name in enumerate(graph)}
    upstreams = tuple(tuple(numbers[upstream] for upstream in before) for before in graph.values())
    return Sleeping(upstreams, tuple(dice.randint(SHORTEST_MS, 5 * SHORTEST_MS) for _ in graph))
