"""Runs under control, with real workers: cancel, pause, retry, deadline, timeout, idempotence, room, dead letters.

What nodes did is read from the log that they write themselves.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowq import (
    FailureKind,
    FlowContext,
    FlowStatus,
    FlowType,
    IdempotencyError,
    NodeStatus,
    OverloadedError,
    RetryPolicy,
    RunStatusError,
    flow,
    task,
)
from flowq.core.config import Settings
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet, use
from flowq.testing.keyspace import clear
from tests.conformance.engines.effects import by_node, effects, note
from tests.conformance.engines.flows import cancelling

SHORT = {"lease_s": 2, "renew_s": 0.3, "sweep_s": 0.3}
END_S = 30


@task
def passes(name: str, log: str) -> str:
    note(log, "start", name)
    return name


@task
def waits(value: Any, path: str, log: str) -> Any:
    """Go on when the test says so."""
    note(log, "start")
    try:
        while not Path(path).exists():
            time.sleep(0.01)
    finally:
        note(log, "left")
    return value


@task
def needs(value: Any, path: str, log: str) -> Any:
    """Fail while there is no such file."""
    note(log, "start")
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return value


@task
def joins(left: str, right: str, log: str) -> str:
    note(log, "start")
    return f"{left}+{right}"


@task
def together(values: list[Any], log: str) -> list[Any]:
    note(log, "start")
    return values


@task(retries=RetryPolicy(max_attempts=2, delay_s=300, jitter=0))
def fails_for_now(log: str) -> None:
    note(log, "start")
    raise ValueError("later")


@task(timeout=0.3)
def takes_too_long(log: str) -> None:
    note(log, "start")
    try:
        time.sleep(60)
    except BaseException as error:
        note(log, "stopped", type(error).__name__)
        raise


@task
def kills_its_process(path: str, log: str) -> str:
    note(log, "start", os.getpid())
    if not Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@task
def counts(item: int, log: str) -> int:
    note(log, "start", item)
    return item


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@flow
def gated(path: str, log: str) -> str:
    return passes(waits("value", path, log), log)


@flow
def forked(path: str, log: str) -> str:
    """start ─▶ good, bad ─▶ joins"""
    start = passes("start", log)
    return joins(passes(start, log), needs(start, path, log), log)


@flow
def mapped(count: int, path: str, log: str) -> Any:
    together_: list[Any] = together(picky.map(numbers(count), path=path, log=log), log)
    return together_


@task
def picky(item: int, path: str, log: str) -> int:
    note(log, "start", item)
    if item == 1 and not Path(path).exists():
        raise ValueError("one is bad")
    return item


@flow
def waiting_for_retry(log: str) -> None:
    return fails_for_now(log)


@flow
def overlong(log: str) -> None:
    return takes_too_long(log)


@flow
def poison(path: str, log: str) -> str:
    return passes(kills_its_process(path, log), log)


@flow
def many(count: int, log: str) -> Any:
    together_: list[int] = together(counts.map(numbers(count), log=log), log)
    return together_


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    with fleet(2, [cancelling, __name__], settings=SHORT) as started:
        yield started


@pytest.fixture
def context(workers: EmbeddedContext) -> Iterator[EmbeddedContext]:
    with use(workers):
        yield workers
    clear(workers)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


@pytest.fixture
def go(tmp_path: Path) -> Path:
    return tmp_path / "go"


def starts(log: str, run: str) -> Counter[str]:
    """How often each node began."""
    return Counter({node: len(found) for node, found in by_node(log, run, "start").items()})


def is_idle(context: FlowContext) -> bool:
    """Nobody holds a claim."""
    state = State.of(context)
    holders = state.client.zrange(state.keys.holders, 0, -1)
    return not any(state.client.exists(state.keys.leases(holder.decode())) for holder in holders)


# ── cancel ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE])
@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_running_node_is_stopped_softly(context, log, placement, dispatch):
    handle = cancelling.endless(placement).submit({"log": log}, dispatch=dispatch)
    wait_until(lambda: "endless" in by_node(log, handle.run_id, "start"), END_S)
    assert handle.cancel() is FlowStatus.CANCELLED
    result = handle.result(END_S)
    assert (result.status, result.nodes["endless"].status) == (FlowStatus.CANCELLED, NodeStatus.CANCELLED)
    (stopped,) = wait_until(lambda: by_node(log, handle.run_id, "stopped").get("endless", []), END_S)
    assert stopped.more == "TimeUp"
    wait_until(lambda: is_idle(context), END_S)
    assert starts(log, handle.run_id) == {"quick": 1, "endless": 1}, "its optional downstream does not begin either"
    assert handle.cancel() is FlowStatus.CANCELLED, "twice is once"


def test_an_async_node_is_stopped(context, log):
    handle = cancelling.endless(FlowType.PROCESS, is_async=True).submit({"log": log})
    wait_until(lambda: "endless" in by_node(log, handle.run_id, "start"), END_S)
    handle.cancel()
    wait_until(lambda: by_node(log, handle.run_id, "stopped").get("endless", []), END_S)


def test_queued_nodes_never_begin(context, log, go):
    blockers = [gated.submit(str(go), log) for _ in range(2)]
    wait_until(lambda: sum(starts(log, blocker.run_id)["waits"] for blocker in blockers) == 2, END_S)
    queued = forked.submit(str(go), log)
    assert queued.status() is FlowStatus.PENDING
    queued.cancel()
    go.touch()
    for blocker in blockers:
        assert blocker.result(END_S).status is FlowStatus.COMPLETED
    assert gated.submit(str(go), log).result(END_S).status is FlowStatus.COMPLETED, "all slots are at work"
    assert starts(log, queued.run_id) == {}


def test_a_node_that_waits_for_its_retry_is_not_tried_again(context, log):
    handle = waiting_for_retry.submit(log)
    wait_until(lambda: handle.node("fails_for_now").status is NodeStatus.PENDING and starts(log, handle.run_id), END_S)
    assert handle.cancel() is FlowStatus.CANCELLED
    assert handle.node("fails_for_now").status is NodeStatus.CANCELLED
    state = State.of(context)
    wait_until(lambda: not state.client.zcard(state.keys.timers), END_S, "no timer of it stays")
    assert starts(log, handle.run_id) == {"fails_for_now": 1}


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_map_ends_with_its_items(context, log, dispatch):
    handle = cancelling.many_slow_items.submit(60, log, dispatch=dispatch)
    wait_until(lambda: len(effects(log, handle.run_id)) > 3, END_S)
    handle.cancel()
    wait_until(lambda: is_idle(context), END_S)
    begun = len(effects(log, handle.run_id))
    assert begun < 60
    assert gated.submit(sys.executable, log).result(END_S).status is FlowStatus.COMPLETED
    assert len(effects(log, handle.run_id)) == begun


def test_ten_thousand_nodes_are_cancelled_by_one_call(context, log):
    handle = many.submit(10_000, log)
    wait_until(lambda: handle.progress().completed > 200, END_S)
    assert handle.progress().total > 9000
    calls: list[str] = []
    client = State.of(context).client
    execute = client.execute_command

    def noted(*args: Any, **options: Any) -> Any:
        calls.append(args[0])
        return execute(*args, **options)

    client.execute_command = noted
    try:
        handle.cancel()
    finally:
        del client.execute_command
    assert [name.upper() for name in calls] == ["EVALSHA"]
    wait_until(lambda: is_idle(context), END_S)
    begun = sum(starts(log, handle.run_id).values())
    assert begun < 10_000
    assert gated.submit(sys.executable, log).result(END_S).status is FlowStatus.COMPLETED, "nobody is held up"
    assert sum(starts(log, handle.run_id).values()) == begun


# ── pause and resume ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_paused_run_goes_no_further_until_it_is_resumed(context, log, go, dispatch):
    handle = gated.submit(str(go), log, dispatch=dispatch)
    wait_until(lambda: starts(log, handle.run_id)["waits"], END_S)
    assert handle.pause() is FlowStatus.RUNNING
    assert handle.progress().is_paused
    go.touch()
    wait_until(lambda: handle.node("waits").status is NodeStatus.COMPLETED, END_S, "what runs is recorded")
    assert gated.submit(str(go), log).result(END_S).status is FlowStatus.COMPLETED, "others go on"
    assert handle.node("passes").status is NodeStatus.READY
    with pytest.raises(TimeoutError):
        handle.result(0.5)
    assert starts(log, handle.run_id) == {"waits": 1}
    assert handle.resume() is FlowStatus.RUNNING
    assert handle.result(END_S).output == "value"
    assert not handle.progress().is_paused
    assert starts(log, handle.run_id) == {"waits": 1, "passes": 1}


def test_a_map_is_paused_between_its_items(context, log):
    handle = cancelling.many_slow_items.submit(40, log)
    wait_until(lambda: len(effects(log, handle.run_id)) > 3, END_S)
    handle.pause()
    wait_until(lambda: is_idle(context), END_S)
    begun = len(effects(log, handle.run_id))
    assert begun < 40
    handle.resume()
    assert handle.result(END_S).output == list(range(40))
    assert set(Counter(effect.more for effect in effects(log, handle.run_id)).values()) == {1}


def test_a_paused_run_is_cancelled(context, log, go):
    handle = gated.submit(str(go), log)
    handle.pause()
    assert handle.cancel() is FlowStatus.CANCELLED
    assert not handle.progress().is_paused
    assert handle.resume() is FlowStatus.CANCELLED


# ── retry ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_when_the_cause_is_mended_only_what_failed_and_its_downstream_run_again(context, log, go, dispatch):
    handle = forked.submit(str(go), log, dispatch=dispatch)
    failed = handle.result(END_S)
    assert failed.status is FlowStatus.FAILED
    assert failed.nodes["joins"].status is NodeStatus.UPSTREAM_FAILED
    go.touch()
    assert not handle.retry().is_final or handle.status().is_final
    result = handle.result(END_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, "start+start")
    assert starts(log, handle.run_id) == {"passes": 1, "passes_2": 1, "needs": 2, "joins": 1}
    assert result.nodes["needs"].attempt == 1, "attempts are counted anew"
    assert result.failures == {}
    kept = result.nodes["passes_2"]
    assert kept == failed.nodes["passes_2"]
    with pytest.raises(RunStatusError, match="no failed or cancelled node"):
        handle.retry()


def test_it_fails_again_if_it_is_not(context, log, go):
    handle = forked.submit(str(go), log)
    handle.result(END_S)
    for times in (2, 3):
        handle.retry()
        assert handle.result(END_S).status is FlowStatus.FAILED
        assert starts(log, handle.run_id)["needs"] == times
    assert handle.progress().settled == handle.progress().total == 4


def test_from_a_node(context, log, go):
    go.touch()
    handle = forked.submit(str(go), log)
    handle.result(END_S)
    handle.retry("needs")
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    assert starts(log, handle.run_id) == {"passes": 1, "passes_2": 1, "needs": 2, "joins": 2}
    with pytest.raises(KeyError, match="'nobody' names no nodes"):
        handle.retry("nobody")


def test_from_an_item(context, log, go):
    handle = mapped.submit(4, str(go), log)
    assert handle.result(END_S).status is FlowStatus.FAILED
    go.touch()
    handle.retry("picky[2]")
    assert handle.result(END_S).status is FlowStatus.FAILED, "another one has failed, too"
    handle.retry("picky[1]")
    assert handle.result(END_S).output == [0, 1, 2, 3]
    assert starts(log, handle.run_id) == {"picky[0]": 1, "picky[1]": 2, "picky[2]": 2, "picky[3]": 1, "together": 1}


def test_of_a_cancelled_run(context, log, go):
    handle = gated.submit(str(go), log)
    wait_until(lambda: starts(log, handle.run_id)["waits"], END_S)
    handle.cancel()
    go.touch()
    handle.retry()
    assert handle.result(END_S).output == "value"


def test_two_who_retry_at_once_open_it_once(context, log, go):
    handle = forked.submit(str(go), log)
    handle.result(END_S)
    go.touch()
    told: list[object] = []

    def retry() -> None:
        try:
            told.append(context.client.handle(handle.run_id).retry())
        except RunStatusError as error:
            told.append(error)

    threads = [threading.Thread(target=retry) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(one, RunStatusError) for one in told) == 1, told
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    assert starts(log, handle.run_id)["needs"] == 2


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_deadline(context, log, go, dispatch):
    handle = gated.submit(str(go), log, deadline_s=1.5, dispatch=dispatch)
    result = handle.result(END_S)
    assert (result.status, result.error) == (FlowStatus.FAILED, "the run had not ended when its deadline passed")
    assert {node.status for node in result.nodes.values()} == {NodeStatus.CANCELLED}
    wait_until(lambda: "waits" in by_node(log, handle.run_id, "left"), END_S, "its attempt is stopped")
    wait_until(lambda: is_idle(context), END_S)
    go.touch()
    handle.retry()
    assert handle.result(END_S).output == "value", "it has no deadline any more"


def test_a_run_that_keeps_its_deadline(context, log, go):
    go.touch()
    handle = gated.submit(str(go), log, deadline_s=600)
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    state = State.of(context)
    assert state.client.zcard(state.keys.timers) == 0


def test_the_time_of_an_attempt(context, log):
    handle = overlong.submit(log)
    result = handle.result(END_S)
    failure = result.nodes["takes_too_long"].failure
    assert failure is not None
    assert failure.kind is FailureKind.TIMEOUT
    (stopped,) = by_node(log, handle.run_id, "stopped")["takes_too_long"]
    assert stopped.more == "TimeUp"


# ── idempotent submits, and room ──────────────────────────────────────────────────────────────────────────────────────

SUBMITTER = """
import sys
from tests.integration.test_control import gated
print(gated.submit(sys.argv[1], sys.argv[2], idempotency_key="key").run_id)
"""


def test_the_same_key_is_one_run_from_threads_and_processes(context, log, go):
    env = {f"FLOWQ_{name.upper()}": str(value) for name, value in SHORT.items()}
    env |= {"FLOWQ_BROKER_URL": context.server.url, "FLOWQ_STATE_URL": context.server.redis_url}
    command = [sys.executable, "-c", SUBMITTER, str(go), log]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | env) for _ in range(3)
    ]
    found: set[str] = set()
    submit = lambda: found.add(gated.submit(str(go), log, idempotency_key="key", context=context).run_id)  # noqa: E731
    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found |= {process.communicate(timeout=END_S)[0].strip() for process in processes}
    (run,) = found
    go.touch()
    handle = context.client.handle(run)
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    assert gated.submit(str(go), log, idempotency_key="key").run_id == run, "also when it has ended"
    assert starts(log, run) == {"waits": 1, "passes": 1}
    with pytest.raises(IdempotencyError, match=f"see run {run}"):
        gated.submit(str(go), log + "x", idempotency_key="key")
    assert gated.submit(str(go), log, idempotency_key="another").run_id != run
    assert forked.submit(str(go), log, idempotency_key="key").run_id != run, "of another flow"
    context.client.handle(run).result(END_S)


def test_submit_waits_for_room_and_then_says_that_there_is_none(context, log, go, tmp_path):
    given: dict[str, Any] = {"broker_url": context.server.url, "state_url": context.server.redis_url, **SHORT}
    narrow = FlowContext(Settings(**given, max_open_runs=2, submit_wait_s=0.3))
    patient = FlowContext(Settings(**given, max_open_runs=2, submit_wait_s=END_S))
    open_runs = [gated.submit(str(go), log, context=narrow) for _ in range(2)]
    ids = {run.run_id.encode() for run in open_runs}
    before = set(State.of(context).client.keys())
    with pytest.raises(OverloadedError, match="2 runs are open"):
        gated.submit(str(go), "x" * 100_000 + os.urandom(60_000).hex(), context=narrow)
    left = {key for key in set(State.of(context).client.keys()) - before if b":run:" in key or b":values:" in key}
    left = {key for key in left if not any(run in key for run in ids)}  # these go on meanwhile
    assert left == set(), "nothing is half-stored"
    submitted: list[Any] = []
    thread = threading.Thread(target=lambda: submitted.append(gated.submit(str(go), log, context=patient)))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    open_runs[0].cancel()
    thread.join(END_S)
    go.touch()
    assert submitted[0].result(END_S).status is FlowStatus.COMPLETED
    assert open_runs[1].result(END_S).status is FlowStatus.COMPLETED
    narrow.close()
    patient.close()


# ── dead letters ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_node_that_kills_its_process_is_a_dead_letter_until_it_is_retried(context, log, go, dispatch):
    handle = poison.submit(str(go), log, dispatch=dispatch)
    result = handle.result(END_S)
    failure = result.nodes["kills_its_process"].failure
    assert failure is not None
    assert failure.kind is FailureKind.LOST
    (letter,) = context.client.dead_letters()
    assert (letter.run_id, letter.flow, letter.node) == (handle.run_id, "poison", "kills_its_process")
    assert letter.failure == result.failures["kills_its_process"]
    assert starts(log, handle.run_id) == {"kills_its_process": 3}
    go.touch()
    context.client.handle(letter.run_id).retry(letter.node)
    assert handle.result(END_S).output == "alive"
    assert context.client.dead_letters() == []


def test_dead_letters_are_dropped_or_go_with_their_run(context, log, go):
    first, second = (poison.submit(str(go), log) for _ in range(2))
    first.result(END_S)
    second.result(END_S)
    letters = context.client.dead_letters()
    assert {letter.run_id for letter in letters} == {first.run_id, second.run_id}
    assert letters == sorted(letters, key=lambda letter: letter.at, reverse=True)
    assert context.client.drop_dead_letters([letter for letter in letters if letter.run_id == first.run_id]) == 1
    assert context.client.drop_dead_letters(letters) == 1
    assert context.client.dead_letters() == []
    assert first.status() is FlowStatus.FAILED, "its run is kept"
