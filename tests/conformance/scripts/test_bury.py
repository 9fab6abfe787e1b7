"""bury, vouch and holders: claims are held by processes, and go with them."""

from __future__ import annotations

import pytest

from flowq.core.types import FlowType, NodeStatus
from flowq.plan.model import Node
from tests.conformance.scripts.desk import Desk, Outcome, chain, map_plan, node, plan, wakes
from tests.property.calls import LONG_S
from tests.property.moments import check_fences, check_silence


def many(number: int) -> list[Node]:
    return [node(f"n{index}") for index in range(number)]


class TestBury:
    def test_what_a_dead_process_held_is_ready_at_once(self, desk: Desk) -> None:
        desk.submit(plan(node("a"), node("b"), node("c")))
        claims = desk.claim(process=2)
        messages = desk.bury(desk.calls.holder)
        assert sorted(desk.ready()) == ["r 0", "r 1", "r 2"]
        assert {wake.queue for wake in wakes(messages)} <= {"main"}
        assert (desk.leases(), desk.holders()) == ([], {})
        assert desk.settle(*claims).stale == [0, 1], "what it still says comes too late"
        again = {claim.key: claim for claim in desk.claim(process=3)}
        assert [(again[key].attempt, again[key].crashes) for key in "012"] == [(2, 1), (2, 1), (1, 0)]

    def test_what_its_main_thread_was_at_is_to_blame(self, desk: Desk) -> None:
        thread = FlowType.THREAD
        desk.submit(plan(*many(3), node("t", placement=thread)))
        claims = {claim.key: claim for claim in desk.claim(process=3, thread=1)}
        desk.calls.send("bury", holders=[desk.calls.holder], tokens=[], crashed=True, running=f"{claims['1'].lease} ")
        entries = {key: desk.entry(key) for key in claims}
        assert {key: entry and entry.crashes for key, entry in entries.items()} == {"0": 0, "1": 1, "2": 0, "3": 1}
        assert sorted(desk.ready()) == ["r 0", "r 1", "r 2"]

    def test_a_node_that_was_fused_to_its_claim_is_to_blame_as_well(self, desk: Desk) -> None:
        """It has no attempt of its own yet, so it is held against it when it has one."""
        desk.submit(chain(2))
        for _ in range(2):
            (claim,) = desk.claim()
            running = f"{claim.lease} {'1' if claim.attempt == 1 else ''}"
            desk.calls.send("bury", holders=[desk.calls.holder], tokens=[], crashed=True, running=running)
        (host,) = desk.claim()
        (own,) = desk.settle(host, process=1).claims
        desk.bury(desk.calls.holder)
        assert desk.node("1") is NodeStatus.READY
        assert own.crashes == 0
        desk.claim()
        desk.bury(desk.calls.holder)
        assert desk.node("1") is NodeStatus.FAILED, "it was begun three times"

    def test_what_is_handed_back_is_as_if_it_had_not_begun(self, desk: Desk) -> None:
        desk.submit(plan(node("a", max_crashes=1)))
        desk.claim()
        desk.bury(desk.calls.holder, crashed=False)
        (claim,) = desk.claim()
        assert (claim.attempt, claim.crashes) == (1, 0)

    def test_too_many_deaths_give_a_node_up(self, desk: Desk) -> None:
        desk.submit(plan(node("a", max_crashes=2), node("b", 0)))
        for _ in range(2):
            assert len(desk.claim()) == 1
            desk.bury(desk.calls.holder)
        assert (desk.status(), desk.node("1")) == ("failed", NodeStatus.UPSTREAM_FAILED)
        assert desk.letters() == ["r 0"]
        assert desk.client.pttl(desk.keys.dead) > 60_000, "the run may still be open"

    def test_it_may_be_repeated(self, desk: Desk) -> None:
        desk.submit(plan(node("a")))
        desk.claim()
        desk.bury(desk.calls.holder)
        desk.again()
        (claim,) = desk.claim()
        assert claim.crashes == 1
        desk.bury("nobody")
        assert desk.leases() == [claim.lease]

    def test_its_drains_have_ended(self, desk: Desk) -> None:
        mine, other = desk.submit(plan(*many(9)))
        desk.claim(token=mine.token)
        (wake,) = wakes(desk.bury(desk.calls.holder, tokens=(f"main {mine.token}", "main gone")))
        assert desk.drains() == {other.token, wake.token}, "somebody takes its place"

    def test_more_than_one_call_takes(self, desk: Desk) -> None:
        desk.submit(plan(*many(1300)))
        while desk.claim(process=1300):
            pass
        with desk.counting() as counted:
            desk.bury(desk.calls.holder)
        assert sum(counted.values()) < 500 * 10, counted
        assert len(desk.leases()) == 800
        assert desk.sweep(every_ms=60_000).next_due_ms == 0, "there is more"
        assert desk.sweep(every_ms=60_000).next_due_ms == -1
        assert (desk.leases(), len(desk.ready())) == ([], 1300)

    def test_the_rest_of_what_is_handed_back_has_not_crashed_either(self, desk: Desk) -> None:
        desk.submit(plan(*many(700)))
        desk.claim(process=700)
        desk.claim(process=700)
        desk.bury(desk.calls.holder, crashed=False)
        desk.sweep()
        assert desk.leases() == []
        claims = [*desk.claim(process=700), *desk.claim(process=700)]
        assert {(claim.attempt, claim.crashes) for claim in claims} == {(1, 0)}

    def test_several_at_once(self, desk: Desk) -> None:
        desk.submit(plan(*many(3)))
        first, second, third = desk.claim(process=3)
        desk.calls.lose(first.lease, to="x")
        desk.calls.lose(second.lease, to="y")
        desk.bury("x", "y")
        assert sorted(desk.ready()) == [f"r {first.key}", f"r {second.key}"]
        assert desk.leases() == [third.lease]

    def test_of_a_run_that_was_cancelled_paused_or_forgotten(self, desk: Desk) -> None:
        for run in ("r", "s", "t"):
            desk.submit(plan(node("a")), run)
        desk.claim(process=3)
        desk.cancel("r")
        desk.pause("s")
        desk.cancel("t")
        desk.forget("t")
        desk.bury(desk.calls.holder)
        assert (desk.ready(), desk.aside("s"), desk.leases()) == ([], ["0"], [])

    def test_a_map_goes_on_where_it_was(self, desk: Desk) -> None:
        desk.submit(map_plan())
        (claim,) = desk.claim()
        desk.extend(claim, 0, 2, total=3)
        desk.bury(desk.calls.holder)
        (again,) = [claim for claim in desk.claim(process=9) if claim.key == "0"]
        assert again.opened == 2


