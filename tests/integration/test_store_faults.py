"""The Redis of the runs is killed, comes back, comes back empty, is away, is full, or is none to rely on."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flowq import (
    FlowContext,
    FlowStatus,
    RunLost,
    RunNotFound,
    StoreFullError,
    StoreUnavailableError,
    UnsafeStoreError,
    flow,
    task,
)
from flowq.core.config import Settings
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext, EmbeddedServer
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.engines.effects import by_node, note

SHORT = {"lease_s": 3, "renew_s": 0.3, "sweep_s": 0.3}
END_S = 60
PROMPT_S = 12.0
"""Who waits looks every ten seconds, should nobody tell it anything."""


@task
def waits(item: int, path: str, log: str) -> str:
    """Go on when the test says so."""
    note(log, "start", item)
    while not Path(path).exists():
        time.sleep(0.01)
    return "value"


@task
def follows(value: str, log: str) -> str:
    note(log, "start")
    return value.upper()


@task
def gathers(values: list[str]) -> int:
    return len(values)


@flow
def gated(path: str, log: str) -> str:
    return follows(waits(0, path, log), log)


@flow
def fans_out(count: int, path: str, log: str) -> int:
    return gathers([waits(number, path, log) for number in range(6)])


@pytest.fixture
def context() -> Iterator[EmbeddedContext]:
    with fleet(1, [__name__], concurrency=2, settings=SHORT) as started:
        yield started


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


@pytest.fixture
def go(tmp_path: Path) -> Path:
    return tmp_path / "go"


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    """Threads that wait while the test goes on."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def begun(context: FlowContext, go: Path, log: str) -> Any:
    """Submit a run, and wait until its first node runs."""
    handle = gated.submit(str(go), log, context=context)
    wait_until(lambda: by_node(log, handle.run_id, "start"), END_S)
    return handle


def waiting(aside: ThreadPoolExecutor, handle: Any) -> list[Future[Any]]:
    """Wait for a run in every way there is."""

    async def wait() -> Any:
        return await handle

    waits: list[Callable[[], Any]] = [handle.result, lambda: handle.result(END_S), lambda: asyncio.run(wait())]
    found = [aside.submit(one) for one in waits]
    wait_until(lambda: len(handle._watch._waiting.get(handle.run_id, ())) == len(waits), END_S, "all are subscribed")
    return found


