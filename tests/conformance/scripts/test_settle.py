"""settle: what is recorded of an attempt, once, and what follows from it."""

from __future__ import annotations

import itertools

import pytest

from flowq.core.config import RetryPolicy
from flowq.core.types import FlowType, NodeStatus
from tests.conformance.scripts.desk import DELAY_MS, Desk, Outcome, chain, node, plan

INLINE = FlowType.INLINE
TWICE = RetryPolicy(max_attempts=2)


def test_the_last_node_ends_the_run(desk: Desk) -> None:
    listener = desk.client.pubsub()
    listener.subscribe(desk.keys.finished)
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    desk.submit(chain(2))
    (second,) = desk.settle(*desk.claim(), process=1).claims
    assert desk.status() == "running"
    assert desk.settle(second).claims == []
    assert desk.status() == "completed"
    assert (desk.head("settled"), desk.head("completed"), desk.head("remaining")) == ("2", "2", "0")
    assert all(0 < life <= 60_000 for life in desk.lives_ms())
    assert listener.get_message(timeout=5)["data"] == b"r"
    listener.close()
    assert desk.events()[-1] == "run completed 0 "


def test_only_the_holder_of_the_claim_may_say(desk: Desk) -> None:
    desk.submit(plan(node("a")))
    (first,) = desk.claim()
    desk.expire(first)
    (second,) = desk.claim()
    assert desk.settle(first).stale == [0], "it was taken for dead"
    assert desk.node("0") is NodeStatus.RUNNING
    assert desk.leases() == [second.lease]
    assert desk.settle(second).stale == []
    assert desk.settle(second).stale == [0], "it is settled"


def test_a_node_whose_large_value_was_lost_runs_again(desk: Desk) -> None:
    """The server took the value, died, and came back without it; then the outcome is told."""
    desk.submit(chain(2))
    (claim,) = desk.claim()
    large = Outcome("r", "0", claim.fence, value=b"r{}", kept="digest")
    assert desk.settle(large).stale == []
    assert (desk.node("0"), desk.ready(), desk.leases()) == (NodeStatus.READY, ["r 0"], [])
    (again,) = desk.claim()
    assert (again.attempt, again.crashes) == (1, 0), "it is as if it had not begun"
    desk.client.hset(desk.keys.results("r"), "digest", b"large")
    (second,) = desk.settle(Outcome("r", "0", again.fence, value=b"r{}", kept="digest"), process=1).claims
    assert second.values == [b"r{}"]


@pytest.mark.parametrize("key", ["9", "0.0", "9.9", "x"])
def test_what_is_no_node_does_not_hold_up_the_others(desk: Desk, key: str) -> None:
    desk.submit(plan(node("a")))
    (claim,) = desk.claim()
    assert desk.settle(Outcome("r", key, 1), Outcome("nobody", "0", 1), claim).stale == [0, 1]
    assert desk.status() == "completed"


def test_all_that_happens_can_be_watched(desk: Desk) -> None:
    desk.submit(plan(node("a", retry=TWICE), node("b", 0)))
    desk.fail(*desk.claim(), retry=True)
    desk.fall_due()
    desk.fail(*desk.claim(), retry=True)
    assert desk.events() == [
        "0 running 1 w",
        "0 pending 1 w",
        "0 running 2 w",
        "0 failed 2 w",
        "1 upstream_failed 0 ",
        "run failed 0 ",
    ]


def test_a_repeated_outcome_counts_once(desk: Desk) -> None:
    desk.submit(plan(node("a"), node("b"), node("c", 0, 1)))
    first, second = desk.claim(process=2)
    desk.settle(first)
    assert desk.again().stale == []
    assert desk.settle(first, first).stale == [0, 1]
    assert desk.ready() == [], "one of its two upstreams is settled"
    desk.settle(second)
    assert desk.ready() == ["r 2"]


def test_outcomes_of_several_runs_in_one_call(desk: Desk) -> None:
    desk.submit(chain(), "r")
    desk.submit(chain(), "s", known=True)
    following = desk.settle(*desk.claim(process=2), process=2)
    assert [(claim.run, claim.key) for claim in following.claims] == [("r", "1"), ("s", "1")]
    desk.settle(*following.claims)
    assert (desk.status("r"), desk.status("s")) == ("completed", "completed")


