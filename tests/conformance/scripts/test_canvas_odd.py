"""Malformed keys, held runs that end before they begin, and canvases that fall apart where they are joined."""

from __future__ import annotations

import pytest

from flowq.plan import Plan
from tests.conformance.scripts.canvases import asked, complete, open_map
from tests.conformance.scripts.desk import Desk, chain, map_plan, node, plan


@pytest.mark.parametrize("key", ["0."])
def test_what_is_no_node(desk: Desk, key: str) -> None:
    desk.submit_canvas(chain())
    assert desk.pick(key).status == "gone"


@pytest.mark.parametrize("key", ["0.00", "0.01"])
def test_what_is_no_item(desk: Desk, key: str) -> None:
    desk.submit_canvas(map_plan())
    open_map(desk, 3)
    assert desk.pick(key).status == "gone"


def test_a_held_run_that_is_cancelled_keeps_its_plan_for_others(desk: Desk) -> None:
    desk.submit_canvas(chain(), "s")
    desk.submit_canvas(chain(), known=True, held=True)
    desk.cancel("r")
    assert desk.client.hget(desk.keys.plan(chain().hash), "runs") == b"1"
    assert desk.client.pttl(desk.keys.plan(chain().hash)) == -1, "it is in use"


def test_a_held_run_without_nodes(desk: Desk) -> None:
    desk.submit_canvas(Plan(()), held=True)
    assert desk.client.hget(desk.keys.plan(Plan(()).hash), "runs") == b"0"


def test_a_mark_is_one_node_s_alone(desk: Desk) -> None:
    three = plan(
        node("a", over=("input", "items"), item_parameter="item"), node("b"), node("c", 1, optional=(0,)), node("d", 1)
    )
    desk.submit_canvas(three)
    desk.answer(desk.take("0"), kind="failed")
    assert complete(desk, "1") == asked(three, "2"), "Celery delivers the other one"
    entry = desk.entry("3")
    assert entry is not None
    assert entry.more == ""


@pytest.mark.parametrize("required", [True, False])
def test_a_head_does_not_wait_for_one_that_goes_by_itself(desk: Desk, required: bool) -> None:
    """An edge that another one implies decides over one of a segment's heads."""
    first = node("h1", 1, 0) if required else node("h1", 1, optional=(0,))
    uneven = plan(
        node("u"),
        node("map", optional=(0,), over=("input", "items"), item_parameter="item"),
        first,
        node("h2", 1),
        node("join", optional=(2, 3)),
    )
    desk.submit_canvas(uneven)
    desk.answer(desk.take("0"), kind="failed")
    claim = desk.take("1")
    assert desk.extend(claim, 0, 1, total=1)
    sent = complete(desk, "1.0")
    keys = {delivery.key for delivery in sent}
    assert "3" in keys or "s1" in keys, sent
