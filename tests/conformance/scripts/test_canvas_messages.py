"""Runs that are dispatched as a canvas: what Celery delivers, and what it is asked to."""

from __future__ import annotations

import json

import pytest

from flowq.core.types import NodeStatus
from flowq.plan import lower
from tests.conformance.scripts.canvases import BY_SEGMENT, FORK_JOIN, INLINE, asked, complete, open_map, released
from tests.conformance.scripts.desk import Desk, chain, deliveries, map_plan, node, plan


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
        assert desk.again().stale == []
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
        assert desk.again().messages == asked(chain(), "0"), "nobody has sent it"
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
        assert desk.again().stale == []
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
        assert desk.again().claims == following.claims

    def test_a_source_has_a_message_of_its_own(self, desk: Desk) -> None:
        desk.submit_canvas(plan(node("a", placement=INLINE), node("b", 0)))
        assert desk.due().keys() == {"0"}
        assert complete(desk, "0") == []


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
