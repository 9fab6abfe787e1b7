"""The critical path: which nodes determined how long a run took."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest

from flowq import FlowType, NodeStatus, flow, optional, task
from flowq.client.critical_path import CriticalPath, critical_path
from flowq.core.result import NodeResult
from flowq.plan import Edge, Node, Plan

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def plan_of(upstreams: dict[str, list[str]], maps: tuple[str, ...] = ()) -> Plan:
    index = {name: position for position, name in enumerate(upstreams)}
    return Plan(
        tuple(
            Node(
                path=name,
                processor=f"steps:{name}",
                edges=tuple(Edge(index[upstream], True, upstream) for upstream in before),
                over=("input",) if name in maps else None,
            )
            for name, before in upstreams.items()
        )
    )


def nodes_of(times: Mapping[str, tuple[float | None, float | None]], **attempts: int) -> dict[str, NodeResult]:
    return {
        name: NodeResult(
            name=name,
            status=NodeStatus.COMPLETED,
            attempt=attempts.get(name, 1),
            started_at=None if started is None else at(started),
            ended_at=None if ended is None else at(ended),
        )
        for name, (started, ended) in times.items()
    }


def names(path: CriticalPath) -> list[str]:
    return [step.node for step in path.steps]


FORK = plan_of({"load": [], "clean": ["load"], "stats": ["load"], "report": ["clean", "stats"]})


def test_of_each_nodes_upstreams_the_last_one_counts():
    times = {"load": (1, 3), "clean": (3, 4), "stats": (5, 9), "report": (9.5, 10)}
    path = critical_path(FORK, nodes_of(times), START)
    assert names(path) == ["load", "stats", "report"]
    assert [step.wait_s for step in path.steps] == [1, 2, 0.5]
    assert [step.run_s for step in path.steps] == [2, 4, 0.5]
    assert [step.share for step in path.steps] == pytest.approx([0.3, 0.6, 0.1])
    assert (path.total_s, path.wait_s, path.run_s) == (10, 3.5, 6.5)


def test_it_ends_with_the_node_that_ended_last_even_if_another_one_is_the_output():
    plan = plan_of({"load": [], "answer": ["load"], "log": ["load"]})
    assert names(critical_path(plan, nodes_of({"load": (0, 1), "answer": (1, 2), "log": (1, 5)}), START)) == [
        "load",
        "log",
    ]


def test_an_upstream_that_the_node_did_not_wait_for_is_none_of_the_path():
    times = {"load": (0, 1), "clean": (1, 2), "stats": (1, 8), "report": (3, 9)}  # report gave up waiting for stats
    assert names(critical_path(FORK, nodes_of(times), START)) == ["load", "clean", "report"]


def test_nodes_of_one_claim_end_together_and_the_times_still_add_up():
    plan = plan_of({"load": [], "note": ["load"], "sign": ["note"]})
    path = critical_path(plan, nodes_of({"load": (0, 4), "note": (4, 4), "sign": (4, 4)}), START)
    assert [(step.node, step.run_s) for step in path.steps] == [("load", 4), ("note", 0), ("sign", 0)]
    assert path.total_s == path.wait_s + path.run_s == 4


def test_a_node_that_never_ran_takes_no_time_but_may_be_waited_for():
    times = {"load": (0, 2), "clean": (None, 2), "stats": (2, 3), "report": (3, 4)}
    assert names(critical_path(FORK, nodes_of(times), START)) == ["load", "stats", "report"]
    times = {"load": (0, 2), "clean": (None, 3), "stats": (None, 2), "report": (3, 4)}
    path = critical_path(FORK, nodes_of(times), START)
    assert [(step.node, step.wait_s, step.run_s) for step in path.steps][1] == ("clean", 1, 0)


def test_a_map_lasts_until_its_items_have_ended():
    plan = plan_of({"load": [], "square": ["load"], "total": ["square"]}, maps=("square",))
    items = {"square[0]": (2.0, 3.0), "square[9]": (2.0, 7.0), "square[10]": (3.0, 5.0)}
    path = critical_path(plan, nodes_of({"load": (0, 1), "square": (1, 7), "total": (7, 8), **items}), START)
    assert [(step.node, step.run_s, step.last_item) for step in path.steps] == [
        ("load", 1, None),
        ("square", 6, "square[9]"),
        ("total", 1, None),
    ]


def test_the_wait_of_a_later_attempt_has_the_earlier_ones_in_it():
    plan = plan_of({"load": [], "send": ["load"]})
    path = critical_path(plan, nodes_of({"load": (0, 1), "send": (5, 6)}, send=3), START)
    assert (path.steps[1].wait_s, path.steps[1].run_s, path.steps[1].attempt) == (4, 1, 3)


def test_of_a_run_that_goes_on_it_is_the_path_so_far():
    path = critical_path(FORK, nodes_of({"load": (0, 1), "clean": (1, 2), "stats": (1, None)}), START)
    assert names(path) == ["load", "clean"]


def test_without_an_ended_node_there_is_no_path():
    assert critical_path(FORK, {}, START) == CriticalPath(total_s=0, wait_s=0, run_s=0, steps=())


def test_clocks_that_do_not_agree_make_no_negative_times():
    path = critical_path(FORK, nodes_of({"load": (0, 3), "clean": (2, 2.5), "stats": (1, 2), "report": (2, 4)}), START)
    assert all(step.wait_s >= 0 and step.run_s >= 0 for step in path.steps)
    assert path.total_s == path.wait_s + path.run_s == 4


@task
def numbers() -> list[int]:
    return [1, 2, 3]


@task(flow_type=FlowType.THREAD)
def double(number: int) -> int:
    return 2 * number


@task
def add(doubled: list[int], also: list[int] | None = None) -> int:
    return sum(doubled) + len(also or [])


@flow
def doubled() -> int:
    found = numbers()
    return add(double.map(found), optional(found))


def test_the_result_of_a_run_is_all_it_needs(flowq_local):
    result = doubled.run()
    path = critical_path(doubled.plan(), result.nodes, result.start_time)
    assert names(path) == ["numbers", "double", "add"]
    assert path.steps[1].last_item in {"double[0]", "double[1]", "double[2]"}
    assert sum(step.share for step in path.steps) == pytest.approx(1)