class TestFailures:
    def test_another_attempt_follows_when_its_wait_is_over(self, desk: Desk) -> None:
        desk.submit(plan(node("a", retry=TWICE)))
        desk.fail(*desk.claim(), retry=True)
        assert desk.node("0") is NodeStatus.PENDING
        assert desk.timers() == ["r 0 1"]
        assert 0 < desk.sweep().next_due_ms <= DELAY_MS
        assert desk.ready() == []
        desk.fall_due()
        (second,) = desk.claim()
        assert (second.attempt, second.crashes) == (2, 0)
        assert desk.timers() == []
        desk.settle(second)
        assert desk.status() == "completed"
        assert not desk.client.exists(desk.keys.failures("r")), "a failure that was mended is none"

    @pytest.mark.parametrize("how", ["all attempts are used", "no attempt can mend it"])
    def test_then_it_has_failed(self, desk: Desk, how: str) -> None:
        desk.submit(plan(node("a", retry=TWICE), node("b", 0), node("c", optional=(0,))))
        if how == "all attempts are used":
            desk.fail(*desk.claim(), retry=True)
            desk.fall_due()
        desk.fail(*desk.claim(), retry=how == "all attempts are used")
        assert desk.node("0") is NodeStatus.FAILED
        assert desk.node("1") is NodeStatus.UPSTREAM_FAILED
        desk.settle(*desk.claim())
        assert desk.status() == "failed"
        counts = [desk.head(name) for name in ("settled", "completed", "failed", "upstream_failed")]
        assert counts == ["3", "1", "1", "1"]

    def test_a_failure_that_only_optional_edges_lead_away_from(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b", optional=(0,))))
        desk.fail(*desk.claim(), timed_out=True)
        entry = desk.entry("0")
        assert entry is not None
        assert entry.reason == "timed_out"
        desk.settle(*desk.claim())
        assert desk.status() == "completed"

    def test_a_crash_is_not_counted_as_a_failure(self, desk: Desk) -> None:
        desk.submit(plan(node("a", retry=TWICE)))
        desk.expire(*desk.claim())
        desk.fail(*desk.claim(), retry=True)
        desk.fall_due()
        (third,) = desk.claim()
        assert (third.attempt, third.crashes) == (3, 1)


class TestReleased:
    def test_it_was_no_attempt(self, desk: Desk) -> None:
        desk.submit(plan(node("a")))
        (claim,) = desk.claim()
        desk.settle(Outcome("r", "0", claim.fence, "released"))
        assert desk.again().stale == []
        assert desk.leases() == []
        (again,) = desk.claim()
        assert again.attempt == 1
        assert again.fence > claim.fence

    def test_who_gives_it_back_does_not_get_it_at_once(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b", 0, placement=INLINE)))
        (inline,) = desk.settle(*desk.claim()).claims
        assert desk.settle(Outcome("r", "1", inline.fence, "released"), inline=True).claims == []
        assert desk.ready() == ["r 1"]


class TestInline:
    def test_the_caller_that_settles_its_last_upstream_gets_it(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b"), node("c", 0, 1, placement=INLINE)))
        first, second = desk.claim(process=2)
        assert desk.settle(first).claims == []
        (inline,) = desk.settle(second).claims
        assert inline.key == "2"
        assert desk.leases() == [inline.lease]

    def test_but_not_if_it_cannot_take_it(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b", 0, placement=INLINE)))
        assert desk.settle(*desk.claim(), inline=False).claims == []
        assert desk.ready() == ["r 1"]

    def test_nor_hundreds_of_them(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), *(node(f"n{index}", 0, placement=INLINE) for index in range(100))))
        assert len(desk.settle(*desk.claim()).claims) == 32
        assert len(desk.ready()) == 68


class TestFused:
    FUSED = plan(node("a"), node("b", 0, placement=INLINE, fused=True), node("c", 1, placement=INLINE, fused=True))

    def test_it_is_claimed_and_settled_in_one_step(self, desk: Desk) -> None:
        desk.submit(self.FUSED)
        (claim,) = desk.claim()
        following = desk.settle(claim, Outcome("r", "1", fused=True), Outcome("r", "2", fused=True))
        assert (following.stale, following.claims) == ([], [])
        assert desk.status() == "completed"
        assert desk.leases() == []
        fences = [entry.attempt for entry in map(desk.entry, "012") if entry]
        assert fences == [1, 1, 1]

    def test_what_was_not_run_is_handed_out(self, desk: Desk) -> None:
        desk.submit(self.FUSED)
        (claim,) = desk.claim()
        following = desk.settle(claim, Outcome("r", "1", fused=True))
        assert [claim.key for claim in following.claims] == ["2"]

    def test_a_failed_one_is_tried_again(self, desk: Desk) -> None:
        fused = plan(node("a"), node("b", 0, placement=INLINE, fused=True, retry=TWICE))
        desk.submit(fused)
        (claim,) = desk.claim()
        assert desk.settle(claim, Outcome("r", "1", kind="failed", retry=True, fused=True)).stale == []
        assert desk.timers() == ["r 1 1"]

    def test_it_counts_only_with_its_upstream(self, desk: Desk) -> None:
        desk.submit(self.FUSED)
        (claim,) = desk.claim()
        desk.expire(claim)
        assert desk.settle(claim, Outcome("r", "1", fused=True)).stale == [0, 1]
        (second,) = desk.claim()
        desk.settle(second, inline=False)
        assert desk.ready() == ["r 1"]
        assert desk.settle(claim, Outcome("r", "1", fused=True)).stale == [0, 1], "it may be somebody else's by now"
        assert desk.ready() == ["r 1"]

    def test_a_repeated_call(self, desk: Desk) -> None:
        desk.submit(self.FUSED)
        (claim,) = desk.claim()
        following = desk.settle(claim, Outcome("r", "1", fused=True))
        assert desk.again().claims == following.claims


def test_fences_grow_and_are_never_given_twice(desk: Desk) -> None:
    desk.submit(plan(node("a", max_crashes=9)))
    fences = []
    for _ in range(5):
        (claim,) = desk.claim()
        fences.append(claim.fence)
        desk.expire(claim)
    assert all(before < after for before, after in itertools.pairwise(fences))
