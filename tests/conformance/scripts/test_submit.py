"""submit, cancel and forget: how a run begins and ends."""

from __future__ import annotations

import pytest

from flowq.core.types import NodeStatus
from flowq.plan import Plan
from flowq.runtime.rows import plan_from
from tests.conformance.scripts.desk import Desk, chain, fan_out, node, plan


def test_what_has_no_upstream_is_ready_on_its_list(desk: Desk) -> None:
    three = plan(node("a"), node("b", queue="side"), node("c", 0, 1))
    wakes = desk.submit(three)
    assert desk.ready("main") == ["r 0"]
    assert desk.ready("side") == ["r 1"]
    assert {wake.queue for wake in wakes} == {"main", "side"}
    assert desk.status() == "pending"
    assert (desk.head("total"), desk.head("remaining")) == ("3", "3")


def test_its_plan_can_be_read(desk: Desk) -> None:
    desk.submit(chain())
    stored = desk.client.hget(desk.keys.plan(chain().hash), "document")
    assert plan_from([stored]) == chain()


def test_an_unknown_plan_stores_nothing(desk: Desk) -> None:
    assert desk.submit(chain(), known=True) == []
    assert desk.status() is None
    assert desk.ready() == []


def test_a_known_plan_need_not_be_sent_again(desk: Desk) -> None:
    desk.submit(chain(), "r")
    assert desk.submit(chain(), "s", known=True) != []
    assert [claim.run for claim in desk.claim(process=2)] == ["r", "s"]


def test_a_repeated_submit_changes_nothing(desk: Desk) -> None:
    wakes = desk.submit(chain())
    again = desk.again()
    assert again.said == ["ok"]
    assert again.messages == wakes, "nobody has sent them, as the first reply was lost"
    assert desk.ready() == ["r 0"]
    assert desk.client.hget(desk.keys.plan(chain().hash), "runs") == b"1"


def test_a_plan_without_nodes_has_ended(desk: Desk) -> None:
    assert desk.submit(Plan(())) == []
    assert desk.status() == "completed"
    assert all(life > 0 for life in desk.lives_ms())


def test_a_plan_is_kept_as_long_as_any_of_its_runs(desk: Desk) -> None:
    desk.submit(chain(), "r", retention_ms=90_000)
    desk.submit(chain(), "s", retention_ms=30_000)
    key = desk.keys.plan(chain().hash)
    desk.cancel("r")
    assert desk.client.pttl(key) == -1, "it is in use"
    desk.cancel("s")
    assert 30_000 < desk.client.pttl(key) <= 90_000
    desk.submit(chain(), "t", known=True)
    assert desk.client.pttl(key) == -1, "it is in use again"


class TestCancel:
    @pytest.mark.parametrize("ended", ["completed", "cancelled"])
    def test_it_gives_the_status_that_holds(self, desk: Desk, ended: str) -> None:
        desk.submit(plan(node("a")))
        if ended == "completed":
            desk.settle(*desk.claim())
        assert desk.cancel() == ended
        assert desk.again() == (ended, [])
        assert desk.status() == ended

    def test_an_unknown_run(self, desk: Desk) -> None:
        assert desk.cancel("nobody") is None

    def test_nothing_of_it_is_claimed_or_recorded_any_more(self, desk: Desk) -> None:
        desk.submit(fan_out(3))
        (source,) = desk.claim()
        desk.settle(source)
        (running,) = desk.claim()
        desk.cancel()
        assert desk.claim(process=5) == []
        assert desk.settle(running).stale == [0]
        assert desk.node(running.key) is NodeStatus.RUNNING, "cancelling writes to no node"
        assert desk.leases() == []
        assert desk.renew(running.lease) == [0]
        assert all(life > 0 for life in desk.lives_ms())

    def test_its_large_values_go_with_it(self, desk: Desk) -> None:
        desk.submit(chain())
        desk.client.hset(desk.keys.results("r"), "digest", b"large")
        desk.cancel()
        assert 0 < desk.client.pttl(desk.keys.results("r")) <= 60_000

    def test_its_retries_and_leases_lead_nowhere(self, desk: Desk) -> None:
        desk.submit(plan(node("a", max_crashes=1), node("b")))
        desk.claim(process=2)
        desk.cancel()
        desk.die()
        desk.sweep()
        assert desk.leases() == []
        assert desk.status() == "cancelled"
        assert desk.ready() == []

    def test_a_run_of_10000_nodes_costs_no_more_than_a_small_one(self, desk: Desk) -> None:
        desk.submit(plan(*(node(f"n{index}") for index in range(10_000))))
        with desk.counting() as counted:
            assert desk.cancel() == "cancelled"
        assert sum(counted.values()) < 30, counted
        while desk.ready():
            assert desk.claim(process=100) == []


class TestForget:
    @pytest.mark.parametrize("claimed", [False, True])
    def test_an_open_run_is_left_alone(self, desk: Desk, claimed: bool) -> None:
        desk.submit(chain())
        if claimed:
            desk.claim()
        assert desk.forget() == ("running" if claimed else "pending")
        assert desk.status() is not None

    def test_an_ended_run_is_gone_at_once(self, desk: Desk) -> None:
        desk.submit(chain())
        desk.fail(*desk.claim())
        desk.client.hset(desk.keys.results("r"), "digest", b"large")
        assert desk.forget() == "failed"
        assert desk.again() == "failed"
        assert desk.forget() is None
        assert [key for key in desk.calls.left() if ":r" in key.removeprefix(desk.keys.prefix)] == []

    def test_what_is_left_of_it_on_a_list_is_dropped(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b")))
        (claim,) = desk.claim()
        desk.cancel()
        desk.forget()
        assert desk.claim(process=5) == []
        assert desk.settle(claim).stale == [0]
        assert desk.leases() == []
        assert desk.renew(claim.lease) == [0]
        assert desk.status() is None
