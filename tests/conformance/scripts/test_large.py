"""Runs of 10,000 nodes: a call's cost is bounded by the edges that it follows, and what is left is gone on with."""

from __future__ import annotations

import pytest

from flowq.core.types import NodeStatus
from tests.conformance.scripts.desk import Desk, Outcome, fan_in, fan_out, map_plan, node, plan, wakes

WIDTH = 10_000
BUDGET = 500
"""Edges that one call follows."""

COMMANDS = 60
"""Those of one call, however many edges it follows."""


@pytest.fixture(autouse=True)
def one_slot(desk: Desk) -> None:
    desk.register(slots=1)


def test_fan_out(desk: Desk) -> None:
    desk.submit(fan_out(WIDTH))
    (source,) = desk.claim()
    with desk.counting() as counted:
        assert desk.settle(source).unfinished == ["r"]
    assert 20 < sum(counted.values()) < COMMANDS, counted
    calls = 1
    left = True
    while left:
        assert len(desk.ready()) == calls * BUDGET
        with desk.counting() as counted:
            left = desk.advance()
        assert sum(counted.values()) < COMMANDS, counted
        calls += 1
    assert calls == WIDTH / BUDGET
    assert len(desk.ready()) == WIDTH
    assert desk.timers() == [], "nobody needs to go on with it"
    assert not desk.advance()
    while claims := desk.claim(process=1000):
        assert desk.settle(*claims).stale == []
    assert desk.status() == "completed"


def test_fan_out_of_failures(desk: Desk) -> None:
    desk.submit(fan_out(WIDTH))
    (source,) = desk.claim()
    assert desk.fail(source).unfinished == ["r"]
    while desk.advance():
        pass
    assert desk.status() == "failed"
    assert desk.head("upstream_failed") == str(WIDTH)
    assert all(life > 0 for life in desk.lives_ms())
    assert desk.timers() in ([], ["r todo 0"])


def test_fan_in(desk: Desk) -> None:
    desk.submit(fan_in(WIDTH))
    done = 0
    while claims := desk.claim(process=500):
        with desk.counting() as counted:
            desk.settle(*claims)
        assert sum(counted.values()) < COMMANDS, counted
        done += len(claims)
        assert (desk.node(str(WIDTH)) is NodeStatus.READY) == (done == WIDTH)
        if done == WIDTH:
            break
    (sink,) = desk.claim()
    assert sink.values is None
    desk.settle(sink)
    assert desk.status() == "completed"


def test_a_map_of_many_items(desk: Desk) -> None:
    desk.submit(map_plan())
    (claim,) = desk.claim()
    for offset in range(0, WIDTH, 1000):
        with desk.counting() as counted:
            assert desk.extend(claim, offset, 1000, total=WIDTH)
        assert sum(counted.values()) < 30, counted
    while (items := desk.claim(process=1000)) and items[0].key not in "12":
        desk.settle(*items)
    assert [item.key for item in items] == ["1", "2"]
    desk.settle(*items)
    assert desk.status() == "completed"
    assert desk.head("settled") == desk.head("total") == str(WIDTH + 3)


def test_a_caller_that_dies_before_it_goes_on(desk: Desk) -> None:
    desk.submit(fan_out(WIDTH))
    desk.settle(*desk.claim())  # and never calls advance
    sweeps = 0
    while desk.client.exists(f"{desk.keys.run('r')}:todo"):
        assert desk.timers() == ["r todo 0"]
        with desk.counting() as counted:
            desk.sweep()
        assert sum(counted.values()) < COMMANDS, counted
        sweeps += 1
    assert sweeps == WIDTH / BUDGET - 1
    assert len(desk.ready()) == WIDTH
    assert desk.timers() == []


def test_others_settle_while_consequences_are_left(desk: Desk) -> None:
    joined = [node(f"n{index}", 0, optional=(1,)) for index in range(BUDGET + 10)]
    desk.submit(plan(node("a"), node("b"), *joined))
    first, second = desk.claim(process=2)
    assert desk.settle(first).unfinished == ["r"]
    assert desk.ready() == []
    assert desk.fail(second).unfinished == ["r"]
    while desk.advance():
        pass
    assert len(desk.ready()) == BUDGET + 10


def test_a_node_goes_by_what_happened_first(desk: Desk) -> None:
    fillers = [node(f"n{index}", 0) for index in range(BUDGET)]
    between = len(fillers) + 2
    desk.submit(plan(node("fails"), node("skips"), *fillers, node("between", 0), node("end", 1, between)))
    first, second = desk.claim(process=2)
    assert desk.fail(first).unfinished == ["r"], "so far, not even the node between them knows"
    assert desk.node(str(between)) is None
    desk.settle(Outcome("r", second.key, second.fence, "skipped"))
    while desk.advance():
        pass
    assert desk.node(str(between + 1)) is NodeStatus.UPSTREAM_FAILED
    assert desk.status() == "failed"


def test_a_cancelled_run_leaves_many_entries(desk: Desk) -> None:
    (wake,) = desk.submit(plan(*(node(f"n{index}") for index in range(WIDTH))), "r")
    desk.cancel("r")
    desk.submit(plan(node("a")), "s")
    calls = 0
    token = wake.token
    while not (following := desk.claim_next(token=token)).claims:
        (wake,) = wakes(following.messages)  # the drain has ended, and another one goes on
        token = wake.token
        calls += 1
        assert len(desk.ready()) == WIDTH + 1 - calls * BUDGET
    assert [claim.run for claim in following.claims] == ["s"]
    assert calls == WIDTH / BUDGET
