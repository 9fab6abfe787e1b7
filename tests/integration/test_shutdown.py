"""A worker that is told to end: attempts go on for the grace, the rest is handed back, and the worker ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flowq import FlowStatus, FlowType
from flowq.standalone import EmbeddedContext
from flowq.standalone.process import GuardedProcess
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.leftovers import clear_now
from tests.integration import supervised_flows as flows
from tests.integration.supervised_flows import alone, ends, let_go, starts

POOLS = ["prefork", "solo", "threads"]
SHORT_S, LONG_S = 0.5, 60.0
"""Graces: one that is over soon, and one that is not over before the test is."""
SOON_S = 6.0
"""Well below the default lease of 15 s: who waits for a lease to expire is too late."""
ENDS_S = 12.0
"""Celery itself needs a second or two to end, and these cores are shared."""


@pytest.fixture
def log(tmp_path) -> str:
    return str(tmp_path / "effects")


@contextmanager
def two(pool: str, grace_s: float) -> Iterator[EmbeddedContext]:
    with fleet(2, [flows], pool=pool, settings={"grace_s": grace_s}) as started:
        yield started
        started.workers.stop(grace_s=0)  # what is left runs for nobody


def of(pools: list[str], *graces_s: float) -> pytest.MarkDecorator:
    """Give a test two workers for each of these pools and graces, which it shares with others."""
    given = [(pool, grace_s) for pool in pools for grace_s in graces_s]
    ids = [pool if len(graces_s) == 1 else f"{pool}-{grace_s:g}" for pool, grace_s in given]
    return pytest.mark.parametrize("shared", given, ids=ids, indirect=True, scope="module")


@pytest.fixture(scope="module")
def shared(request) -> Iterator[EmbeddedContext]:
    with two(*request.param) as started:
        yield started


@pytest.fixture
def context(shared) -> Iterator[EmbeddedContext]:
    """Two workers; the one that the test before has ended is started again."""
    for number, worker in enumerate(shared.workers.processes, start=1):
        if not worker.alive:
            shared.workers.restart(number)
    shared.workers.wait_ready()
    yield shared
    clear_now(shared)


def worker_of(context: EmbeddedContext, handle) -> GuardedProcess:
    """Give the worker that runs the flow's one node."""
    name = wait_until(lambda: handle.node("only").worker, SOON_S).partition("@")[0]
    return next(process for process in context.workers.processes if process.name == name)


def started(log: str, run: str, attempts: int = 1) -> int:
    """Wait for so many beginnings; gives the last one's process."""
    found = wait_until(lambda: seen if len(seen := starts(log, run)) == attempts else [], SOON_S)
    pid: int = found[-1].more
    return pid


def assert_ends(worker: GuardedProcess, status: int = 0) -> None:
    assert worker.wait(ENDS_S), worker.log_tail()
    assert worker.returncode == status, worker.log_tail()


@of(POOLS, LONG_S)
def test_what_ends_within_the_grace_is_recorded(context, log):
    handle = alone(flows.Waits()).submit({"log": log}, context=context)
    started(log, handle.run_id)
    worker = worker_of(context, handle)
    worker.terminate()
    # What comes now goes to the other one: nobody counts on this one any more.
    other = alone(flows.Noted(), "other").submit({"log": log}, context=context)
    assert str(other.result(SOON_S).nodes["other"].worker).partition("@")[0] != worker.name
    let_go(log)
    result = handle.result(SOON_S)
    assert (result.status, result.output, len(starts(log, handle.run_id))) == (FlowStatus.COMPLETED, 1, 1)
    assert_ends(worker)


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.THREAD])
@of(POOLS, SHORT_S)
def test_what_does_not_is_handed_back_and_runs_elsewhere_at_once(context, log, placement):
    handle = alone(flows.Waits(), flow_type=placement).submit({"log": log}, context=context)
    first = started(log, handle.run_id)
    worker = worker_of(context, handle)
    worker.terminate()
    second = started(log, handle.run_id, attempts=2)
    assert second != first
    assert_ends(worker)
    assert handle.node("only").attempt == 1  # no attempt was counted, and no crash
    let_go(log)
    result = handle.result(SOON_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 1)
    assert [end.more for end in ends(log, handle.run_id)] == [second]


@pytest.mark.parametrize("processor", [flows.Deaf(), flows.Stubborn()], ids=["deaf", "stubborn"])
def test_a_child_that_does_not_heed_it_is_killed(log, processor):
    with two("prefork", SHORT_S) as context:
        handle = alone(processor).submit({"log": log}, context=context)
        started(log, handle.run_id)
        worker = worker_of(context, handle)
        worker.terminate()
        started(log, handle.run_id, attempts=2)
        assert_ends(worker)
        assert handle.node("only").attempt == 1
        handle.cancel()


@of(["solo", "threads"], SHORT_S)
def test_a_worker_without_children_ends_though_an_attempt_does_not(context, log):
    handle = alone(flows.Stubborn()).submit({"log": log}, context=context)
    started(log, handle.run_id)
    worker = worker_of(context, handle)
    worker.terminate()
    started(log, handle.run_id, attempts=2)
    assert_ends(worker)
    let_go(log)
    assert handle.result(SOON_S).output == 1


@pytest.mark.parametrize(
    "then", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT], [signal.SIGQUIT]], ids=["term", "int", "quit"]
)
@of(POOLS, SHORT_S)
def test_more_signals_do_no_harm(context, log, then):
    handle = alone(flows.Waits()).submit({"log": log}, context=context)
    first = started(log, handle.run_id)
    worker = worker_of(context, handle)
    for number in [signal.SIGTERM, *then]:
        os.kill(worker.pid, number)
    second = started(log, handle.run_id, attempts=2)
    assert second != first
    assert worker.wait(ENDS_S), worker.log_tail()
    let_go(log)
    result = handle.result(SOON_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 1)


@of(POOLS, LONG_S)
def test_a_cold_shutdown_hands_back_at_once(context, log):
    handle = alone(flows.Waits()).submit({"log": log}, context=context)
    started(log, handle.run_id)
    worker = worker_of(context, handle)
    os.kill(worker.pid, signal.SIGQUIT)
    started(log, handle.run_id, attempts=2)
    assert worker.wait(ENDS_S), worker.log_tail()
    let_go(log)
    result = handle.result(SOON_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 1)


@of(["prefork"], LONG_S)
def test_a_child_that_is_told_to_end_hands_back_what_it_holds(context, log):
    """As an operator may, or a service manager that tells a whole group of processes."""
    handle = alone(flows.Waits()).submit({"log": log}, context=context)
    first = started(log, handle.run_id)
    os.kill(first, signal.SIGTERM)
    started(log, handle.run_id, attempts=2)
    assert handle.node("only").attempt == 1
    let_go(log)
    assert handle.result(SOON_S).output == 1


@of(["prefork"], SHORT_S, LONG_S)
def test_a_nodes_own_task_is_handed_back_too(context, log):
    handle = alone(flows.Waits()).submit({"log": log}, context=context, dispatch="canvas")
    started(log, handle.run_id)
    worker = worker_of(context, handle)
    worker.terminate()
    if context.settings.grace_s == SHORT_S:
        started(log, handle.run_id, attempts=2)
        assert_ends(worker)
    let_go(log)
    result = handle.result(SOON_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 1)
    assert_ends(worker)


@of(["prefork"], LONG_S)
def test_an_idle_worker_ends_at_once(context):
    for worker in context.workers.processes:
        worker.terminate()
    for worker in context.workers.processes:
        assert_ends(worker)
