"""A settle whose reply is read later: whatever becomes of its connection, it counts once, and its claims come."""

from __future__ import annotations

import time
from typing import Any

import pytest

from flowq.core.errors import StateError, StoreUnavailableError
from flowq.core.types import NodeStatus
from flowq.results.connection import connect, trying_until
from flowq.runtime.posted import PostedSettle
from flowq.runtime.replies import Claimed
from flowq.runtime.scripts import OutcomeEntry, Scripts
from flowq.testing.waiting import wait_until
from tests.conformance.scripts.desk import Desk, node, plan
from tests.property.calls import forget, put_ready
from tests.property.servers import reconnect

DRAIN = {"worker": "w", "token": "t", "queue": "main", "process": 1, "thread": 0, "busy": 1}


@pytest.fixture
def scripts(desk: Desk) -> Scripts:
    desk.submit(plan(node("a"), node("b"), node("c")))
    own = reconnect(desk.client)
    scripts = Scripts(own, desk.calls.settings)
    put_ready(desk.client, scripts._installed.library)  # else nothing happens before the reply is read
    return scripts


def post(scripts: Scripts, claim: Claimed) -> PostedSettle:
    outcome = OutcomeEntry(claim.key, b"v", claim.run, claim.fence, "completed")
    given = {"batch": False, "listens_ms": 0, "goes_on": True, "inline": True, "outcomes": [outcome]}
    return PostedSettle(scripts, DRAIN | given)


def claim(scripts: Scripts) -> Claimed:
    [found] = scripts.claim(**DRAIN).claims  # type: ignore[arg-type]
    return found


def connection_of(posted: PostedSettle) -> Any:
    return posted._sent._connection


def test_it_gives_what_a_settle_gives_whatever_its_thread_calls_meanwhile(desk: Desk, scripts: Scripts) -> None:
    posted = post(scripts, claim(scripts))
    assert claim(scripts).key in "12"
    following = posted.reply()
    assert (len(following.claims), following.stale) == (1, [])
    assert [desk.node(key) for key in "012"] == [NodeStatus.COMPLETED, NodeStatus.RUNNING, NodeStatus.RUNNING]


def test_a_lost_reply_is_given_again(desk: Desk, scripts: Scripts) -> None:
    posted = post(scripts, claim(scripts))
    wait_until(lambda: desk.node("0") is NodeStatus.COMPLETED)
    other = claim(scripts)
    connection_of(posted).disconnect()
    following = posted.reply()
    assert following.stale == [], "it counted before"
    assert {following.claims[0].key, other.key} == {"1", "2"}


def test_one_that_never_arrived_is_made_then(desk: Desk, scripts: Scripts) -> None:
    first = claim(scripts)
    scripts._installed.client.connection_pool.disconnect()
    posted = post(scripts, first)
    connection_of(posted).disconnect()
    assert posted.reply().stale == []
    assert desk.node("0") is NodeStatus.COMPLETED


def test_a_server_that_has_forgotten_the_script_is_given_it(desk: Desk, scripts: Scripts) -> None:
    first = claim(scripts)
    forget(desk.client)
    assert len(post(scripts, first).reply().claims) == 1


def test_what_is_refused_says_so_when_it_is_read(scripts: Scripts) -> None:
    posted = post(scripts, claim(scripts)._replace(run="r e"))
    posted._sent.close()
    posted._args[0] = b"no JSON"
    with pytest.raises(StateError, match="refuses settle"):
        posted.reply()


def test_its_connection_serves_others_once_it_was_read_or_closed(scripts: Scripts) -> None:
    client = scripts._installed.client
    for end in (PostedSettle.reply, PostedSettle.close):
        posted = post(scripts, claim(scripts))
        connection = connection_of(posted)
        end(posted)
        assert connection_of(posted) is None
        again = client.take()
        assert again is connection
        client.give_back(again)


def test_what_one_that_was_closed_has_claimed_is_in_doubt(scripts: Scripts) -> None:
    posted, began = post(scripts, claim(scripts)), time.monotonic()
    assert scripts.unanswered < began
    posted.close()
    assert scripts.unanswered >= began


def test_while_the_store_is_away_it_fails_when_it_is_read(desk: Desk, scripts: Scripts) -> None:
    first = claim(scripts)
    away = Scripts(connect("redis://127.0.0.1:1/0"), desk.calls.settings)
    posted = post(away, first)
    with trying_until(0.0), pytest.raises(StoreUnavailableError):
        posted.reply()
    assert away.unanswered > 0
