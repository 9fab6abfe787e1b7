"""pause and resume: nothing more of a run begins, and nothing of it is lost meanwhile."""

from __future__ import annotations

from flowq.core.config import RetryPolicy
from flowq.core.types import NodeStatus
from tests.conformance.scripts.canvases import asked, complete
from tests.conformance.scripts.desk import Desk, Outcome, chain, deliveries, fan_out, map_plan, node, plan, wakes

MANY = 1200
"""More than one call brings back, twice over."""


def test_nothing_of_it_is_claimed_until_it_is_resumed(desk: Desk) -> None:
    desk.submit(plan(node("a"), node("b")))
    assert desk.pause() == "pending"
    assert desk.claim(process=2) == []
    assert (desk.ready(), desk.aside()) == ([], ["0", "1"])
    desk.make_due(desk.keys.drains("main"), *desk.drains())
    changed = desk.resume()
    assert changed is not None
    assert (changed.said, changed.unfinished) == ("pending", False)
    assert {wake.queue for wake in wakes(changed.messages)} == {"main"}
    assert sorted(claim.key for claim in desk.claim(process=2)) == ["0", "1"]
    assert desk.events()[:2] == ["run paused 0 ", "run resumed 0 "]


def test_what_runs_goes_on_and_is_recorded(desk: Desk) -> None:
    desk.submit(chain(3))
    (claim,) = desk.claim()
    desk.pause()
    assert desk.renew(claim.lease) == [], "it keeps its claim"
    assert desk.settle(claim, process=1).claims == [], "what follows it does not begin"
    assert (desk.node("0"), desk.node("1")) == (NodeStatus.COMPLETED, NodeStatus.READY)
    assert (desk.ready(), desk.aside()) == ([], ["1"])
    desk.resume()
    desk.finish()
    assert desk.status() == "completed"


def test_others_are_not_in_its_way(desk: Desk) -> None:
    desk.submit(plan(*(node(f"n{index}") for index in range(20))), "r")
    desk.submit(plan(node("a")), "s")
    desk.pause("r")
    assert [claim.run for claim in desk.claim()] == ["s"], "a drain passes what is paused"
    assert len(desk.aside("r")) == 20


def test_whatever_makes_a_node_ready_sets_it_aside(desk: Desk) -> None:
    twice = RetryPolicy(max_attempts=2)
    of = plan(node("retried", retry=twice), node("lost"), node("given back"), node("map", over=("input", "items")))
    desk.submit(of)
    retried, lost, given_back, opener = desk.claim(process=4)
    desk.pause()
    desk.fail(retried, retry=True)
    desk.fall_due()
    desk.expire(lost)
    desk.settle(Outcome("r", given_back.key, given_back.fence, "released"))
    assert desk.extend(opener, 0, 2, total=2)
    assert (desk.ready(), sorted(desk.aside())) == ([], ["0", "1", "2", "3.0", "3.1"])
    desk.resume()
    assert sorted(desk.ready()) == ["r 0", "r 1", "r 2", "r 3.0", "r 3.1"]


def test_inline_nodes_do_not_begin_either(desk: Desk) -> None:
    from flowq.core.types import FlowType

    desk.submit(plan(node("a"), node("b", 0, placement=FlowType.INLINE)))
    (claim,) = desk.claim()
    desk.pause()
    assert desk.settle(claim, inline=True).claims == []
    assert desk.aside() == ["1"]


def test_but_one_that_has_run_already_counts(desk: Desk) -> None:
    """It was fused to a node that was running: its worker did not know."""
    from flowq.core.types import FlowType

    desk.submit(plan(node("a"), node("b", 0, placement=FlowType.INLINE)))
    (claim,) = desk.claim()
    desk.pause()
    following = desk.settle(claim, Outcome("r", "1", fused=True))
    assert following.stale == []
    assert desk.status() == "completed"


def test_they_may_be_repeated(desk: Desk) -> None:
    desk.submit(chain())
    desk.pause()
    assert desk.again() == "pending"
    assert desk.pause() == "pending"
    assert desk.claim() == []
    desk.resume()
    assert desk.ready() == ["r 0"]
    again = desk.again()
    assert (again.said, again.unfinished) == ("pending", False)
    assert desk.ready() == ["r 0"], "once"
    assert [event for event in desk.events() if event.startswith("run ")] == ["run paused 0 ", "run resumed 0 "]


def test_of_what_is_not_there_or_has_ended(desk: Desk) -> None:
    assert (desk.pause("nobody"), desk.resume("nobody")) == (None, None)
    desk.submit(plan(node("a")))
    desk.settle(*desk.claim())
    before = desk.client.hgetall(desk.keys.run("r"))
    assert desk.pause() == "completed"
    changed = desk.resume()
    assert changed is not None
    assert changed == ("completed", [], False)
    assert desk.client.hgetall(desk.keys.run("r")) == before
    assert all(life > 0 for life in desk.lives_ms())


