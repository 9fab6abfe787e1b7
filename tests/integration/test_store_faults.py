"""The Redis of the runs is killed, comes back, comes back empty, is away, or is full."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
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
    flow,
    task,
)
from flowq.client.ended import look
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext, EmbeddedServer
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.engines.effects import by_node, note

SHORT = {"lease_s": 3, "renew_s": 0.3, "sweep_s": 0.3}
END_S = 60
PROMPT_S = 12.0
"""Who waits looks every ten seconds, should nobody tell it anything."""
OFTEN_S = 2.0
"""How often it looks where a test is about just that."""


@task
def waits(item: int, path: str, log: str) -> str:
    """Go on when the test says so."""
    note(log, "start", item)
    while not Path(path).exists():
        time.sleep(0.01)
    note(log, "end", item)
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


@pytest.fixture
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have whoever waits here look again sooner."""
    monkeypatch.setattr("flowq.client.handle.LOOK_S", OFTEN_S)


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


def until_written(context: FlowContext) -> None:
    """What was answered so far is in the append-only file, though not on the disk: it outlives the server's process."""
    client = State.of(context).client
    wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0, END_S)


def restart_empty(server: EmbeddedServer) -> None:
    server.kill()
    for path in server.directory.glob("appendonly*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    server.restart()


# ── it comes back ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_whoever_waits_gets_the_result_when_it_is_back(context, go, log, aside):
    handle = begun(context, go, log)
    results = waiting(aside, handle)
    until_written(context)
    context.server.kill()
    context.server.restart()
    go.touch()
    assert {result.result(END_S).output for result in results} == {"VALUE"}


def test_a_run_goes_on_after_several_crashes(context, go, log):
    handle = begun(context, go, log)
    until_written(context)
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


@pytest.mark.usefixtures("looks_often")
def test_nor_is_one_kept_waiting_whose_data_were_thrown_away(context, go, log, aside):
    handle = begun(context, go, log)
    results = waiting(aside, handle)
    before = time.monotonic()
    State.of(context).client.flushall()
    for result in results:
        with pytest.raises(RunLost):
            result.result(END_S)
    assert time.monotonic() - before < OFTEN_S + 2.0
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


@pytest.mark.usefixtures("looks_often")
def test_while_it_is_away_who_waits_goes_on_waiting_and_who_submits_is_told(context, go, log, aside, caplog):
    handle = begun(context, go, log)
    (first, *others) = waiting(aside, handle)
    until_written(context)
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


def between_looking_and_reading(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """Have something happen when it is known that a run has ended, and the rest is to be read, as of a large one."""

    def look_first(*asked: Any) -> list[Any]:
        glances = look(*asked)
        do()
        return [None if glance is None else glance._replace(records=None, output=None) for glance in glances]

    monkeypatch.setattr("flowq.client.handle.look", look_first)


def test_the_result_is_waited_for_that_is_away_when_its_run_has_ended(context, go, log, aside, caplog, monkeypatch):
    go.touch()
    handle = gated.submit(str(go), log, context=context)
    handle.result(END_S)
    until_written(context)

    def killed() -> None:
        monkeypatch.undo()
        context.server.kill()

    between_looking_and_reading(monkeypatch, killed)
    with caplog.at_level(logging.WARNING, "flowq.client"):
        result = aside.submit(handle.result)
        wait_until(lambda: f"waiting for run {handle.run_id}" in caplog.text, END_S, "it was tried for seconds")
    context.server.restart()
    assert result.result(END_S).output == "VALUE"


def test_a_result_that_is_gone_when_it_is_read_is_lost(context, go, log, monkeypatch):
    go.touch()
    handle = gated.submit(str(go), log, context=context)
    handle.result(END_S)
    between_looking_and_reading(monkeypatch, State.of(context).client.flushall)
    with pytest.raises(RunLost):
        handle.result(END_S)


def test_a_wait_with_a_limit_ends_while_it_is_away(context, go, log):
    handle = begun(context, go, log)
    until_written(context)
    context.server.kill()
    before = time.monotonic()
    for _ in range(4):
        with pytest.raises(TimeoutError, match=handle.run_id):
            handle.result(0.5)
    assert time.monotonic() - before < PROMPT_S, "each would take eight seconds, were it tried as often as always"
    context.server.restart()
    go.touch()
    assert handle.result(END_S).output == "VALUE"


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
    go.touch()
    wait_until(lambda: by_node(log, handles[0].run_id, "end"), END_S, "attempts end while there is no room")
    state.client.config_set("maxmemory", 0)
    for handle in handles:
        result = handle.result(END_S)
        assert (result.status, result.output) == (FlowStatus.COMPLETED, 6), result.error
    assert gated.submit(str(go), log, context=context).result(END_S).output == "VALUE"
