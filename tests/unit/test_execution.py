"""Where attempts run, and what stops them."""

import asyncio
import os
import signal
import threading
import time
from typing import Any

import pytest

from flowq import ProcessPoolManager
from flowq.execution import Interruptible, ProcessDied, TimeUp
from flowq.testing import wait_until


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def in_thread(body) -> Any:
    """Run a function in a thread and give what it returned, or raise what it raised."""
    found: dict[str, Any] = {}

    def main() -> None:
        try:
            found["value"] = body()
        except BaseException as error:
            found["error"] = error

    thread = threading.Thread(target=main)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    if "error" in found:
        raise found["error"]
    return found["value"]


here = pytest.mark.parametrize("call", [lambda body: body(), in_thread], ids=["main thread", "other thread"])


# ── Interruptible ─────────────────────────────────────────────────────────────────────────────────────────────────────


@here
def test_code_that_computes_is_stopped(call):
    def body() -> None:
        with Interruptible(0.05):
            spin(20)

    with pytest.raises(TimeUp):
        call(body)


def test_a_blocking_call_in_the_main_thread_is_stopped():
    began = time.monotonic()
    with pytest.raises(TimeUp), Interruptible(0.05):
        time.sleep(20)
    assert time.monotonic() - began < 10


@here
def test_except_exception_does_not_swallow_it(call):
    def body() -> None:
        with Interruptible(0.05):
            try:
                spin(20)
            except Exception:
                pytest.fail("it was swallowed")

    with pytest.raises(TimeUp):
        call(body)


def test_code_that_swallowed_it_is_stopped_again(monkeypatch):
    monkeypatch.setattr("flowq.execution.limits.RING_AGAIN_S", 0.02)

    def swallows_one() -> None:
        with pytest.raises(TimeUp):
            time.sleep(20)
        time.sleep(20)

    with pytest.raises(TimeUp), Interruptible(0.02):
        swallows_one()


@here
def test_what_ends_in_time_is_left_alone(call):
    def body() -> str:
        with Interruptible(0.05) as scope:
            value = "value"
        spin(0.1)
        assert scope.overdue_s == 0, "it has ended"
        return value

    assert call(body) == "value"


@here
def test_somebody_else_stops_it(call):
    scope = Interruptible()
    began = threading.Event()

    def stop() -> None:
        began.wait(10)
        scope.stop()

    def body() -> None:
        with scope:
            began.set()
            spin(20)

    stopper = threading.Thread(target=stop)
    stopper.start()
    with pytest.raises(TimeUp):
        call(body)
    stopper.join()
    assert scope.stopped


@here
def test_what_was_stopped_before_it_began_does_not_begin(call):
    scope = Interruptible()
    scope.stop()

    def body() -> None:
        with scope:
            pytest.fail("it began")

    with pytest.raises(TimeUp):
        call(body)


def test_stopping_what_is_over_stops_nothing():
    with Interruptible() as scope:
        pass
    scope.stop()
    spin(0.02)


def test_time_begins_with_the_body():
    scope = Interruptible(0.01)
    assert scope.overdue_s == 0.0  # however long the process runs already
    with pytest.raises(TimeUp), scope:
        spin(20)
    assert Interruptible().overdue_s == 0.0


def test_no_alarm_outlives_its_block():
    """A body that ends in the very moment when its time is up must not be rung for later, in somebody else's code."""
    handler = signal.getsignal(signal.SIGALRM)
    interrupted = 0
    for i in range(3000):
        timeout_s = 50e-6 + (i % 40) * 1e-6
        try:
            with Interruptible(timeout_s):
                spin(timeout_s)
        except TimeUp:
            interrupted += 1
        assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
        assert signal.getsignal(signal.SIGALRM) == handler
    assert interrupted


def test_an_alarm_at_the_edge_of_a_block_is_no_interruption(monkeypatch):
    scope = Interruptible()
    scope._ring(signal.SIGALRM, _frame_of(Interruptible.__exit__))
    with pytest.raises(TimeUp):
        scope._ring(signal.SIGALRM, _frame_of(spin))


def _frame_of(function):
    class Frame:
        f_code = function.__code__

    return Frame()


# ── processes ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def serve(job: Any) -> Any:
    """Runs in the child."""
    kind, value = job
    if kind == "pid":
        return os.getpid()
    if kind == "sleep":
        time.sleep(value)
    if kind == "exit":
        os._exit(value)
    return value


@pytest.fixture
def pool():
    made = ProcessPoolManager(serve, processes=2)
    yield made
    made.close()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


