"""Runs that are dispatched as a canvas: who asks for what to be sent, and what a node's own message brings."""

from __future__ import annotations

import json

import pytest

from flowq.core.config import RetryPolicy
from flowq.core.types import FlowType, NodeStatus
from flowq.plan import Plan, lower
from flowq.runtime.scripts import Claimed, Delivery
from tests.conformance.scripts.desk import DELAY_MS, Desk, chain, deliveries, fan_in, fan_out, map_plan, node, plan
from tests.property.calls import LONG_S

INLINE = FlowType.INLINE
TWICE = RetryPolicy(max_attempts=2)
LOST_MS = LONG_S * 1000 / 3
"""After so long a message is taken for lost."""

FORK_JOIN = plan(node("a"), node("b", 0), node("c", 0), node("d", 1, 2))
BY_SEGMENT = plan(
    node("map", over=("input", "items"), item_parameter="item"), node("b", 0), node("c", 0), node("d", 1, 2)
)
"""A map, and a segment that begins with two nodes."""


def asked(of: Plan, *keys: str, run: str = "r") -> list[Delivery]:
    """The messages of nodes."""
    return [Delivery(run, of.hash, key, "") for key in keys]


def released(of: Plan, segment: int, run: str = "r") -> Delivery:
    return Delivery(run, of.hash, f"s{segment}", lower(of).fields[f"s{segment}"])


def complete(desk: Desk, *keys: str, alone: bool = False) -> list[Delivery]:
    """Run nodes to their ends, one after the other; gives what is to be sent then."""
    found = []
    for key in keys:
        found += deliveries(desk.answer(desk.take(key), alone=alone).messages)
    return found


def open_map(desk: Desk, items: int) -> list[Delivery]:
    claim = desk.take("0")
    assert desk.extend(claim, 0, items, total=items)
    return [Delivery("r", claim.plan, f"0.{item}", "") for item in range(items)]


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
        "key", ["4", "-1", "", "x", "0.0", "0.", ".0", "00", "0 ", " 0", "0.0.0", "0x0", "1e0", "s0", "document"]
    )
    def test_what_is_no_node(self, desk: Desk, key: str) -> None:
        desk.submit_canvas(FORK_JOIN)
        picked = desk.pick(key)
        assert (picked.claims, picked.messages, picked.status) == ([], [], "gone")
        assert desk.leases() == []

    @pytest.mark.parametrize("key", ["0.3", "0.00", "0.01", "0.1.", "00.1"])
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
        assert desk.answer(*picked.claims).stale == []

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


