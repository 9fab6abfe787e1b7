"""Runs that are dispatched as a canvas: messages that are lost, what waits for the end, and the end."""

from __future__ import annotations

import pytest

from flowq.runtime.replies import Delivery
from tests.conformance.scripts.canvases import INLINE, LOST_MS, TWICE, asked, complete, open_map
from tests.conformance.scripts.desk import Desk, chain, deliveries, fan_in, fan_out, node, plan


class TestSweep:
    def test_what_nobody_claims_is_asked_for(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(3))
        assert desk.sweep().messages == [], "they are on their way"
        assert desk.lose("0", "2") == asked(fan_in(3), "0", "2")
        assert (desk.head("lost"), desk.head("lost:0"), desk.head("lost:1")) == ("2", "1", None)
        assert desk.again().messages == asked(fan_in(3), "0", "2")
        assert desk.head("lost") == "2"
        assert desk.watched() == {"r": min(desk.due().values())}

    def test_a_message_gets_longer_each_time(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        for times in range(1, 9):
            before = desk.client.time()[0] * 1000
            assert desk.lose("0") == asked(chain(), "0")
            wait = LOST_MS * 2 ** min(times, 6)
            assert before + wait <= desk.due()["0"] <= before + wait + 60_000
        assert (desk.head("lost"), desk.head("lost:0")) == ("8", "8")

    def test_what_waits_its_turn_is_not_lost(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(3))
        claims = [desk.take("0"), desk.take("1")]
        desk.client.hset(desk.keys.picks("main"), "passed", 0)  # as if they had stood before it in the queue
        desk.make_late("2")
        before = desk.client.time()[0] * 1000
        assert desk.sweep().messages == [], "all slots are taken"
        assert before + LOST_MS <= desk.watched()["r"] <= before + LOST_MS + 60_000
        assert desk.due()["2"] == 1
        desk.answer(claims[0])
        desk.make_due(desk.keys.canvas, "r")
        assert desk.sweep().messages == asked(fan_in(3), "2"), "nothing has come for long, and a slot is free"

    def test_nor_while_others_come(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(3))
        desk.answer(desk.take("0"))
        desk.client.hset(desk.keys.picks("main"), "passed", 0)
        desk.make_due(desk.keys.due("r"), "2")
        desk.make_due(desk.keys.canvas, "r")
        assert desk.sweep().messages == []

    def test_what_later_ones_have_overtaken_is_lost(self, desk: Desk) -> None:
        desk.submit_canvas(fan_in(3))
        desk.take("0")
        desk.take("1")
        desk.make_due(desk.keys.due("r"), "2")
        desk.make_due(desk.keys.canvas, "r")
        assert deliveries(desk.sweep().messages) == asked(fan_in(3), "2")

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
        desk.make_late(*keys)
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
        assert desk.park(self.THEN.document) == "parked"
        assert desk.again() == "parked"
        assert complete(desk, "0") == [self.THEN]
        assert desk.again().messages == [self.THEN]

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
            assert desk.again().messages == [self.THEN]
        desk.told()
        assert desk.again() is None
        assert (desk.watched(), desk.head("then"), desk.status()) == ({}, "", "completed")
        assert desk.park(self.THEN.document) == "parked", "somebody has told"

    def test_the_first_one_stays(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1), parked=self.THEN.document)
        assert desk.park("another") == "parked"
        assert complete(desk, "0") == [self.THEN]

    def test_unless_it_is_to_be_replaced(self, desk: Desk) -> None:
        desk.submit_canvas(chain(1), parked="another")
        assert desk.park(self.THEN.document, replaces=True) == "parked"
        assert complete(desk, "0") == [self.THEN]
        assert desk.park("too late", replaces=True) == "parked"
        assert desk.head("then") == self.THEN.document

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
