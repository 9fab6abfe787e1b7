"""sweep and renew: what nobody reports is found and put right."""

from __future__ import annotations

import json

from flowq.core.config import RetryPolicy
from flowq.core.types import NodeStatus
from tests.conformance.scripts.desk import DELAY_MS, Desk, chain, fan_out, map_plan, node, plan, wakes


class TestRenew:
    def test_it_prolongs_what_is_held(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b")))
        claims = desk.claim(process=2)
        desk.die()
        assert desk.renew(*(claim.lease for claim in claims)) == []
        desk.sweep()
        assert [desk.node("0"), desk.node("1")] == [NodeStatus.RUNNING] * 2

    def test_a_claim_whose_reply_never_came_is_taken_away(self, desk: Desk) -> None:
        """Its process lives, and does not know of it: it was never begun."""
        desk.submit(plan(node("a", max_crashes=1), node("b", max_crashes=1), node("c")))
        claims = desk.claim(process=3)
        desk.client.zadd(desk.keys.leases(desk.calls.holder), {claim.lease: 1 for claim in claims[:2]})
        assert desk.renew(claims[0].lease) == []
        assert desk.node("1") == NodeStatus.RUNNING, "the call may have been held up"
        assert desk.renew(claims[0].lease) == []
        assert [desk.node(str(index)) for index in range(3)] == [
            NodeStatus.RUNNING,
            NodeStatus.READY,
            NodeStatus.RUNNING,
        ]
        assert desk.leases() == [claims[0].lease, claims[2].lease], "the third may be on its way"
        given_back = desk.entry("1")
        assert given_back is not None
        assert given_back.attempt == 0

    def test_a_claim_that_is_named_after_all_is_kept(self, desk: Desk) -> None:
        desk.submit(plan(node("a")))
        (claim,) = desk.claim()
        desk.client.zadd(desk.keys.leases(desk.calls.holder), {claim.lease: 1})
        for leases in ((), (claim.lease,), (), (claim.lease,)):
            assert desk.renew(*leases) == []
        assert desk.node("0") == NodeStatus.RUNNING

    def test_it_reports_what_is_lost(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b"), node("c")), "r")
        desk.submit(plan(node("a")), "s")
        settled, expired, held, cancelled = desk.claim(process=4)
        desk.settle(settled)
        desk.expire(expired)
        desk.cancel("s")
        leases = [claim.lease for claim in (settled, held, expired, cancelled)]
        assert desk.renew(*leases, "nobody 0 1") == [0, 2, 3, 4]
        assert desk.leases() == [held.lease]

    def test_it_prolongs_drains_that_are_there(self, desk: Desk) -> None:
        desk.submit(chain())
        desk.claim(token="mine")
        desk.make_due(desk.keys.drains("main"), "mine")
        desk.renew(tokens=("main mine", "main gone"))
        desk.sweep()
        assert "mine" in desk.drains()
        assert "gone" not in desk.drains()


class TestLeases:
    def test_an_attempt_whose_worker_died_is_ready_again(self, desk: Desk) -> None:
        (wake,) = desk.submit(plan(node("a")))
        (claim,) = desk.claim(token=wake.token)
        desk.make_due(desk.keys.drains("main"), wake.token)
        swept = desk.expire(claim)
        assert desk.ready() == ["r 0"]
        assert [wake.queue for wake in wakes(swept.messages)] == ["main"]
        (second,) = desk.claim()
        assert (second.attempt, second.crashes) == (2, 1)

    def test_but_a_poison_node_has_failed_when_its_crashes_are_used_up(self, desk: Desk) -> None:
        desk.submit(plan(node("a", max_crashes=2), node("b", 0)))
        desk.expire(*desk.claim())
        desk.expire(*desk.claim())
        assert desk.node("0") is NodeStatus.FAILED
        assert desk.node("1") is NodeStatus.UPSTREAM_FAILED
        assert desk.status() == "failed"
        failure = json.loads(desk.client.hget(desk.keys.failures("r"), "0"))
        assert (failure["kind"], failure["type"]) == ("lost", "flowq.WorkerLost")
        assert "2 attempts died" in failure["message"]

    def test_it_may_be_swept_twice(self, desk: Desk) -> None:
        desk.submit(plan(node("a")))
        desk.expire(*desk.claim())
        desk.again()
        assert desk.ready() == ["r 0"]

    def test_of_an_item(self, desk: Desk) -> None:
        desk.submit(map_plan(max_crashes=1))
        (claim,) = desk.claim()
        desk.extend(claim, 0, 1, total=1)
        desk.expire(*desk.claim())
        assert desk.node("0.0") is NodeStatus.FAILED
        assert desk.node("0") is NodeStatus.FAILED

    def test_more_than_one_call_takes(self, desk: Desk) -> None:
        desk.submit(plan(*(node(f"n{index}") for index in range(700))))
        desk.claim(process=350)
        desk.claim(process=350)
        desk.die()
        assert desk.sweep(every_ms=60_000).next_due_ms == 0
        assert (len(desk.leases()), len(desk.ready())) == (200, 500)
        assert desk.sweep(every_ms=60_000).next_due_ms == -1, "it need not wait for its turn to go on"
        assert (len(desk.leases()), len(desk.ready())) == (0, 700)
        assert not desk.sweep(every_ms=60_000).swept


class TestLock:
    def test_one_worker_sweeps_for_all(self, desk: Desk) -> None:
        desk.submit(plan(node("a")))
        (claim,) = desk.claim()
        desk.die()
        desk.client.set(f"{desk.keys.prefix}:sweep", "somebody", px=60_000)
        swept = desk.sweep(every_ms=60_000)
        assert (swept.swept, swept.messages, swept.next_due_ms) == (False, [], -1)
        assert desk.leases() == [claim.lease]

    def test_it_is_held_for_the_period(self, desk: Desk) -> None:
        assert desk.sweep(every_ms=60_000).swept
        assert 0 < desk.client.pttl(f"{desk.keys.prefix}:sweep") <= 60_000
        assert not desk.sweep(every_ms=60_000, worker="another").swept
        assert desk.sweep(every_ms=0).swept, "whoever must, may"


def test_it_says_when_the_next_timer_is_due(desk: Desk) -> None:
    assert desk.sweep().next_due_ms == -1
    desk.submit(plan(node("a", retry=RetryPolicy(max_attempts=2)), node("b")))
    desk.fail(*desk.claim(), retry=True)
    assert DELAY_MS - 10_000 < desk.sweep().next_due_ms <= DELAY_MS
    desk.cancel()
    assert desk.sweep().next_due_ms == -1
    assert desk.timers() == [], "an ended run waits for nothing"


def test_a_worker_that_died_has_no_slots(desk: Desk) -> None:
    desk.register(slots=8, worker="dead")
    desk.submit(plan(*(node(f"n{index}") for index in range(20))))
    assert len(desk.drains()) == 10
    desk.make_due(desk.keys.workers, "dead")
    desk.sweep()
    assert desk.client.hgetall(f"{desk.keys.prefix}:queue:main:slots") == {b"w": b"2"}
    assert desk.client.zscore(desk.keys.workers, "dead") is None
    assert desk.client.zscore(desk.keys.workers, "w") is not None


def test_lost_wake_ups_are_sent_again(desk: Desk) -> None:
    desk.register(slots=1)
    (first,) = desk.submit(chain())
    assert desk.sweep().messages == [], "it is on its way"
    desk.make_due(desk.keys.drains("main"), first.token)
    (second,) = wakes(desk.sweep().messages)
    assert second.queue == "main"
    assert second.token != first.token


def test_a_drain_that_died_makes_room_for_another(desk: Desk) -> None:
    desk.submit(plan(*(node(f"n{index}") for index in range(5))))
    desk.claim(token="dead")
    assert len(desk.drains()) == 3
    desk.make_due(desk.keys.drains("main"), *desk.drains())
    assert len(desk.sweep().messages) == 2


def test_it_goes_on_where_a_caller_died(desk: Desk) -> None:
    desk.submit(fan_out(1200))
    assert desk.settle(*desk.claim()).unfinished == ["r"]
    assert len(desk.ready()) == 500
    assert desk.sweep().next_due_ms == 0, "and wants to be called again at once"
    assert len(desk.ready()) == 1000
    desk.sweep()
    assert len(desk.ready()) == 1200
    assert desk.timers() == []