class TestWithinASegment:
    def test_celery_delivers_what_follows(self, desk: Desk) -> None:
        desk.submit_canvas(FORK_JOIN)
        assert complete(desk, "0", "1", "2") == []
        assert desk.node("3") is NodeStatus.READY
        assert desk.due().keys() == {"3"}, "but it may be lost"
        assert complete(desk, "3") == []
        assert desk.status() == "completed"

    def test_unless_its_message_stood_outside(self, desk: Desk) -> None:
        desk.submit_canvas(FORK_JOIN)
        assert complete(desk, "0") == []
        assert complete(desk, "1", alone=True) == []
        entry = desk.entry("3")
        assert entry is not None
        assert entry.more == "1~"
        assert complete(desk, "2") == asked(FORK_JOIN, "3")

    def test_and_so_on_from_there(self, desk: Desk) -> None:
        desk.submit_canvas(chain(4))
        assert complete(desk, "0", alone=True) == asked(chain(4), "1")
        entry = desk.entry("1")
        assert entry is not None
        assert entry.more == "~"
        assert complete(desk, "1") == asked(chain(4), "2"), "even if the worker does not know"
        assert complete(desk, "2") == asked(chain(4), "3")

    def test_nor_after_what_did_not_complete(self, desk: Desk) -> None:
        three = plan(node("a"), node("b", optional=(0,)), node("c", 1), node("d", 2))
        desk.submit_canvas(three)
        desk.answer(desk.take("0"), kind="failed")
        assert desk.again().stale == [0]
        entry = desk.entry("1")
        assert entry is not None
        assert (entry.status, entry.more) == (NodeStatus.READY, "!")
        assert complete(desk, "1") == asked(three, "2")
        assert complete(desk, "2") == asked(three, "3")

    @pytest.mark.parametrize("kind", ["failed", "skipped"])
    def test_the_worker_that_says_so_is_asked_to_send_it(self, desk: Desk, kind: str) -> None:
        joined = plan(node("a"), node("b"), node("c", 1, optional=(0,)))
        desk.submit_canvas(joined)
        assert desk.answer(desk.take("0"), kind=kind).messages == []
        entry = desk.entry("2")
        assert entry is not None
        assert entry.more == "1!"
        assert complete(desk, "1", alone=True) == asked(joined, "2")
        entry = desk.entry("2")
        assert entry is not None
        assert entry.more == "!", "which says more than that one ran alone"

    def test_what_is_given_back_is_asked_for(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        claim = desk.take("0")
        assert desk.answer(claim, kind="released").messages == asked(chain(), "0")
        assert desk.again().messages == [], "the sweep will ask for it"
        assert desk.due().keys() == {"0"}
        again = desk.take("0")
        assert again.attempt == 1

    def test_no_drain_takes_it(self, desk: Desk) -> None:
        desk.submit_canvas(FORK_JOIN)
        desk.submit(plan(node("a")), "s")
        assert [claim.run for claim in desk.claim(process=5)] == ["s"]


class TestSegments:
    def test_a_segment_is_sent_when_all_its_heads_are_ready(self, desk: Desk) -> None:
        desk.submit_canvas(BY_SEGMENT)
        open_map(desk, 2)
        assert complete(desk, "0.0") == []
        assert complete(desk, "0.1") == [released(BY_SEGMENT, 1)]
        assert json.loads(released(BY_SEGMENT, 1).document) == ["chain", ["group", 1, 2], 3]
        assert desk.due().keys() == {"1", "2"}
        assert desk.again() is not None
        assert complete(desk, "2", "1", "3") == []
        assert desk.status() == "completed"

    def test_once(self, desk: Desk) -> None:
        desk.submit_canvas(BY_SEGMENT)
        open_map(desk, 1)
        item = desk.take("0.0")
        desk.answer(item)
        again = desk.again()
        assert (again.stale, again.messages) == ([0], []), "should it not have arrived, the sweep asks for its heads"
        assert desk.lose("1", "2") == asked(BY_SEGMENT, "1", "2")

    def test_wherever_its_upstream_ran(self, desk: Desk) -> None:
        desk.submit_canvas(BY_SEGMENT)
        open_map(desk, 1)
        assert complete(desk, "0.0", alone=True) == [released(BY_SEGMENT, 1)]
        assert complete(desk, "1", "2") == []

    def test_of_more_heads_than_one_call_releases(self, desk: Desk) -> None:
        wide = plan(
            node("map", over=("input", "items"), item_parameter="item"),
            *(node(f"n{index}", 0) for index in range(700)),
            node("end", *range(1, 701)),
        )
        desk.submit_canvas(wide)
        claim = desk.take("0")
        desk.extend(claim, 0, 1, total=1)
        following = desk.answer(desk.take("0.0"))
        assert (following.unfinished, following.messages) == (["r"], [])
        left, messages = desk.calls.send("advance", run="r")[1]
        assert (left, messages) == (False, [released(wide, 1)])

    def test_not_all_of_whose_heads_will_run(self, desk: Desk) -> None:
        mixed = plan(
            node("map", over=("input", "items"), item_parameter="item"),
            node("b", 0),
            node("c", optional=(0,)),
            node("d", optional=(1, 2)),
        )
        desk.submit_canvas(mixed)
        claim = desk.take("0")
        assert deliveries(desk.answer(claim, kind="failed").messages) == asked(mixed, "2")
        assert complete(desk, "2") == asked(mixed, "3")


class TestInline:
    def test_the_caller_gets_it(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a"), node("b", 0, placement=INLINE), node("c", 1)))
        following = desk.answer(desk.take("0"))
        (inline,) = following.claims
        assert (inline.key, following.messages) == ("1", [])
        assert desk.due() == {}
        assert desk.answer(inline).messages == [], "Celery delivers what follows when the caller's task returns"
        assert desk.node("2") is NodeStatus.READY

    def test_alone_if_the_caller_is(self, desk: Desk) -> None:
        inlined = plan(node("a"), node("b", 0, placement=INLINE), node("c", 1))
        desk.submit_canvas(inlined)
        (inline,) = desk.answer(desk.take("0"), alone=True).claims
        assert desk.answer(inline).messages == asked(inlined, "2")

    def test_if_it_cannot_take_it_it_is_asked_to_send_it(self, desk: Desk) -> None:
        inlined = plan(node("a"), node("b", 0, placement=INLINE), node("c", 1))
        desk.submit_canvas(inlined)
        following = desk.settle(desk.take("0"), token="", inline=False)
        assert (following.claims, following.messages) == ([], asked(inlined, "1"))
        assert complete(desk, "1", alone=True) == asked(inlined, "2")

    def test_hundreds_of_them(self, desk: Desk) -> None:
        many = plan(
            node("a"), *(node(f"n{index}", 0, placement=INLINE) for index in range(40)), node("z", *range(1, 41))
        )
        desk.submit_canvas(many)
        following = desk.answer(desk.take("0"))
        assert [claim.key for claim in following.claims] == [str(number) for number in range(1, 33)]
        assert following.messages == asked(many, *(str(number) for number in range(33, 41)))
        desk.settle(*following.claims, token="")
        sent = [complete(desk, str(number), alone=True) for number in range(33, 41)]
        assert sent == [*[[]] * 7, asked(many, "41")]

    def test_that_others_go_on_with(self, desk: Desk) -> None:
        many = plan(node("a"), *(node(f"n{index}", 0, placement=INLINE) for index in range(510)))
        desk.submit_canvas(many)
        following = desk.answer(desk.take("0"))
        assert (len(following.claims), len(following.messages)) == (32, 468)
        _, messages = desk.calls.send("advance", run="r")[1]
        assert messages == asked(many, *(str(number) for number in range(501, 511)))

    def test_a_repeated_settle_gives_it_again(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a"), node("b", 0, placement=INLINE)))
        following = desk.answer(desk.take("0"))
        again = desk.again()
        assert (again.claims, again.stale) == (following.claims, [0])

    def test_a_source_has_a_message_of_its_own(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a", placement=INLINE), node("b", 0)))
        assert desk.due().keys() == {"0"}
        assert complete(desk, "0") == []


class TestRetries:
    def test_its_message_comes_again(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a", retry=TWICE)))
        first = desk.take("0")
        assert desk.answer(first, kind="failed", retry=True, returns=True).messages == []
        assert desk.again().stale == [0]
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
        assert desk.again().stale == [0]
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


class TestMaps:
    def test_every_item_has_a_message(self, desk: Desk) -> None:
        desk.submit_canvas(map_plan())
        claim = desk.take("0")
        counted, messages = desk.calls.send(
            "extend", run="r", key="0", fence=claim.fence, offset=0, total=3, values=[b"x", b"y"]
        )[1]
        assert (counted, messages) == (True, asked(map_plan(), "0.0", "0.1"))
        assert desk.due().keys() == {"0.0", "0.1"}
        assert desk.ready() == []
        assert [desk.take(key).item for key in ("0.1", "0.0")] == [b"y", b"x"]

    def test_a_repeated_call_opens_none_again(self, desk: Desk) -> None:
        desk.submit_canvas(map_plan())
        claim = desk.take("0")
        desk.extend(claim, 0, 2, total=3)
        complete(desk, "0.0")
        assert desk.extend(claim, 0, 2, total=3)
        assert desk.again() == (True, [])
        assert desk.due().keys() == {"0.1"}

    def test_its_last_item_releases_what_follows(self, desk: Desk) -> None:
        desk.submit_canvas(map_plan())
        open_map(desk, 2)
        assert complete(desk, "0.1", alone=True) == []
        sent = complete(desk, "0.0")
        segments = [index for index, segment in enumerate(lower(map_plan()).segments) if segment.heads != (0,)]
        assert sent == [released(map_plan(), index) for index in segments]

    def test_over_nothing(self, desk: Desk) -> None:
        desk.submit_canvas(BY_SEGMENT)
        claim = desk.take("0")
        sent = desk.calls.send("extend", run="r", key="0", fence=claim.fence, offset=0, total=0, values=[])[1]
        assert sent == (True, [released(BY_SEGMENT, 1)])

    def test_that_gives_up_takes_its_items_along(self, desk: Desk) -> None:
        desk.submit_canvas(map_plan())
        claim = desk.take("0")
        desk.extend(claim, 0, 2, total=3)
        desk.answer(claim, kind="failed")
        assert desk.pick("0.0").status == "cancelled"
        assert desk.lose("0.0", "0.1") == []
        assert not {"0.0", "0.1"} & desk.due().keys()


class TestSweep:
    def test_what_nobody_claims_is_asked_for(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(3))
        assert desk.sweep().messages == [], "they are on their way"
        assert desk.lose("0", "2") == asked(fan_in(3), "0", "2")
        assert (desk.head("lost"), desk.head("lost:0"), desk.head("lost:1")) == ("2", "1", None)
        assert desk.again().messages == []
        assert desk.watched() == {"r": min(desk.due().values())}

    def test_a_message_gets_longer_each_time(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        for times in range(1, 9):
            before = desk.client.time()[0] * 1000
            assert desk.lose("0") == asked(chain(), "0")
            wait = LOST_MS * 2 ** min(times, 6)
            assert before + wait <= desk.due()["0"] <= before + wait + 60_000
        assert (desk.head("lost"), desk.head("lost:0")) == ("8", "8")

    def test_what_is_claimed_is_not_lost(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(2))
        desk.take("0")
        desk.make_due(desk.keys.canvas, "r")
        assert desk.sweep().messages == []
        assert desk.watched() == {"r": desk.due()["1"]}
        desk.take("1")
        desk.make_due(desk.keys.canvas, "r")
        desk.sweep()
        assert desk.watched() == {}, "nothing of it is due"

    def test_more_than_one_call_takes(self, desk: Desk) -> None:
        wide = fan_in(700)
        desk.submit_canvas(wide)
        keys = sorted(str(number) for number in range(700))
        desk.make_due(desk.keys.due("r"), *keys)
        desk.make_due(desk.keys.canvas, "r")
        first, second = (deliveries(desk.sweep().messages) for _ in range(2))
        assert (len(first), len(second)) == (500, 200)
        assert sorted(delivery.key for delivery in (*first, *second)) == keys
        assert desk.sweep().messages == []

    def test_of_what_is_gone(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), "r")
        desk.submit_canvas(chain(), "s", known=True)
        desk.client.unlink(desk.keys.run("r"))
        desk.make_due(desk.keys.canvas, "r", "s")
        assert desk.sweep().messages == []
        assert desk.watched().keys() == {"s"}

    def test_a_dead_worker_s_node_is_asked_for(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        claim = desk.take("0")
        assert deliveries(desk.expire(claim).messages) == asked(chain(), "0")
        assert desk.head("lost") is None, "it is not its message that was lost"
        assert desk.due().keys() == {"0"}
        assert complete(desk, "0", alone=True) == asked(chain(), "1")

    def test_it_goes_on_where_a_caller_died(self, desk: Desk) -> None:
        wide = plan(node("a"), *(node(f"n{index}", 0) for index in range(700)))
        desk.submit_canvas(wide)
        assert desk.answer(desk.take("0"), alone=True).unfinished == ["r"]
        assert len(deliveries(desk.sweep().messages)) in (0, 200)
        assert len(desk.due()) == 700


class TestParked:
    THEN = Delivery("r", chain(1).hash, "then", '{"task": "flowq.result"}')

    def test_it_is_sent_when_the_run_ends(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1))
        assert desk.park(self.THEN.document) == "pending"
        assert desk.again() == "pending"
        assert complete(desk, "0") == [self.THEN]
        assert desk.again().messages == []

    def test_of_a_run_that_is_pulled(self, desk: Desk) -> None:
        desk.submit(chain(1))
        desk.park(self.THEN.document)
        assert self.THEN in desk.settle(*desk.claim()).messages
        assert desk.watched().keys() == {"r"}

    def test_from_the_beginning(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1), parked=self.THEN.document)
        assert complete(desk, "0") == [self.THEN]

    def test_and_again_until_it_is_answered(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1), parked=self.THEN.document)
        complete(desk, "0")
        assert desk.sweep().messages == [], "it is on its way"
        for _ in range(2):
            desk.make_due(desk.keys.canvas, "r")
            assert desk.sweep().messages == [self.THEN]
            assert desk.again().messages == []
        desk.told()
        assert desk.again() is None
        assert (desk.watched(), desk.head("then"), desk.status()) == ({}, None, "completed")

    def test_when_the_run_is_cancelled(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1), parked=self.THEN.document)
        status, messages = desk.calls.send("cancel", run="r")[1]
        assert (status, messages) == ("cancelled", [self.THEN])
        assert desk.cancel() == "cancelled"
        assert desk.again() == ("cancelled", [])
        desk.make_due(desk.keys.canvas, "r")
        assert desk.sweep().messages == [self.THEN]

    def test_not_with_a_run_that_has_ended(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1))
        complete(desk, "0")
        assert desk.park(self.THEN.document) == "completed"
        assert desk.head("then") is None
        assert desk.park("message", "nobody") is None

    def test_it_ends_with_the_run(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1), parked=self.THEN.document)
        complete(desk, "0")
        desk.forget()
        desk.make_due(desk.keys.canvas, "r")
        assert desk.sweep().messages == []
        assert desk.watched() == {}


