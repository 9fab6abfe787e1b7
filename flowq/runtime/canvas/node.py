"""What a node's own Celery task does: pick the node, run it, settle it, and end as it did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import states
from celery.exceptions import Ignore

from flowq.core.types import NodeStatus
from flowq.runtime.canvas.held import find_result, message_of
from flowq.runtime.canvas.tasks import cut
from flowq.runtime.driver import Driver
from flowq.runtime.keeping import Asked, Keeping, Stored, follow_up
from flowq.runtime.replies import Next, Picked
from flowq.runtime.runner import ClaimRunner
from flowq.runtime.steps import AGAIN_S, AWAY, Pause, Steps
from flowq.runtime.work import Ended, Work
from flowq.runtime.worker import WorkerProcess

LATER_S = 0.05
"""A task that came too early for its retry waits at least so long."""

AWAY_S = 1.0
"""A task that cannot ask the store about its node comes again after so long: its slot is for other tasks until then."""


def answer(
    worker: WorkerProcess, task: Any, run: str, key: str, alone: bool, closing: Callable[[], bool] = lambda: False
) -> None:
    """Run a node for its task. Where it does not complete, Celery's canvas ends here, and the run's state goes on.

    ``closing`` tells whether this process is to end: then no inline nodes are run after this one.

    Raises:
        Exception: what the node's attempt raised, so that the task is a FAILURE.
        Retry: there will be another attempt (or the store is away); its message is sent again.
        Ignore: the node is not (or no longer) to be run by this message.
    """
    try:
        picked = worker.state.scripts.pick(worker=worker.name, run=run, key=key)
    except AWAY as error:
        raise task.retry(exc=error, countdown=AWAY_S) from None
    work = Work(picked.claims)
    driver = Driver(worker, ClaimRunner(worker, in_canvas=True, closing=closing))
    with driver.letting_go(work):
        driver.drive(follow_up(Next(picked.claims, picked.messages)))
        if picked.starts and (result := find_result(task.request, run)) is not None:
            driver.drive(_park(lambda: worker.state.scripts.park(run=run, message=message_of(result), replaces=True)))
        if not work:
            _unclaimed(task, picked)
            return
        own = driver.drive(_steps(work, alone, Keeping(closing, worker.settings.lease_s)))
    _end(task, own, is_held=picked.is_held)


def _park(park: Callable[[], object]) -> Steps[None]:
    """Have whoever waits for the canvas's last task told of the run's end; nobody else will see to that."""
    while True:
        try:
            park()
        except AWAY:
            yield Pause(AGAIN_S)
        else:
            return


def give_back(worker: WorkerProcess, run: str, key: str) -> None:
    """Say that this worker does not know a node's task, as a drain says of a processor."""
    picked = worker.state.scripts.pick(worker=worker.name, run=run, key=key)
    worker.send(picked.messages)
    for claim in picked.claims:
        ended = ClaimRunner(worker).unknown(claim)
        following = worker.state.scripts.settle(worker=worker.name, inline=False, outcomes=ended.entries)
        worker.send(following.messages)


def _steps(work: Work, alone: bool, keeping: Keeping) -> Steps[Stored]:
    """Run the task's own node, then the inline nodes that follow, and those that follow them."""
    own = stored = yield from keeping.run(work, _ask_nothing, alone=alone, returns=True)
    while True:
        work.todo.extend(stored.following.claims)
        yield from follow_up(stored.following)
        if not work:
            return own
        stored = yield from keeping.run(work, _ask_nothing, alone=alone)


def _ask_nothing(_: int) -> Steps[Asked]:
    """A task gets no claims but inline nodes."""
    yield from ()
    return Asked()


def _end(task: Any, own: Stored, *, is_held: bool) -> None:
    """End the task as the node has ended."""
    ended, following = own
    if ended.is_lost or 0 in following.stale:
        _revoke(task, "the run was cancelled, or the node was given to another worker")
    if not ended.entries:
        return  # a map: the run's state goes on when its items have ended
    entry = ended.entries[0]
    if entry.kind == "completed":
        if task.request.retries:  # these have left another state behind
            task.backend.store_result(task.request.id, None, states.SUCCESS)
        return
    error = ended.outcome.error if ended.outcome else None
    if entry.kind == "released":  # it gets another message
        cut(task)
        raise Ignore
    if entry.retry:
        raise task.retry(exc=error, countdown=entry.delay_ms / 1000)
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
