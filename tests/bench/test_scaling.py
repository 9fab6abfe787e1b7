"""The harness of scaling: schedules and graphs. No figure is asserted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.compare.shapes import Sleeping
from tests.bench.scaling.graphs import SHORTEST_MS, from_wfformat, own
from tests.bench.scaling.schedule import list_schedule, lower_bound

DIAMOND = [[], [0], [0], [1, 2]]


@pytest.mark.parametrize(
    ("upstreams", "durations", "slots", "makespan", "bound"),
    [
        ([], [], 2, 0, 0),
        ([[], [], []], [1, 1, 1], 2, 2, 1.5),
        (DIAMOND, [1, 2, 5, 1], 2, 7, 7),
        (DIAMOND, [1, 2, 5, 1], 1, 9, 9),
        ([[], [], [], [2]], [1, 1, 1, 5], 2, 6, 6),  # the one with much after it goes first
        ([[], [0, 0]], [1, 1], 1, 2, 2),
    ],
)
def test_a_list_schedule(upstreams: Any, durations: Any, slots: int, makespan: float, bound: float):
    assert list_schedule(upstreams, durations, slots) == makespan
    assert lower_bound(upstreams, durations, slots) == bound


@pytest.mark.parametrize("name", own())
def test_own_graphs_can_run_in_their_order(name: str):
    graph = own()[name]
    assert all(upstream < number for number, before in enumerate(graph.upstreams) for upstream in before)
    assert min(graph.naps_ms) >= SHORTEST_MS
    assert 1 <= list_schedule(graph.upstreams, graph.naps_ms, 16) / lower_bound(graph.upstreams, graph.naps_ms, 16) < 2


def test_a_workflow_is_read_with_its_run_times_scaled():
    tasks = {"end": (["left", "right"], 10), "left": (["begin"], 20), "begin": ([], 10), "right": (["begin"], 0.01)}
    document = {
        "workflow": {
            "specification": {"tasks": [{"id": name, "parents": parents} for name, (parents, _) in tasks.items()]},
            "execution": {"tasks": [{"id": name, "runtimeInSeconds": time_s} for name, (_, time_s) in tasks.items()]},
        }
    }
    graph = from_wfformat(document, target_s=4, slots=2)
    assert sorted(graph.naps_ms) == [SHORTEST_MS, 1000, 1000, 2000]
    assert graph.upstreams[0] == ()
    assert graph.upstreams[-1] == (1, 2)
    assert graph.expected == [3]


def test_sleeping_graphs_end_where_nothing_follows():
    assert Sleeping(((), (0,), (0,), (1,)), (1, 1, 1, 1)).expected == [2, 3]