class TestEnd:
    @pytest.mark.parametrize("cancelled", [False, True])
    def test_every_key_has_an_end(self, desk: Desk, cancelled: bool) -> None:
        whole = plan(
            node("map", over=("input", "items"), item_parameter="item"),
            node("b", 0, retry=TWICE),
            node("c", 0),
            node("d", 1, 2, placement=INLINE),
            node("e", 3),
        )
        desk.submit_canvas(whole)
        open_map(desk, 2)
        complete(desk, "0.0", "0.1")
        desk.answer(desk.take("1"), kind="failed", retry=True, returns=True)
        desk.lose("1", "2")
        if cancelled:
            desk.cancel()
        else:
            complete(desk, "1", alone=True)
            (inline,) = desk.answer(desk.take("2")).claims
            desk.answer(inline)
            complete(desk, "4")
        assert desk.status() == ("cancelled" if cancelled else "completed")
        assert all(0 < life <= 60_000 for life in desk.lives_ms())
        assert desk.watched() == {}
        assert (desk.due(), desk.leases(), desk.timers()) == ({}, [], [])
        left = desk.calls.left()
        assert [key for key, life in left.items() if ":plan:" in key and life < 0] == []
        desk.forget()
        assert [key for key in desk.calls.left() if ":run:" in key] == []

    def test_a_wide_one(self, desk: Desk) -> None:
        desk.submit_canvas(fan_out(600))
        following = desk.answer(desk.take("0"))
        assert following.unfinished == ["r"]
        desk.advance()
        assert len(desk.due()) == 600
        desk.cancel()
        assert desk.due() == {}
