"""A worker's parent looks after its pool processes: those that die, let nobody have a turn, or heed nobody."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import FailureKind, FlowStatus, FlowType, NodeStatus
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.engines.effects import effects
from tests.integration import supervised_flows as flows
from tests.integration.supervised_flows import alone, children, ends, is_gone, let_go, starts

SOON_S = 6.0
"""Well below the default lease of 15 s: who waits for a lease to expire is too late."""

SHORT = {"lease_s": 1.5, "renew_s": 0.3, "sweep_s": 0.3}


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    """Two workers as they are by default."""
    with fleet(2, [flows]) as started:
        yield started


@pytest.fixture(scope="module")
def quick() -> Iterator[EmbeddedContext]:
    """Two workers whose leases are short."""
    with fleet(2, [flows], settings=SHORT) as started:
        yield started


@pytest.fixture
def log(tmp_path) -> str:
    return str(tmp_path / "effects")


def pid_of(log: str, run: str, attempt: int = 1) -> int:
    """Wait until an attempt has begun; gives its process."""
    found = wait_until(lambda: [seen for seen in starts(log, run) if seen.attempt == attempt], SOON_S)
    pid: int = found[-1].more
    return pid


# ── children that die ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_killed_child_was_at_runs_again_at_once(workers, log):
    handle = alone(flows.Waits()).submit({"log": log}, context=workers)
    os.kill(pid_of(log, handle.run_id), signal.SIGKILL)
    pid_of(log, handle.run_id, attempt=2)
    let_go(log)
    result = handle.result(SOON_S)
    assert (result.output, result.status) == (2, FlowStatus.COMPLETED)


def test_all_that_ran_in_the_threads_of_a_killed_child_runs_again_at_once(workers, log):
    handle = flows.beside(flows.Waits(), 6).submit({"log": log}, context=workers)
    first = wait_until(lambda: seen if len(seen := starts(log, handle.run_id)) == 6 else [], SOON_S)
    victim = max({seen.more for seen in first}, key=[seen.more for seen in first].count)
    lost = {seen.node for seen in first if seen.more == victim}
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: {seen.node for seen in starts(log, handle.run_id) if seen.attempt == 2} == lost, SOON_S)
    for number in range(6):
        let_go(log, f"n{number}")
    assert handle.result(SOON_S).status is FlowStatus.COMPLETED
    assert len(starts(log, handle.run_id)) == 6 + len(lost)


def test_a_node_that_kills_its_process_over_and_over_fails_and_does_not_loop(workers, log):
    handle = alone(flows.Waits()).submit({"log": log}, context=workers)
    for attempt in (1, 2, 3):
        os.kill(pid_of(log, handle.run_id, attempt), signal.SIGKILL)
    result = handle.result(SOON_S)
    assert result.status is FlowStatus.FAILED
    node = result.nodes["only"]
    assert node.failure is not None
    assert (node.status, node.failure.kind, node.attempt) == (NodeStatus.FAILED, FailureKind.LOST, 3)
    assert len(starts(log, handle.run_id)) == 3


def test_children_that_die_with_nothing_to_do_are_no_loss(workers, log):
    victims = [child for worker in workers.workers.processes for child in children(worker.pid)]
    assert len(victims) == 2
    for child in victims:
        os.kill(child, signal.SIGKILL)
    let_go(log)
    result = alone(flows.Waits()).submit({"log": log}, context=workers).result(SOON_S)
    assert result.nodes["only"].attempt == 1


def test_what_a_child_was_given_while_it_listened_is_not_its_doing(log):
    """It is frozen while it waits for its bell, and so is killed before it has begun what the bell rang for."""
    with fleet(2, [flows], settings={"linger_s": 10.0, "slice_s": 60.0}) as context:
        client, idle = State.of(context).client, State.of(context).keys.idle("flowq")
        both = flows.beside(flows.Waits(), 2, FlowType.PROCESS).submit({"log": log}, context=context)
        pids = {seen.more for seen in wait_until(lambda: two(starts(log, both.run_id)), SOON_S)}
        let_go(log, "n0")
        let_go(log, "n1")
        both.result(SOON_S)
        wait_until(lambda: client.zcard(idle) == 2, SOON_S)
        handle = alone(flows.Noted()).submit({"log": log}, context=context)
        handle.result(SOON_S)
        wait_until(lambda: client.zcard(idle) == 2, SOON_S)
        (victim,) = pids - {starts(log, handle.run_id)[0].more}  # the bell of who listened last is rung first
        os.kill(victim, signal.SIGSTOP)
        handle = flows.forked(flows.Waits()).submit({"log": log}, context=context)
        nodes = State.of(context).keys.nodes(handle.run_id)
        let_go(log, "first")
        wait_until(lambda: sum(record.startswith(b"running") for record in client.hvals(nodes)) == 2, SOON_S)
        assert {seen.more for seen in starts(log, handle.run_id)} == pids - {victim}, "the other one cannot begin it"
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(starts(log, handle.run_id)) == 3, SOON_S)
        let_go(log, "left")
        let_go(log, "right")
        result = handle.result(SOON_S)
        assert [result.nodes[name].attempt for name in ("first", "left", "right")] == [1, 1, 1]


def two(found: list[Any]) -> list[Any]:
    return found if len(found) == 2 else []


# ── children that let nobody have a turn ──────────────────────────────────────────────────────────────────────────────


def test_an_attempt_that_lets_no_thread_have_a_turn_keeps_its_claim(quick, log):
    handle = alone(flows.Sleeps(for_s=5)).submit({"log": log}, context=quick)
    result = handle.result(20)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 1)
    assert len(starts(log, handle.run_id)) == 1


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.THREAD])
@pytest.mark.parametrize("processor", [flows.Backtracks(), flows.Deaf()], ids=["regex", "deaf"])
def test_its_timeout_holds(workers, log, processor, placement):
    flow = alone(processor, timeout=0.5, retries=flows.AT_ONCE, flow_type=placement)
    handle = flow.submit({"log": log}, context=workers)
    result = handle.result(30)
    node = result.nodes["only"]
    assert node.failure is not None
    assert (node.status, node.failure.kind, node.attempt) == (NodeStatus.FAILED, FailureKind.TIMEOUT, 2)
    assert len(starts(log, handle.run_id)) == 2
    pids = {seen.more for seen in starts(log, handle.run_id)}
    if isinstance(processor, flows.Deaf):
        wait_until(lambda: all(map(is_gone, pids)), SOON_S)
    works(workers, f"{log}-next")


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.THREAD])
@pytest.mark.parametrize(
    "processor", [flows.Backtracks(), flows.Deaf(), flows.Stubborn()], ids=["regex", "deaf", "stubborn"]
)
def test_it_ends_when_its_run_is_cancelled(quick, log, processor, placement):
    if placement is FlowType.THREAD and isinstance(processor, flows.Stubborn):
        pytest.skip("a thread that swallows the interruption goes on: others still have their turn")
    handle = alone(processor, flow_type=placement).submit({"log": log}, context=quick)
    pid = pid_of(log, handle.run_id)
    handle.cancel()
    wait_until(lambda: is_gone(pid), SOON_S)
    assert handle.result(SOON_S).status is FlowStatus.CANCELLED
    assert len(starts(log, handle.run_id)) == 1
    works(quick, f"{log}-next")


def test_what_else_a_killed_child_was_at_is_handed_back_without_a_crash(workers, log):
    """One node of several in a process has to be killed: for the others that is no fault of theirs."""
    others = flows.beside(flows.Waits(), 4).submit({"log": log}, context=workers)
    first = wait_until(lambda: seen if len(seen := starts(log, others.run_id)) == 4 else [], SOON_S)
    deaf = alone(flows.Deaf(), timeout=0.5, flow_type=FlowType.THREAD).submit({"log": log}, context=workers)
    pid = pid_of(log, deaf.run_id)
    wait_until(lambda: is_gone(pid), SOON_S)
    for number in range(4):
        let_go(log, f"n{number}")
    result = others.result(SOON_S)
    assert result.status is FlowStatus.COMPLETED
    assert {node.attempt for node in result.nodes.values()} == {1}
    again = {seen.node for seen in first if seen.more == pid}
    assert len(starts(log, others.run_id)) == 4 + len(again)


def works(context: EmbeddedContext, log: str) -> None:
    """All slots take nodes again."""
    handle = flows.beside(flows.Waits(), 2, FlowType.PROCESS).submit({"log": log}, context=context)
    wait_until(lambda: len(starts(log, handle.run_id)) == 2, SOON_S)
    for number in range(2):
        let_go(log, f"n{number}")
    assert handle.result(SOON_S).status is FlowStatus.COMPLETED


# ── processes that are stopped, and go on later ───────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("whole", [False, True], ids=["child", "tree"])
def test_a_process_that_was_stopped_for_long_has_no_say_any_more(quick, log, whole):
    handle = alone(flows.Waits()).submit({"log": log}, context=quick)
    zombie = pid_of(log, handle.run_id)
    send = os.killpg if whole else os.kill
    target = os.getpgid(zombie) if whole else zombie
    send(target, signal.SIGSTOP)
    try:
        second = pid_of(log, handle.run_id, attempt=2)
        assert second != zombie
        let_go(log, attempt=1)
    finally:
        send(target, signal.SIGCONT)
    next_one, seen = alone(flows.Noted(), "next"), f"{log}-next"

    def is_back() -> bool:
        """The process that was stopped takes other nodes."""
        assert next_one.submit({"log": seen}, context=quick).result(SOON_S).status is FlowStatus.COMPLETED
        return zombie in {start.more for start in starts(seen)}

    wait_until(is_back, 20)
    assert handle.status() is FlowStatus.RUNNING
    let_go(log, attempt=2)
    assert handle.result(SOON_S).output == 2
    assert len(starts(log, handle.run_id)) == 2
    assert [effect.attempt for effect in ends(log, handle.run_id)][-1] == 2
    assert effects(log)
