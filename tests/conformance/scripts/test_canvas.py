"""Runs that are dispatched as a canvas: how they begin, and what a node's own message brings."""

from __future__ import annotations

import pytest

from flowq.core.types import NodeStatus
from flowq.plan import Plan, lower
from flowq.runtime.replies import Claimed, Delivery
from tests.conformance.scripts.canvases import FORK_JOIN, INLINE, LOST_MS, TWICE, asked, complete, open_map
from tests.conformance.scripts.desk import DELAY_MS, Desk, chain, deliveries, fan_in, map_plan, node, plan


class TestSubmit:
    def test_its_first_messages_are_expected(self, desk: Desk) -> None:
        before = desk.client.time()[0] * 1000
        assert desk.submit_canvas(fan_in(3)) == [], "the caller knows them"
        assert desk.due().keys() == {"0", "1", "2"}
        assert all(before + LOST_MS <= due <= before + LOST_MS + 60_000 for due in desk.due().values())
        assert desk.watched() == {"r": min(desk.due().values())}
        assert desk.ready() == []
        assert (desk.status(), desk.head("canvas")) == ("pending", lower(fan_in(3)).digest)

    def test_it_is_stored_beside_the_plan(self, desk: Desk) -> None:
        desk.submit_canvas(FORK_JOIN)
        stored = desk.client.hgetall(desk.keys.plan(FORK_JOIN.hash))
        prefix = f"c{lower(FORK_JOIN).digest}"
        assert stored[prefix.encode()] == b"1"
        for name, value in lower(FORK_JOIN).fields.items():
            assert stored[f"{prefix}:{name}".encode()].decode() == value

    def test_a_known_plan_need_not_have_this_canvas(self, desk: Desk) -> None:
        desk.submit(FORK_JOIN, "s")
        desk.submit_canvas(FORK_JOIN, known=True)
        assert desk.status() is None, "nothing was stored"
        desk.submit_canvas(FORK_JOIN)
        desk.submit_canvas(FORK_JOIN, "t", known=True)
        assert (desk.status("r"), desk.status("t")) == ("pending", "pending")
        assert desk.ready() == ["s 0"], "that one is pulled"
        assert desk.due("s") == {}

    def test_a_repeated_one_changes_nothing(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        due = desk.due()
        desk.take("0")
        assert desk.again() is not None
        sent = desk.last
        assert sent.name == "pick"
        desk.submit_canvas(chain())
        assert (desk.due(), desk.node("0")) == ({}, NodeStatus.RUNNING)
        assert due.keys() == {"0"}
        assert desk.client.hget(desk.keys.plan(chain().hash), "runs") == b"1"

    def test_of_many_sources(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(1200))
        assert len(desk.due()) == 1200

    def test_a_plan_without_nodes_has_ended(self, desk: Desk) -> None:
        assert desk.submit_canvas(Plan(()), parked="message") == [Delivery("r", Plan(()).hash, "then", "message")]
        assert desk.status() == "completed"
        assert all(life > 0 for life in desk.lives_ms())


class TestHeld:
    def test_it_lives_no_longer_than_it_is_kept(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(2), held=True, retention_ms=90_000)
        lives = desk.lives_ms()
        assert len(lives) == 2
        assert all(0 < life <= 90_000 for life in lives)
        assert 0 < desk.client.pttl(desk.keys.plan(fan_in(2).hash)) <= 90_000
        assert set(desk.due().values()) == {float("inf")}
        assert desk.sweep().messages == []

    def test_its_plan_is_kept_for_others(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), "s", retention_ms=30_000)
        desk.submit_canvas(chain(), held=True, known=True)
        assert desk.client.pttl(desk.keys.plan(chain().hash)) == -1
        desk.cancel("s")
        assert 30_000 < desk.client.pttl(desk.keys.plan(chain().hash)) <= 60_000

    def test_it_starts_with_its_first_message(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(3), held=True)
        desk.take("1")
        assert desk.status() == "running"
        assert all(life == -1 for life in desk.lives_ms())
        assert desk.client.pttl(desk.keys.plan(fan_in(3).hash)) == -1
        assert desk.due().keys() == {"0", "2"}
        assert max(desk.due().values()) < float("inf")
        assert desk.watched().keys() == {"r"}
        assert desk.lose("0", "2") == asked(fan_in(3), "0", "2")

    def test_also_if_that_message_comes_out_of_turn(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), held=True)
        assert desk.pick("1").status == "pending"
        assert all(life == -1 for life in desk.lives_ms())
        assert desk.due().keys() == {"0"}

    def test_not_by_one_that_is_none_of_its_own(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), held=True)
        assert desk.pick("7").status == "gone"
        assert all(life > 0 for life in desk.lives_ms())

    def test_once(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(2), held=True)
        claim = desk.take("0")
        assert desk.again().claims == [claim]
        desk.answer(claim)
        complete(desk, "1", "2")
        assert desk.status() == "completed"
        plan_key = desk.keys.plan(fan_in(2).hash)
        assert desk.client.hget(plan_key, "runs") == b"0"
        assert 0 < desk.client.pttl(plan_key) <= 60_000
        assert all(0 < life <= 60_000 for life in desk.lives_ms())


