"""extend: a claimed map opens its items, some at a time."""

from __future__ import annotations

import pytest

from flowq.core.config import RetryPolicy
from flowq.core.types import FlowType, NodeStatus
from flowq.runtime.replies import Claimed
from tests.conformance.scripts.desk import Desk, Outcome, chain, map_plan


def claim_map(desk: Desk, **options: object) -> Claimed:
    desk.submit(map_plan(**options))
    (claim,) = desk.claim()
    return claim


def test_items_are_ready_as_they_are_opened(desk: Desk) -> None:
    claim = claim_map(desk)
    assert desk.extend(claim, 0, 2, total=3)
    assert desk.ready() == ["r 0.0", "r 0.1"]
    assert desk.leases() == [claim.lease]
    assert desk.extend(claim, 2, 1, total=3)
    assert desk.leases() == [], "nobody needs to hold the map any longer"
    assert desk.node("0") is NodeStatus.RUNNING
    items = desk.claim(process=3)
    assert [(item.key, item.item) for item in items] == [(f"0.{n}", f"item {n}".encode()) for n in range(3)]
    desk.settle(*items)
    assert desk.node("0") is NodeStatus.COMPLETED
    assert desk.ready() == ["r 1", "r 2"]
    assert desk.head("total") == "6"


def test_a_map_over_nothing_completes_at_once(desk: Desk) -> None:
    assert desk.extend(claim_map(desk), 0, 0, total=0)
    assert desk.node("0") is NodeStatus.COMPLETED
    assert desk.ready() == ["r 1", "r 2"]


def test_items_go_to_the_lane_of_their_placement(desk: Desk) -> None:
    desk.submit(map_plan(placement=FlowType.THREAD, queue="side"))
    (claim,) = desk.claim(process=0, thread=1, queue="side")
    desk.extend(claim, 0, 2, total=2)
    assert desk.ready("side", "thread") == ["r 0.0", "r 0.1"]


def test_a_repeated_call_opens_nothing_again(desk: Desk) -> None:
    claim = claim_map(desk)
    desk.extend(claim, 0, 2, total=3)
    (item,) = desk.claim()
    desk.settle(item)
    for _ in range(2):
        assert desk.extend(claim, 0, 2, total=3)
    assert desk.ready() == ["r 0.1"]
    assert desk.extend(claim, 1, 2, total=3)
    assert desk.ready() == ["r 0.1", "r 0.2"]
    assert desk.again()[0]
    assert not desk.extend(claim, 1, 2, total=3), "it is done opening"
    assert desk.head("total") == "6"


def test_what_does_not_fit_is_refused(desk: Desk) -> None:
    claim = claim_map(desk)
    assert not desk.extend(claim._replace(fence=claim.fence + 1), 0, 1, total=2), "somebody else's claim"
    assert not desk.extend(claim, 1, 1, total=2), "a gap"
    assert not desk.extend(claim._replace(key="9"), 0, 1, total=2), "no node"
    assert desk.extend(claim, 0, 5, total=2)
    assert desk.ready() == ["r 0.0", "r 0.1"], "more than there are"
    (item, _) = desk.claim(process=2)
    assert not desk.extend(item, 0, 1, total=1), "an item is no map"


def test_no_other_node_has_items(desk: Desk) -> None:
    desk.submit(chain())
    (claim,) = desk.claim()
    assert not desk.extend(claim, 0, 1, total=1)
    assert desk.settle(claim).stale == []


def test_an_open_map_is_settled_by_its_items_alone(desk: Desk) -> None:
    claim = claim_map(desk)
    assert desk.settle(claim).stale == [0], "it completes through its items"
    desk.extend(claim, 0, 2, total=2)
    for kind in ("completed", "failed", "skipped", "released"):
        assert desk.settle(Outcome("r", "0", fence=0, kind=kind)).stale == [0]
    assert desk.node("0") is NodeStatus.RUNNING


def test_another_attempt_goes_on_where_the_last_one_died(desk: Desk) -> None:
    claim = claim_map(desk)
    desk.extend(claim, 0, 2, total=3)
    desk.settle(*desk.claim(process=2))
    desk.expire(claim)
    (second,) = desk.claim()
    assert (second.key, second.opened, second.crashes) == ("0", 2, 1)
    assert not desk.extend(claim, 2, 1, total=3)
    assert desk.extend(second, 2, 1, total=3)
    desk.settle(*desk.claim())
    assert desk.node("0") is NodeStatus.COMPLETED


def test_another_attempt_goes_on_where_the_last_one_failed(desk: Desk) -> None:
    claim = claim_map(desk, retry=RetryPolicy(max_attempts=2))
    desk.extend(claim, 0, 1, total=2)
    desk.fail(claim, retry=True)
    (item,) = desk.claim()
    desk.settle(item)
    desk.fall_due()
    (second,) = desk.claim()
    assert second.opened == 1
    desk.extend(second, 1, 1, total=2)
    desk.settle(*desk.claim())
    assert desk.node("0") is NodeStatus.COMPLETED
    assert not desk.client.exists(desk.keys.failures("r"))


@pytest.mark.parametrize(("kind", "follows"), [("failed", "upstream_failed"), ("skipped", "skipped")])
def test_the_first_bad_item_decides_for_what_requires_all(desk: Desk, kind: str, follows: str) -> None:
    desk.extend(claim_map(desk), 0, 3, total=3)
    first, second, third = desk.claim(process=3)
    desk.settle(Outcome("r", first.key, first.fence, kind))
    assert desk.node("1") == follows
    assert desk.node("0") is NodeStatus.RUNNING
    assert desk.node("2") is None, "what can do without some waits for all"
    desk.settle(Outcome("r", second.key, second.fence, "failed"), third)
    assert desk.node("0") is NodeStatus.FAILED
    assert desk.node("1") == follows
    assert desk.ready() == ["r 2"]


def test_a_map_that_fails_half_open_takes_its_items_along(desk: Desk) -> None:
    claim = claim_map(desk)
    desk.extend(claim, 0, 3, total=5)
    done, running = desk.claim(process=2)
    desk.settle(done)
    desk.fail(claim)
    assert desk.node("0") is NodeStatus.FAILED
    assert desk.node("1") is NodeStatus.UPSTREAM_FAILED
    assert desk.settle(running).stale == [0]
    assert desk.renew(running.lease) == [0]
    (downstream,) = desk.claim(process=5)
    assert downstream.key == "2", "and the item that was ready is not claimed"
    desk.settle(downstream)
    assert desk.status() == "failed"
    assert desk.head("total") == desk.head("settled") == "4"
