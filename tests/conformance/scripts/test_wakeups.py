"""Wake-ups: as many as there is work and room for, none too few."""

from __future__ import annotations

from tests.conformance.scripts.desk import Desk, chain, fan_out, node, plan, wakes


def wide(width: int):
    return plan(*(node(f"n{index}") for index in range(width)))


def test_no_more_than_there_are_ready_nodes(desk: Desk) -> None:
    desk.register(slots=8)
    assert len(desk.submit(wide(3))) == 3


def test_no_more_than_there_are_free_slots(desk: Desk) -> None:
    desk.register(slots=4, worker="another")
    assert len(desk.submit(wide(20), "r")) == 6
    assert desk.submit(wide(20), "s", known=True) == [], "all slots are about to drain"


def test_their_tokens_differ(desk: Desk) -> None:
    wakes = desk.submit(wide(5))
    assert len({wake.token for wake in wakes}) == len(wakes) == 2
    assert {wake.token for wake in wakes} == desk.drains()


def test_of_a_queue_without_workers_one(desk: Desk) -> None:
    desk.register(slots=0)
    assert len(desk.submit(wide(5))) == 1


def test_a_worker_that_comes_is_told_of_what_waits(desk: Desk) -> None:
    desk.register(slots=0)
    (first,) = desk.submit(wide(5))
    assert len(desk.register(slots=3)) == 2
    assert first.token in desk.drains()
    assert desk.register(slots=3) == []


def test_a_worker_that_leaves_is_gone(desk: Desk) -> None:
    desk.register(slots=4, worker="another")
    assert desk.register(slots=0, worker="another") == []
    assert desk.client.zrange(desk.keys.workers, 0, -1) == [b"w"]
    assert len(desk.submit(wide(5))) == 2


def test_who_claims_takes_the_place_of_its_wake_up(desk: Desk) -> None:
    wakes = desk.submit(wide(5))
    following = desk.claim_next(token=wakes[0].token)
    assert following.messages == []
    assert len(desk.drains()) == 2


def test_who_finds_nothing_and_does_nothing_has_ended(desk: Desk) -> None:
    assert desk.claim(busy=1) == []
    assert desk.drains() == {"t"}, "it is busy"
    assert desk.claim(busy=0) == []
    assert desk.drains() == set()


def test_the_last_settle_of_a_drain_ends_it(desk: Desk) -> None:
    (wake,) = desk.submit(chain(1))
    desk.settle(*desk.claim(token=wake.token), process=1, token=wake.token)
    assert desk.drains() == set()


def test_who_ends_while_there_is_work_calls_another(desk: Desk) -> None:
    """As a drain does whose time is up: it takes nothing, and its slot goes to whoever is next in the broker."""
    desk.register(slots=1)
    (wake,) = desk.submit(wide(2))
    desk.claim(token=wake.token)
    (following,) = wakes(desk.claim_next(process=0, token=wake.token).messages)
    assert desk.drains() == {following.token}
    assert desk.again().messages == [following], "the first reply was lost, so nobody has sent it"


def test_nothing_is_missed_between_looking_and_ending(desk: Desk) -> None:
    """A drain that finds nothing ends in the same step: what comes next finds its slot free."""
    desk.register(slots=1)
    desk.claim(token="mine")
    assert len(desk.submit(chain())) == 1


def test_new_work_is_told_to_the_queue_that_it_is_for(desk: Desk) -> None:
    desk.submit(plan(node("a"), node("b", 0, queue="side"), node("c", 0)))
    following = desk.settle(*desk.claim(), process=1)
    assert [claim.key for claim in following.claims] == ["2"]
    assert [wake.queue for wake in wakes(following.messages)] == ["side"]


def test_a_forged_one_does_no_harm(desk: Desk) -> None:
    desk.submit(chain())
    assert desk.claim(token="forged", queue="no-such-queue") == []
    assert [claim.key for claim in desk.claim(token="forged")] == ["0"]
    assert "forged" in desk.drains()


def test_the_same_one_twice_does_no_harm(desk: Desk) -> None:
    (wake,) = desk.submit(fan_out(3))
    (source,) = desk.claim(token=wake.token)
    assert desk.claim(token=wake.token) == []
    following = desk.settle(source, process=1, token=wake.token)
    assert [claim.key for claim in following.claims] == ["1"]
    assert wake.token in desk.drains()
