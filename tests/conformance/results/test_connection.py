"""Connections that are used again at once: what may have become of them meanwhile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import redis

from flowq.core.errors import StoreUnavailableError
from flowq.results import connection
from flowq.results.connection import Redis, connect
from flowq.standalone import EmbeddedServer


@pytest.fixture
def client(server: EmbeddedServer) -> Iterator[Redis]:
    with closing(connect(server.redis_url)) as made:
        made.call("PING")  # its connection is fresh
        yield made


def close(client: Redis, server: EmbeddedServer) -> None:
    """Have the server close the client's connections."""
    number = client.call("CLIENT", "ID")
    with closing(redis.Redis.from_url(server.redis_url)) as other:
        other.client_kill_filter(_id=number)


def test_one_that_was_used_just_now_is_not_looked_at(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.connection_pool, "get_connection", lambda: pytest.fail("the pool is asked"))
    assert client.call("ECHO", "a") == b"a"
    assert client.post("ECHO", "b").reply() == b"b"


def test_one_that_the_server_has_closed_is_replaced(client: Redis, server: EmbeddedServer) -> None:
    close(client, server)
    assert client.call("ECHO", "a") == b"a"


def test_whoever_reads_later_is_told_that_it_was_lost(client: Redis, server: EmbeddedServer) -> None:
    close(client, server)
    with pytest.raises(StoreUnavailableError):
        client.post("PING").reply()
    assert client.post("ECHO", "a").reply() == b"a"


def test_one_that_lay_for_long_is_looked_at(
    client: Redis, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FRESH_S", -1.0)
    close(client, server)
    assert client.post("ECHO", "a").reply() == b"a"


def test_a_forked_child_has_connections_of_its_own(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    parents = client.call("CLIENT", "ID")
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert client.call("CLIENT", "ID") != parents


def test_what_nobody_has_read_is_no_answer_to_the_next_call(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_reply", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.call("ECHO", "a")
    assert client.call("ECHO", "b") == b"b"


def test_a_refusal_is_raised_and_the_connection_stays(client: Redis) -> None:
    number = client.call("CLIENT", "ID")
    with pytest.raises(redis.ResponseError):
        client.call("HGET", "alone")
    assert client.call("CLIENT", "ID") == number