def test_a_paused_run_is_cancelled_and_leaves_nothing(desk: Desk) -> None:
    desk.submit(fan_out(3))
    desk.pause()
    desk.claim(process=9)
    assert desk.aside() == ["0"]
    assert desk.cancel() == "cancelled"
    assert desk.aside() == []
    assert all(life > 0 for life in desk.lives_ms())
    changed = desk.resume()
    assert changed is not None
    assert changed.said == "cancelled"
    assert desk.claim() == []


def test_a_deadline_passes_while_it_is_paused(desk: Desk) -> None:
    desk.submit(chain(), deadline_ms=50_000)
    desk.pause()
    desk.fall_due()
    assert (desk.status(), desk.head("reason")) == ("failed", "deadline")


def test_more_than_one_call_brings_back(desk: Desk) -> None:
    desk.submit(plan(*(node(f"n{index}") for index in range(MANY))))
    desk.pause()
    while desk.ready():
        desk.claim(token="finish")
    assert len(desk.aside()) == MANY
    with desk.counting() as counted:
        changed = desk.resume()
    assert changed is not None
    assert changed.unfinished
    assert sum(counted.values()) < 500 * 8, counted
    assert len(desk.ready()) == 500
    assert desk.timers() == ["r todo 0"], "the caller may die now"
    assert desk.advance()
    desk.sweep()
    assert (len(desk.ready()), desk.aside(), desk.timers()) == (MANY, [], [])
    assert not desk.advance()


def test_it_is_paused_again_before_all_is_back(desk: Desk) -> None:
    desk.submit(plan(*(node(f"n{index}") for index in range(MANY))))
    desk.pause()
    while desk.ready():
        desk.claim(token="finish")
    desk.resume()
    desk.pause()
    assert not desk.advance(), "nobody is to go on with it"
    assert desk.timers() == []
    assert desk.claim() == []
    desk.resume()
    while desk.advance():
        pass
    desk.finish()
    assert desk.status() == "completed"


def test_its_cost_does_not_grow_with_the_flow(desk: Desk) -> None:
    costs = []
    desk.submit(chain())
    desk.pause()  # the first call loads the script
    for width in (10, 5000):
        desk.submit(plan(*(node(f"n{index}") for index in range(width))), f"r{width}")
        with desk.counting() as counted:
            desk.pause(f"r{width}")
        costs.append(sum(counted.values()))
    assert costs[0] == costs[1] < 30


class TestCanvas:
    def test_a_message_finds_it_paused(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        desk.pause()
        picked = desk.pick("0")
        assert (picked.claims, picked.status) == ([], "paused")
        assert desk.aside() == ["0"]
        assert desk.due() == {}, "nobody waits for its message"
        changed = desk.resume()
        assert changed is not None
        assert deliveries(changed.messages) == asked(chain(), "0")
        assert complete(desk, "0") == []
        complete(desk, "1")
        assert desk.status() == "completed"

    def test_what_is_lost_meanwhile_is_kept_and_counts_as_no_loss(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        desk.pause()
        assert desk.lose("0") == []
        assert (desk.aside(), desk.due(), desk.head("lost")) == (["0"], {}, None)
        assert desk.watched() == {}, "nothing of it is due"
        changed = desk.resume()
        assert changed is not None
        assert deliveries(changed.messages) == asked(chain(), "0")

    def test_what_becomes_ready_is_sent_when_it_is_resumed(self, desk: Desk) -> None:
        desk.submit_canvas(chain(3))
        claim = desk.take("0")
        desk.pause()
        assert deliveries(desk.answer(claim).messages) == []
        picked = desk.pick("1")  # Celery goes on by itself
        assert (picked.claims, picked.status) == ([], "paused")
        changed = desk.resume()
        assert changed is not None
        assert deliveries(changed.messages) == asked(chain(3), "1")

    def test_one_that_is_held_leaves_nothing_behind(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), held=True, retention_ms=60_000)
        desk.pause()
        desk.resume()
        desk.pause()
        assert all(0 < life <= 60_000 for life in desk.lives_ms()), "it may never start"
        assert desk.pick("0").status == "paused"
        assert all(life == -1 for life in desk.lives_ms()), "it has started"
        desk.resume()
        complete(desk, "0", "1")
        assert desk.status() == "completed"


def test_items_of_a_paused_map(desk: Desk) -> None:
    desk.submit(map_plan())
    (claim,) = desk.claim()
    desk.pause()
    assert desk.extend(claim, 0, 3, total=3)
    assert desk.aside() == ["0.0", "0.1", "0.2"]
    desk.again()
    desk.resume()
    desk.finish()
    assert desk.status() == "completed"