def restart_empty(server: EmbeddedServer) -> None:
    server.kill()
    for path in server.directory.glob("appendonly*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    server.restart()


# ── it comes back ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_waits_gets_the_result_when_it_is_back(context, go, log, aside):
    handle = begun(context, go, log)
    results = waiting(aside, handle)
    time.sleep(2.1)  # the append-only file is synced every second, and may be behind by two
    context.server.kill()
    context.server.restart()
    go.touch()
    assert {result.result(END_S).output for result in results} == {"VALUE"}


def test_a_run_goes_on_after_several_crashes(context, go, log):
    handle = begun(context, go, log)
    time.sleep(2.1)
    for _ in range(3):
        context.server.restart()
        wait_until(lambda: handle.status() is FlowStatus.RUNNING, END_S)
    go.touch()
    result = handle.result(END_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, "VALUE")
    assert max(len(found) for found in by_node(log, handle.run_id, "start").values()) <= 4


# ── it comes back empty ───────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_waits_for_a_run_that_is_lost_is_told(context, go, log, aside):
    handle = begun(context, go, log)
    results = waiting(aside, handle)
    before = time.monotonic()
    restart_empty(context.server)
    for result in results:
        with pytest.raises(RunLost, match="submit it again"):
            result.result(END_S)
    assert time.monotonic() - before < PROMPT_S
    with pytest.raises(RunLost):
        handle.status()
    go.touch()
    again = gated.submit(str(go), log, context=context)
    assert again.result(END_S).output == "VALUE", "workers and clients go on"
    with pytest.raises(RunLost):
        handle.result(1)


def test_nor_is_one_kept_waiting_whose_data_were_thrown_away(context, go, log, aside):
    handle = begun(context, go, log)
    results = waiting(aside, handle)
    before = time.monotonic()
    State.of(context).client.flushall()
    for result in results:
        with pytest.raises(RunLost):
            result.result(END_S)
    assert time.monotonic() - before < PROMPT_S
    go.touch()
    assert gated.submit(str(go), log, context=context).result(END_S).output == "VALUE"


def test_a_run_that_was_forgotten_is_not_lost(context, go, log):
    go.touch()
    handle = gated.submit(str(go), log, context=context)
    handle.result(END_S)
    context.client.forget(handle.run_id)
    with pytest.raises(RunNotFound) as told:
        handle.result(1)
    assert not isinstance(told.value, RunLost)


# ── it is away ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_while_it_is_away_who_waits_goes_on_waiting_and_who_submits_is_told(context, go, log, aside, caplog):
    handle = begun(context, go, log)
    (first, *others) = waiting(aside, handle)
    time.sleep(2.1)
    context.server.kill()
    with caplog.at_level(logging.WARNING, "flowq.client"):
        with pytest.raises(StoreUnavailableError, match="see that the one of FLOWQ_STATE_URL"):
            gated.submit(str(go), log, context=context)
        wait_until(lambda: f"waiting for run {handle.run_id}" in caplog.text, END_S, "it was tried for seconds")
    assert not any(one.done() for one in (first, *others))
    context.server.restart()
    go.touch()
    assert {result.result(END_S).output for result in (first, *others)} == {"VALUE"}
    assert gated.submit(str(go), log, context=context).result(END_S).output == "VALUE"


def test_a_wait_with_a_limit_ends_while_it_is_away(context, go, log):
    handle = begun(context, go, log)
    context.server.kill()
    with pytest.raises(TimeoutError, match=handle.run_id):
        handle.result(0.5)
    context.server.restart()
    go.touch()


# ── it is full ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_when_it_is_full_nothing_new_is_stored_and_open_runs_complete_when_there_is_room(context, go, log):
    state = State.of(context)
    handles = [fans_out.submit(6, str(go), log, context=context) for _ in range(3)]
    wait_until(lambda: by_node(log, handles[0].run_id, "start"), END_S)
    state.client.config_set("maxmemory", 1)
    with pytest.raises(StoreFullError, match="give it more"):
        gated.submit(str(go), log, context=context)
    with pytest.raises(StoreFullError):
        gated.submit(str(go), os.urandom(60_000).hex(), context=context)
    runs = {
        key.split(b":")[2] for key in state.client.scan_iter("flowq:*") if key.split(b":")[1] in (b"run", b"values")
    }
    assert runs == {handle.run_id.encode() for handle in handles}, "nothing is half-stored"
    go.touch()  # attempts end while there is no room
    time.sleep(1)
    state.client.config_set("maxmemory", 0)
    for handle in handles:
        result = handle.result(END_S)
        assert (result.status, result.output) == (FlowStatus.COMPLETED, 6), result.error
    assert gated.submit(str(go), log, context=context).result(END_S).output == "VALUE"


# ── it is none to rely on ─────────────────────────────────────────────────────────────────────────────────────────────


def context_of(server: EmbeddedServer, **settings: Any) -> FlowContext:
    return FlowContext(Settings(broker_url=server.url, state_url=server.redis_url, **settings))


def submit(context: FlowContext) -> Any:
    try:
        return gated.submit("", "", context=context)
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


@pytest.mark.parametrize("denied", [["-config"], ["-config", "-info"]])
def test_a_managed_one_that_does_not_let_itself_be_asked_is_taken(denied):
    with EmbeddedServer() as server:
        State.of(context_of(server)).client.execute_command("ACL", "SETUSER", "default", *denied)
        assert submit(context_of(server)).run_id


def test_a_managed_one_is_still_refused_if_it_evicts():
    with EmbeddedServer(appendonly=False) as server:
        client = State.of(context_of(server)).client
        client.config_set("maxmemory-policy", "volatile-lru")
        client.execute_command("ACL", "SETUSER", "default", "-config")
        with pytest.raises(UnsafeStoreError, match="volatile-lru"):
            submit(context_of(server))


def test_threads_that_submit_first_all_get_through():
    with EmbeddedServer() as server:
        context = context_of(server)
        found: list[str] = []
        threads = [
            threading.Thread(target=lambda: found.append(gated.submit("", "", context=context).run_id))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 8
        context.close()
