"""A supervisor's place in a Celery worker: what it is given, and Celery's cold shutdown turned into an orderly one."""

from __future__ import annotations

import logging
import os
import time
from typing import Any

from celery.concurrency.prefork import TaskPool
from celery.worker import state as celery_state

from flowq.runtime.beacon import Beacon
from flowq.runtime.canvas import tasks
from flowq.runtime.processes import Processes
from flowq.runtime.supervisor import Supervisor
from flowq.runtime.wakeups import DRAIN

logger = logging.getLogger("flowq.worker")


def supervisor_of(processes: Processes, pool: Any, beacon: Beacon) -> Supervisor:
    """Make the supervisor of a worker's pool."""
    process = processes.here()
    has_children = isinstance(pool, TaskPool)

    def exit_at_once() -> None:
        if not has_children and process.leases.is_busy and not _others_at_work():
            logger.warning("an attempt that was handed back does not end, so this process does")
            logging.shutdown()
            os._exit(0)

    return Supervisor(
        processes.board,
        # Celery takes its pool away while it stops it.
        lambda: pool.num_processes if has_children and pool._pool is not None else 0,
        process.state.scripts,
        process.send,
        process.give_up,
        beacon.leave,
        exit_at_once,
        renew_s=process.settings.renew_s,
        grace_s=process.settings.grace_s,
    )


def _others_at_work() -> bool:
    """Tell whether tasks are at work here that are none of flowq's."""
    return any(
        request.name != DRAIN and not isinstance(request.task, tasks.NodeTask)
        for request in celery_state.active_requests
    )


def stop_softly(processes: Processes, worker: Any) -> None:
    """Hand back what runs when Celery cancels its tasks at a cold shutdown (SIGQUIT, Ctrl-C again).

    Where there are no children, Celery would raise in the middle of the attempts, which were then recorded as failed.
    """
    consumer = worker.consumer
    cancel = consumer.cancel_active_requests

    def cancel_active_requests() -> None:
        processes.board.close(time.monotonic())
        processes.board.end()
        if isinstance(worker.pool, TaskPool) or _others_at_work():
            cancel()

    consumer.cancel_active_requests = cancel_active_requests
