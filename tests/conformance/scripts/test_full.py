"""A server without memory: nothing new is stored, and what has begun goes on to its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowq.core.errors import StoreFullError
from tests.conformance.scripts.desk import Desk, chain, map_plan, node, plan


@pytest.fixture
def full(desk: Desk) -> Iterator[Desk]:
    """A run has begun, and then memory is short."""
    desk.submit(chain(3))
    yield desk
    desk.client.config_set("maxmemory", 0)


def fill(desk: Desk) -> None:
    desk.client.config_set("maxmemory", 1)


def test_nothing_new_is_stored(full: Desk) -> None:
    fill(full)
    before = full.calls.left().keys()
    with pytest.raises(StoreFullError, match="forget ended runs"):
        full.submit(chain(3), "s", known=True)
    with pytest.raises(StoreFullError):
        full.define("p", "field", "value")
    assert full.calls.left().keys() == before
    full.client.config_set("maxmemory", 0)
    full.submit(chain(3), "s", known=True)
    assert full.status("s") == "pending"


def test_what_has_begun_goes_on(full: Desk) -> None:
    (claim,) = full.claim()
    fill(full)
    assert full.renew(claim.lease) == []
    assert full.vouch(full.calls.holder) == []
    full.register(slots=2)
    following = full.settle(claim, process=1)
    assert following.stale == []
    full.settle(*following.claims)
    assert full.sweep(every_ms=1).swept
    full.client.delete(f"{full.keys.prefix}:sweep")
    full.finish()
    assert full.status() == "completed"
    assert full.forget() == "completed"


def test_so_does_what_died(full: Desk) -> None:
    full.claim()
    fill(full)
    full.bury(full.calls.holder)
    assert full.ready() == ["r 0"]
    (claim,) = full.claim()
    assert claim.crashes == 1


def test_it_may_be_cancelled_and_paused(full: Desk) -> None:
    fill(full)
    assert full.pause() == "pending"
    assert full.resume() is not None
    assert full.cancel() == "cancelled"


def test_a_map_waits_with_its_items(full: Desk) -> None:
    full.submit(map_plan(), "m")
    (claim,) = [claim for claim in full.claim(process=2) if claim.run == "m"]
    fill(full)
    with pytest.raises(StoreFullError):
        full.extend(claim, 0, 3, total=3)
    assert full.value("i0.0", "m") is None
    full.client.config_set("maxmemory", 0)
    assert full.extend(claim, 0, 3, total=3)


def test_a_retry_is_refused_as_a_whole(full: Desk) -> None:
    of = plan(node("a"))
    full.submit(of, "s")
    full.cancel("s")
    fill(full)
    with pytest.raises(StoreFullError):
        full.retry(of=of, run="s")
    assert full.status("s") == "cancelled"
    assert [key for key in full.calls.left() if "staged" in key] == []