class TestPick:
    def test_it_brings_what_the_attempt_needs(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        picked = desk.pick("0")
        (claim,) = picked.claims
        assert (claim.run, claim.key, claim.attempt, claim.crashes, claim.run_input) == ("r", "0", 1, 0, b"input")
        assert (picked.messages, picked.wait_s) == ([], 0)
        assert desk.leases() == [claim.lease]
        assert desk.due() == {}, "nobody waits for its message any longer"
        desk.answer(claim, value=b"zero")
        second = desk.take("1")
        assert second.values == [b"zero"]

    def test_one_message_claims_it_and_others_do_not(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        claim = desk.take("0")
        other = desk.pick("0")
        assert (other.claims, other.status, other.wait_s) == ([], "running", 0)
        desk.answer(claim)
        assert desk.pick("0").status == "completed"
        assert desk.leases() == []

    def test_too_early(self, desk: Desk) -> None:
        desk.submit_canvas(FORK_JOIN)
        complete(desk, "0", "1")
        early = desk.pick("3")
        assert (early.claims, early.status, early.wait_s) == ([], "pending", 0)
        complete(desk, "2")
        assert desk.node("3") is NodeStatus.READY

    @pytest.mark.parametrize(
        "key", ["4", "-1", "", "x", "0.0", ".0", "00", "0 ", " 0", "0.0.0", "0x0", "1e0", "s0", "document"]
    )
    def test_what_is_no_node(self, desk: Desk, key: str) -> None:
        desk.submit_canvas(FORK_JOIN)
        picked = desk.pick(key)
        assert (picked.claims, picked.messages, picked.status) == ([], [], "gone")
        assert desk.leases() == []

    @pytest.mark.parametrize("key", ["0.3", "0.1.", "00.1"])
    def test_what_is_no_item(self, desk: Desk, key: str) -> None:
        desk.submit_canvas(map_plan())
        open_map(desk, 3)
        assert desk.pick(key).status == "gone"
        assert desk.leases() == []

    @pytest.mark.parametrize("run", ["nobody", "", "r s", "r:nodes"])
    def test_what_is_no_run(self, desk: Desk, run: str) -> None:
        desk.submit_canvas(chain())
        complete(desk, "0")
        picked = desk.pick("1", run)
        assert (picked.claims, picked.messages, picked.status) == ([], [], "gone")

    def test_of_an_ended_run(self, desk: Desk) -> None:
        desk.submit_canvas(FORK_JOIN)
        complete(desk, "0")
        desk.cancel()
        assert [desk.pick(key).status for key in "0123"] == ["completed", "cancelled", "cancelled", "cancelled"]
        assert desk.leases() == []

    def test_of_what_will_never_run(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a"), node("b", 0), node("c")))
        desk.answer(desk.take("0"), kind="failed")
        assert (desk.pick("0").status, desk.pick("1").status) == ("failed", "upstream_failed")

    def test_a_repeated_one_gives_the_same(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        picked = desk.pick("0")
        entry = desk.entry("0")
        for _ in range(3):
            assert desk.again().claims == picked.claims
        assert desk.entry("0") == entry
        assert desk.answer(picked.claims[0]).stale == []

    def test_as_long_as_it_is_held(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        lost = desk.take("0")
        sent = desk.last
        assert deliveries(desk.expire(lost).messages) == asked(chain(), "0")
        assert desk.calls.again(sent).claims == []
        second = desk.take("0")
        assert (second.attempt, second.crashes) == (2, 1)
        assert desk.answer(lost).stale == [0], "it was taken for dead"
        assert desk.answer(second).stale == []


class TestRetries:
    def test_its_message_comes_again(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a", retry=TWICE)))
        first = desk.take("0")
        assert desk.answer(first, kind="failed", retry=True, returns=True).messages == []
        assert desk.again().stale == []
        assert desk.timers() == []
        early = desk.pick("0")
        assert (early.claims, early.status) == ([], "pending")
        assert DELAY_MS / 1000 - 30 < early.wait_s <= DELAY_MS / 1000
        assert desk.node("0") is NodeStatus.PENDING

    def test_when_it_comes_in_time_it_is_claimed(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a", retry=TWICE)))
        desk.answer(desk.take("0"), kind="failed", retry=True, returns=True)
        due = desk.due()["0"]
        desk.client.zadd(desk.keys.due("r"), {"0": due - DELAY_MS})
        second = desk.take("0")
        assert (second.attempt, second.crashes) == (2, 0)
        assert desk.again().claims == [second]
        assert desk.due() == {}
        desk.answer(second)
        assert desk.status() == "completed"
        assert not desk.client.exists(desk.keys.failures("r"))

    def test_if_it_is_lost_it_is_asked_for(self, desk: Desk) -> None:
        once = plan(node("a", retry=TWICE))
        desk.submit_canvas(once)
        desk.answer(desk.take("0"), kind="failed", retry=True, returns=True)
        assert deliveries(desk.sweep().messages) == []
        assert desk.lose("0") == asked(once, "0")
        second = desk.take("0")
        desk.answer(second, kind="failed", retry=True, returns=True)
        assert (desk.node("0"), desk.status()) == (NodeStatus.FAILED, "failed")

    def test_or_there_is_a_timer(self, desk: Desk) -> None:
        inlined = plan(node("a"), node("b", 0, placement=INLINE, retry=TWICE))
        desk.submit_canvas(inlined)
        (inline,) = desk.answer(desk.take("0")).claims
        desk.answer(inline, kind="failed", retry=True)
        assert desk.timers() == ["r 1 1"]
        assert desk.due() == {}
        early = desk.pick("1")
        assert (early.status, early.wait_s) == ("pending", 0)
        assert deliveries(desk.fall_due().messages) == asked(inlined, "1")
        assert desk.due().keys() == {"1"}


class TestUnknown:
    """A worker has no such processor."""

    def claim(self, desk: Desk, *, canvas: bool) -> Claimed:
        if canvas:
            desk.submit_canvas(chain())
            return desk.take("0")
        desk.submit(chain())
        return desk.claim()[0]

    @pytest.mark.parametrize("canvas", [False, True])
    def test_it_waits_for_another_worker(self, desk: Desk, canvas: bool) -> None:
        desk.answer(self.claim(desk, canvas=canvas), kind="unknown")
        assert desk.again().stale == []
        entry = desk.entry("0")
        assert entry is not None
        assert (entry.status, entry.attempt, entry.fence) == (NodeStatus.READY, 0, 0)
        assert (desk.leases(), desk.ready(), desk.due()) == ([], [], {})
        assert desk.timers() == ["r 0 again"]
        assert not desk.client.exists(desk.keys.failures("r"))
        swept = desk.fall_due()
        if canvas:
            assert swept.messages == asked(chain(), "0")
            assert desk.due().keys() == {"0"}
        else:
            assert desk.ready() == ["r 0"]
        assert desk.timers() == []

    def test_a_message_that_comes_meanwhile_may_have_it(self, desk: Desk) -> None:
        desk.answer(self.claim(desk, canvas=True), kind="unknown")
        desk.take("0")
        assert desk.fall_due().messages == []
        assert desk.node("0") is NodeStatus.RUNNING

    def test_not_for_ever(self, desk: Desk) -> None:
        desk.answer(self.claim(desk, canvas=True), kind="unknown")
        desk.fall_due()
        since = int(desk.head("unknown:0") or 0)
        desk.client.hset(desk.keys.run("r"), "unknown:0", since - int(desk.calls.settings.unknown_s * 1000))
        desk.answer(desk.take("0"), kind="unknown")
        assert (desk.node("0"), desk.node("1")) == (NodeStatus.FAILED, NodeStatus.UPSTREAM_FAILED)
        assert desk.status() == "failed"
        assert desk.client.hexists(desk.keys.failures("r"), "0")

    def test_of_a_cancelled_run(self, desk: Desk) -> None:
        desk.answer(self.claim(desk, canvas=True), kind="unknown")
        desk.cancel()
        assert desk.fall_due().messages == []
        assert desk.timers() == []
