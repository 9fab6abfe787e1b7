"""A drain that listens is given what its bell rings for in that moment, and nothing is lost with its connection."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from flowq.core.types import NodeStatus
from flowq.runtime.posted import claim_when_rung
from flowq.runtime.replies import Next
from flowq.runtime.scripts import Scripts
from flowq.testing.waiting import wait_until
from tests.conformance.scripts.desk import Desk, chain, node, plan
from tests.property.calls import forget, put_ready
from tests.property.servers import reconnect

END_S = 10.0

LISTENER: dict[str, Any] = {
    "worker": "listener",
    "token": "ear",
    "queue": "main",
    "process": 4,
    "thread": 0,
    "busy": 0,
    "batch": True,
    "listens_ms": 60_000,
    "goes_on": False,
}
RUNG = LISTENER | {"busy": 1, "listens_ms": 0, "goes_on": True, "rung": True}


@pytest.fixture
def scripts(desk: Desk) -> Iterator[Scripts]:
    """The scripts of another process, which begins to listen."""
    own = reconnect(desk.client)
    scripts = Scripts(own, desk.calls.settings)
    put_ready(desk.client, scripts._installed.library)
    yield scripts
    own.close()


@pytest.fixture
def listen(desk: Desk, scripts: Scripts) -> Iterator[Callable[..., Future[Next]]]:
    """Have it wait for its bell; gives what it is given."""
    with ThreadPoolExecutor(1) as pool:

        def begin(seconds: float = END_S) -> Future[Next]:
            assert scripts.claim(**LISTENER).claims == []
            waiting = pool.submit(claim_when_rung, scripts, desk.keys.bell("ear"), seconds, RUNG)
            if seconds >= END_S:
                wait_until(lambda: blocked(desk), END_S)
            return waiting

        yield begin


def blocked(desk: Desk) -> list[Any]:
    """Give the connections that wait for something."""
    return [client for client in desk.client.client_list() if "b" in client["flags"]]


def keys(of: Next) -> list[str]:
    return [claim.key for claim in of.claims]


def test_what_a_settle_makes_ready_is_its_own_before_the_settle_is_answered(desk, listen):
    desk.submit(plan(node("a"), node("b", 0), node("c", 0)))
    [first] = desk.claim()
    waiting = listen()
    assert keys(desk.settle(first, process=1)) == ["1"]
    assert desk.node("2") is NodeStatus.RUNNING
    assert keys(waiting.result(END_S)) == ["2"]


def test_whoever_submits_does_not_wait_for_it(desk, scripts, listen):
    waiting = listen()
    desk.submit(chain(1))
    assert waiting.result(END_S) == Next([], [])
    assert keys(scripts.claim(**LISTENER)) == ["0"]


def test_a_bell_that_does_not_ring_gives_nothing_and_ends_nothing(desk, scripts, listen):
    began = time.monotonic()
    assert keys(listen(0.2).result(END_S)) == []
    assert time.monotonic() - began >= 0.2
    assert "ear" in desk.drains()
    assert not blocked(desk)


def test_it_takes_nothing_that_must_be_alone(desk, scripts, listen):
    desk.submit(plan(node("a"), node("b", 0, max_crashes=1)))
    [first] = desk.claim()
    waiting = listen()
    desk.settle(first)
    assert keys(waiting.result(END_S)) == []
    assert keys(scripts.claim(**LISTENER)) == ["1"]


def test_a_connection_that_is_lost_meanwhile_costs_nothing(desk, scripts, listen):
    waiting = listen()
    [connection] = blocked(desk)
    desk.client.client_kill_filter(_id=connection["id"])
    assert keys(waiting.result(END_S)) == [], "it looked at once"
    desk.submit(chain(1))
    assert keys(scripts.claim(**LISTENER)) == ["0"]


def test_a_reply_that_is_lost_with_its_connection_comes_again(desk, scripts, listen, monkeypatch):
    """The claim was made; the connection is gone before its reply is read."""
    desk.submit(plan(node("a"), node("b", 0)))
    [first] = desk.claim()
    pool, reads = scripts._installed.client.connection_pool, list[str]()
    waiting = listen()
    [connection] = pool._in_use_connections
    read = connection.read_response

    def lose(*args: Any, **options: Any) -> Any:
        reads.append("")
        if len(reads) == 2:
            connection.disconnect()
        return read(*args, **options)

    monkeypatch.setattr(connection, "read_response", lose)
    desk.settle(first)
    assert keys(waiting.result(END_S)) == ["1"]
    assert len(reads) >= 2


def test_a_server_that_has_forgotten_the_script_is_given_it(desk, scripts, listen):
    desk.submit(plan(node("a"), node("b", 0)))
    [first] = desk.claim()
    waiting = listen()
    forget(desk.client)
    desk.settle(first)
    assert keys(waiting.result(END_S)) == ["1"]