class TestVouch:
    def test_they_live_for_another_lease(self, desk: Desk) -> None:
        desk.submit(plan(node("a")))
        desk.claim()
        desk.die()
        assert desk.vouch(desk.calls.holder) == []
        desk.again()
        desk.sweep()
        assert len(desk.leases()) == 1

    def test_who_is_not_known_holds_nothing(self, desk: Desk) -> None:
        assert desk.vouch("nobody") == []
        assert desk.holders() == {}

    def test_it_tells_what_does_not_count_any_more(self, desk: Desk) -> None:
        for run in ("r", "s"):
            desk.submit(plan(node("a"), node("b")), run)
        claims = {f"{claim.run} {claim.key}": claim for claim in desk.claim(process=4)}
        desk.cancel("s")
        own = desk.calls.holder
        assert sorted(desk.vouch(own)) == sorted(f"{own} {claims[key].lease}" for key in ("s 0", "s 1"))
        assert len(desk.leases()) == 4, "their process still has to stop them"


class TestHolders:
    def test_whoever_claims_says_that_it_lives(self, desk: Desk) -> None:
        desk.submit(chain(3))
        before = desk.client.time()[0] * 1000
        for step in (lambda: desk.claim(), lambda: desk.settle(*desk_claims(desk), process=1)):
            desk.client.delete(desk.keys.holders)
            step()
            assert desk.holders()[desk.calls.holder] >= before + LONG_S * 1000

    def test_they_are_known_for_as_long_as_anything_is_open(self, desk: Desk) -> None:
        """However long nobody sweeps, what the dead held must be found."""
        desk.submit(plan(node("a")))
        desk.sweep()
        (claim,) = desk.claim()
        assert desk.client.pttl(desk.keys.holders) == -1
        desk.sweep()
        assert desk.client.pttl(desk.keys.holders) == -1
        desk.settle(claim)
        desk.sweep()
        assert desk.client.pttl(desk.keys.holders) > 0, "nothing is open"

    def test_several_die_each_with_its_own(self, desk: Desk) -> None:
        desk.submit(plan(*many(3)))
        first, second, third = desk.claim(process=3)
        desk.calls.lose(first.lease, to="x", expiry=1)
        desk.calls.lose(second.lease, to="y", expiry=1e15)
        desk.sweep()
        assert desk.ready() == [f"r {first.key}"]
        desk.make_due(desk.keys.holders, "y")
        desk.sweep()
        assert sorted(desk.ready()) == [f"r {first.key}", f"r {second.key}"]
        assert desk.leases() == [third.lease]

    def test_fences_go_by_the_clock(self, desk: Desk) -> None:
        check_fences(desk.calls)

    @pytest.mark.parametrize("silence_s", [2 * LONG_S, LONG_S - 5])
    def test_after_a_silence_they_have_time(self, desk: Desk, silence_s: float) -> None:
        """Also after one that is shorter than a lease: who renewed before it may be overdue."""
        check_silence(desk.calls, silence_s)

    def test_rare_sweeps_are_no_silence(self, desk: Desk) -> None:
        """Else nobody would be dead where the period of sweeps is longer than a lease."""
        desk.submit(plan(node("a")))
        desk.claim()
        period = int(3 * LONG_S * 1000)
        desk.sweep(every_ms=period)
        desk.die()
        now = desk.client.time()[0] * 1000
        desk.client.set(f"{desk.keys.prefix}:swept", f"{now - period - 100} {period}")
        desk.client.delete(f"{desk.keys.prefix}:sweep")
        desk.sweep(every_ms=period)
        assert desk.leases() == []


def desk_claims(desk: Desk) -> list[Outcome]:
    """What the process holds, as completed."""
    held = (lease.split() for lease in desk.leases())
    return [Outcome(run, key, int(fence)) for run, key, fence in held]