async def test_a_child_is_used_again(pool):
    pids = {await pool.in_process(("pid", None), None) for _ in range(5)}
    assert len(pids) == 1
    assert pids != {os.getpid()}


async def test_jobs_run_beside_each_other(pool):
    pids = await asyncio.gather(*(pool.in_process(("pid", None), None) for _ in range(4)))
    assert len(set(pids)) == 4


async def test_no_more_children_than_said_are_kept(pool):
    await asyncio.gather(*(pool.in_process(("pid", None), None) for _ in range(4)))
    assert len(pool._idle) == 2


async def test_large_jobs_and_results(pool):
    value = os.urandom(3_000_000)
    assert await pool.in_process(("echo", value), 30) == value


async def test_a_job_that_takes_too_long_is_killed(pool):
    pid = await pool.in_process(("pid", None), None)
    with pytest.raises(TimeUp):
        await pool.in_process(("sleep", 60), 0.05)
    assert is_gone(pid)
    assert await pool.in_process(("pid", None), None) != pid


async def test_a_cancelled_job_is_killed(pool):
    pid = await pool.in_process(("pid", None), None)
    job = asyncio.create_task(pool.in_process(("sleep", 60), None))
    await asyncio.to_thread(wait_until, lambda: pool._busy)
    job.cancel()
    with pytest.raises(asyncio.CancelledError):
        await job
    assert is_gone(pid)


async def test_a_child_that_dies_is_reported(pool):
    with pytest.raises(ProcessDied, match="exit code 7"):
        await pool.in_process(("exit", 7), None)
    assert await pool.in_process(("echo", 1), None) == 1


async def test_an_idle_child_that_was_killed_by_somebody(pool):
    pid = await pool.in_process(("pid", None), None)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(ProcessDied):
        await pool.in_process(("echo", 1), None)
    assert await pool.in_process(("echo", 1), None) == 1


async def test_children_that_know_too_little_are_replaced():
    generation = 1
    pool = ProcessPoolManager(serve, lambda: generation, processes=2)
    first = await pool.in_process(("pid", None), None)
    generation = 2
    assert await pool.in_process(("pid", None), None) != first
    assert is_gone(first)
    pool.close()


async def test_a_forked_child_has_children_of_its_own():
    """As a processor has that runs a flow: its parent's children are none of its business."""

    def serve_more(job: Any) -> Any:
        if job == "nested":
            return asyncio.run(nesting.in_process(("pid", None), None)), os.getpid()
        return serve(job)

    nesting = ProcessPoolManager(serve_more, processes=2)
    before = set(await asyncio.gather(*(nesting.in_process(("pid", None), None) for _ in range(2))))
    grandchild, child = await nesting.in_process("nested", 10)
    assert child in before
    assert grandchild not in {*before, os.getpid()}
    after = set(await asyncio.gather(*(nesting.in_process(("pid", None), None) for _ in range(2))))
    assert after == before
    nesting.close()
    await asyncio.to_thread(wait_until, lambda: is_gone(grandchild))


async def test_closing_leaves_nothing_and_takes_no_time():
    """Even if a child of another pool holds the pipe's end open."""
    first, second = ProcessPoolManager(serve), ProcessPoolManager(serve)
    pid = await first.in_process(("pid", None), None)
    other = await second.in_process(("pid", None), None)
    began = time.monotonic()
    first.close()
    assert time.monotonic() - began < 1.5
    assert is_gone(pid)
    assert not is_gone(other)
    second.close()
    assert is_gone(other)


# ── threads ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def node_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "flowq-node"]


async def test_a_thread_gives_its_result(pool):
    assert await pool.in_thread(lambda scope: threading.current_thread().name, None) == "flowq-node"


async def test_a_thread_raises_what_was_raised(pool):
    def job(scope: Interruptible) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await pool.in_thread(job, None)


async def test_a_thread_that_takes_too_long_is_interrupted(pool):
    def job(scope: Interruptible) -> None:
        with scope:
            spin(60)

    with pytest.raises(TimeUp):
        await pool.in_thread(job, 0.05)
    await asyncio.to_thread(wait_until, lambda: not node_threads())


async def test_a_thread_whose_caller_is_cancelled_is_interrupted(pool):
    began = threading.Event()

    def job(scope: Interruptible) -> None:
        with scope:
            began.set()
            spin(60)

    waiting = asyncio.create_task(pool.in_thread(job, None))
    await asyncio.to_thread(began.wait, 10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.to_thread(wait_until, lambda: not node_threads())
