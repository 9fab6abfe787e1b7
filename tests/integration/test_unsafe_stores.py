"""A Redis that may lose runs is refused, or warned of if it does not let itself be asked."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from flowq import FlowContext, UnsafeStoreError, flow, task
from flowq.core.config import Settings
from flowq.runtime.state import State
from flowq.standalone import EmbeddedServer


@task
def passes(value: str) -> str:
    return value


@flow
def nothing(value: str, other: str) -> str:
    return passes(value)


def context_of(server: EmbeddedServer, **settings: Any) -> FlowContext:
    return FlowContext(Settings(broker_url=server.url, state_url=server.redis_url, **settings))


def submit(context: FlowContext) -> Any:
    try:
        return nothing.submit("", "", context=context)
    finally:
        context.close()


def test_one_that_keeps_nothing_on_disk_is_refused():
    with EmbeddedServer(appendonly=False) as server:
        with pytest.raises(
            UnsafeStoreError, match=r"keeps nothing on disk: set appendonly yes.*FLOWQ_ALLOW_UNSAFE_STORE=1"
        ):
            submit(context_of(server))
        assert State.of(context_of(server)).client.keys() == []
        assert submit(context_of(server, allow_unsafe_store=True)).run_id


def test_one_that_throws_keys_away_is_refused():
    with EmbeddedServer() as server:
        client = State.of(context_of(server)).client
        client.config_set("maxmemory-policy", "allkeys-lru")
        with pytest.raises(UnsafeStoreError, match="allkeys-lru throws keys away when memory is short: set noeviction"):
            submit(context_of(server))
        assert submit(context_of(server, allow_unsafe_store=True)).run_id
        client.config_set("maxmemory-policy", "noeviction")
        assert submit(context_of(server)).run_id


def test_snapshots_alone_are_taken_with_a_warning(caplog):
    with EmbeddedServer(appendonly=False) as server:
        State.of(context_of(server)).client.config_set("save", "3600 1")
        assert submit(context_of(server)).run_id
    assert "a crash loses what came after its last snapshot" in caplog.text


def deny(client: Any, *commands: str) -> None:
    """Have the server forbid them from now on, as managed ones do."""
    client.execute_command("ACL", "SETUSER", "default", *commands)


@pytest.mark.parametrize("denied", ["-config", "-info"])
def test_a_managed_one_that_answers_one_of_two_questions_is_taken_without_a_word(denied, caplog):
    with EmbeddedServer() as server:
        deny(State.of(context_of(server)).client, denied)
        assert submit(context_of(server)).run_id
    assert "the Redis of the runs" not in caplog.text


def test_one_that_does_not_let_itself_be_asked_at_all_is_taken_with_a_warning_that_says_what_to_do(caplog):
    with EmbeddedServer() as server:
        deny(State.of(context_of(server)).client, "-info", "-config")
        assert submit(context_of(server)).run_id
        assert "maxmemory-policy is to be noeviction" in caplog.text
        assert "appendonly is to be yes" in caplog.text
        assert "set FLOWQ_ALLOW_UNSAFE_STORE=1" in caplog.text
        caplog.clear()
        assert submit(context_of(server, allow_unsafe_store=True)).run_id
    assert "the Redis of the runs" not in caplog.text, "whoever has said so is told no more"


def test_nor_is_it_known_whether_there_are_snapshots_where_there_is_no_append_only_file(caplog):
    with EmbeddedServer(appendonly=False) as server:
        deny(State.of(context_of(server)).client, "-config")
        assert submit(context_of(server)).run_id
    assert "appendonly is to be yes" in caplog.text
    assert "maxmemory-policy" not in caplog.text


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [("maxmemory-policy", "allkeys-lfu", "allkeys-lfu"), ("appendonly", "no", "keeps nothing on disk")],
)
def test_what_info_does_not_tell_is_asked_of_the_configuration(setting, value, told):
    with EmbeddedServer() as server:
        client = State.of(context_of(server)).client
        client.config_set(setting, value)
        client.config_set("save", "")
        deny(client, "-info")
        with pytest.raises(UnsafeStoreError, match=told):
            submit(context_of(server))


def test_a_managed_one_is_still_refused_if_it_evicts():
    with EmbeddedServer(appendonly=False) as server:
        client = State.of(context_of(server)).client
        client.config_set("maxmemory-policy", "volatile-lru")
        deny(client, "-config")
        with pytest.raises(UnsafeStoreError, match="volatile-lru"):
            submit(context_of(server))


def test_threads_that_submit_first_all_get_through():
    with EmbeddedServer() as server:
        context = context_of(server)
        found: list[str] = []
        threads = [
            threading.Thread(target=lambda: found.append(nothing.submit("", "", context=context).run_id))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 8
        context.close()
