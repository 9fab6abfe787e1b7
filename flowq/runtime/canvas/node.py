"""What a node's own Celery task does: pick the node, run it, settle it, and end as it did."""

from __future__ import annotations

from collections import deque
from typing import Any

from celery import states
from celery.exceptions import Ignore

from flowq.core.types import NodeStatus
from flowq.runtime.canvas.held import find_result, message_of
from flowq.runtime.canvas.tasks import cut
from flowq.runtime.runner import ClaimRunner, Ended
from flowq.runtime.scripts import Claimed, Next, Picked
from flowq.runtime.worker import WorkerProcess

LATER_S = 0.05
"""A task that came too early for its retry waits at least so long."""


def answer(worker: WorkerProcess, task: Any, run: str, key: str, alone: bool) -> None:
    """Run a node for its task. Where it does not complete, Celery's canvas ends here, and the run's state goes on.

    Raises:
        Exception: what the node's attempt raised, so that the task is a FAILURE.
        Retry: there will be another attempt; its message is sent again.
        Ignore: the node is not (or no longer) to be run by this message.
    """
    picked = worker.state.scripts.pick(worker=worker.name, run=run, key=key)
    worker.send(picked.messages)
    if picked.starts and (result := find_result(task.request, run)) is not None:
        worker.state.scripts.park(run=run, message=message_of(result), replaces=True)
    if not picked.claims:
        _unclaimed(task, picked)
        return
    (claim,) = picked.claims
    worker.leases.hold(claim.lease)
    runner = ClaimRunner(worker, in_canvas=True)
    ended, following = _settled(worker, runner, claim, alone=alone, returns=True)
    _run_inline(worker, runner, following, alone=alone)
    _end(task, ended, following, is_held=picked.is_held)


def give_back(worker: WorkerProcess, run: str, key: str) -> None:
    """Say that this worker does not know a node's task, as a drain says of a processor."""
    picked = worker.state.scripts.pick(worker=worker.name, run=run, key=key)
    worker.send(picked.messages)
    for claim in picked.claims:
        ended = ClaimRunner(worker).unknown(claim)
        following = worker.state.scripts.settle(worker=worker.name, inline=False, outcomes=ended.entries)
        worker.send(following.messages)


def _settled(
    worker: WorkerProcess, runner: ClaimRunner, claim: Claimed, *, alone: bool, returns: bool
) -> tuple[Ended, Next]:
    """Run a claim and settle it; gives the inline nodes that follow, claimed."""
    try:
        ended = runner.run(claim, alone=alone, returns=returns)
        following = worker.state.scripts.settle(
            worker=worker.name, inline=True, outcomes=ended.entries, values=ended.values
        )
    finally:
        worker.leases.drop(claim.lease)
    runner.follow_up(following)
    return ended, following


def _run_inline(worker: WorkerProcess, runner: ClaimRunner, following: Next, *, alone: bool) -> None:
    """Run the inline nodes that follow, and those that follow them."""
    todo = deque(following.claims)
    try:
        while todo:
            ended, following = _settled(worker, runner, todo[0], alone=alone, returns=False)
            todo.popleft()
            todo.extend(following.claims)
            for entry in ended.entries:
                if entry["retry"]:
                    worker.leases.remind(entry["delay_ms"] / 1000)
    finally:
        for claim in todo:
            worker.leases.drop(claim.lease)


def _end(task: Any, ended: Ended, following: Next, *, is_held: bool) -> None:
    """End the task as the node has ended."""
    if ended.is_lost or 0 in following.stale:
        _revoke(task, "the run was cancelled, or the node was given to another worker")
    if not ended.entries:
        return  # a map: the run's state goes on when its items have ended
    entry = ended.entries[0]
    if entry["kind"] == "completed":
        if task.request.retries:  # these have left another state behind
            task.backend.store_result(task.request.id, None, states.SUCCESS)
        return
    error = ended.outcome.error if ended.outcome else None
    if entry["retry"]:
        raise task.retry(exc=error, countdown=entry["delay_ms"] / 1000)
    cut(task)
    if error is None:  # it was skipped
        return
    if is_held:
        # Whoever waits for the canvas's last task looks for failures among those before it, and must go by the run.
        task.send_event("task-failed", exception=repr(error), traceback=_traceback(ended))
        raise Ignore
    raise error


def _traceback(ended: Ended) -> str:
    failure = ended.outcome.failure if ended.outcome else None
    return (failure.traceback if failure else None) or ""


def _unclaimed(task: Any, picked: Picked) -> None:
    """The node is not to be run: it has ended, is running, or its message came out of turn."""
    if picked.status == NodeStatus.COMPLETED:
        return  # Celery may have counted the first message only in part: let it go on
    if picked.wait_s > 0:
        raise task.retry(countdown=max(picked.wait_s, LATER_S))
    if picked.status == NodeStatus.CANCELLED:
        _revoke(task, "the run was cancelled")
    cut(task)
    raise Ignore


def _revoke(task: Any, reason: str) -> None:
    """Show the task as revoked."""
    cut(task)
    task.send_event("task-revoked", terminated=False, signum=None, expired=False)
    task.backend.mark_as_revoked(task.request.id, reason, request=task.request, store_result=True)
    raise Ignore
