"""claim: who gets what, and what a repeated call gives."""

from __future__ import annotations

from flowq.core.types import FlowType, NodeStatus
from tests.conformance.scripts.desk import Desk, Outcome, chain, fan_in, node, plan


def test_the_oldest_come_first_as_many_as_asked_for(desk: Desk) -> None:
    desk.submit(plan(*(node(f"n{index}") for index in range(4))))
    assert [claim.key for claim in desk.claim(process=3)] == ["0", "1", "2"]
    assert [claim.key for claim in desk.claim(process=3)] == ["3"]
    assert desk.status() == "running"


def test_each_lane_has_its_own_limit(desk: Desk) -> None:
    thread = FlowType.THREAD
    desk.submit(plan(node("a"), node("b"), node("c", placement=thread), node("d", placement=thread)))
    assert [claim.key for claim in desk.claim(process=1, thread=2)] == ["0", "2", "3"]
    assert desk.claim(process=0, thread=5) == []


def test_a_claim_brings_what_the_attempt_needs(desk: Desk) -> None:
    desk.submit(chain())
    (first,) = desk.claim()
    assert (first.run, first.key, first.attempt, first.crashes, first.run_input) == ("r", "0", 1, 0, b"input")
    assert (first.item, first.records, first.values) == (None, None, None)
    (second,) = desk.settle(Outcome("r", "0", first.fence, value=b"zero"), process=1).claims
    assert second.values == [b"zero"]
    assert second.fence > first.fence
    assert desk.leases() == [second.lease]


def test_it_is_noted_who_began_it_and_when(desk: Desk) -> None:
    desk.submit(chain(1))
    before = desk.client.time()[0] * 1000
    (claim,) = desk.claim()
    fields = desk.client.hget(desk.keys.nodes("r"), "0").decode().split("|")
    assert (fields[0], fields[6]) == ("running", "w")
    assert int(fields[4]) >= before
    desk.settle(claim)
    fields = desk.client.hget(desk.keys.nodes("r"), "0").decode().split("|")
    assert 0 <= int(fields[5]) < 60_000, "since it was begun"
    assert int(desk.head("submitted") or 0) <= int(desk.head("started") or 0) <= int(desk.head("ended") or 0)


def test_many_inputs_are_asked_for_by_the_worker(desk: Desk) -> None:
    desk.submit(fan_in(17))
    (sink,) = desk.settle(*desk.claim(process=17), process=1).claims
    assert (sink.key, sink.records, sink.values) == ("17", None, None)


class TestRepeated:
    def test_it_gives_the_same_claims(self, desk: Desk) -> None:
        desk.submit(plan(*(node(f"n{index}") for index in range(4))))
        claims = desk.claim(process=2)
        for _ in range(3):
            assert desk.again().claims == claims
        assert [desk.entry("0"), desk.ready()] == [desk.entry("0"), ["r 2", "r 3"]]
        entry = desk.entry("0")
        assert entry is not None
        assert (entry.attempt, entry.fence) == (1, claims[0].fence)
        assert desk.settle(*claims).stale == []

    def test_of_those_that_are_still_held(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b"), node("c")))
        lost, kept = desk.claim(process=2)
        last = desk.last
        desk.expire(lost)
        assert desk.calls.again(last).claims == [kept]
        assert desk.ready() == ["r 2", "r 0"], "it takes nothing more"

    def test_of_two_threads_of_one_drain(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b"), node("c")))
        first = desk.claim()
        sent = desk.last
        second = desk.claim()
        assert desk.again().claims == second
        assert desk.calls.again(sent).claims == first
        assert desk.ready() == ["r 2"]

    def test_that_found_nothing_takes_nothing_afterwards(self, desk: Desk) -> None:
        """It may arrive when its caller has long gone on: then nobody would have the claim."""
        assert desk.claim() == []
        sent = desk.last
        desk.submit(chain())
        assert desk.calls.again(sent).claims == []
        assert desk.ready() == ["r 0"]

    def test_settle_gives_the_same_next_claims(self, desk: Desk) -> None:
        inline = plan(node("a"), node("b", 0, placement=FlowType.INLINE), node("c", 0))
        desk.submit(inline)
        following = desk.settle(*desk.claim(), process=1)
        assert [claim.key for claim in following.claims] == ["1"]
        assert desk.again().claims == following.claims
        assert desk.ready() == ["r 2"]


def test_without_a_drain_nothing_is_claimed(desk: Desk) -> None:
    """As the watchdog does, which records a timeout and ends its process."""
    desk.submit(plan(node("a"), node("b", 0, placement=FlowType.INLINE)))
    (claim,) = desk.claim()
    assert desk.settle(claim, token="", process=1, inline=False).claims == []
    assert desk.node("1") is NodeStatus.READY
    assert desk.ready() == ["r 1"], "somebody else will"
