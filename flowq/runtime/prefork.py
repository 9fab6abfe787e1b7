"""What Celery's prefork pool does not do by itself, so that no slot of a worker is lost, or idle for long."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

logger = logging.getLogger("flowq.worker")


def keep_partial_results(pool: Any, hub: Any) -> None:
    """Have a result that was read in part read to its end before the event loop is reset.

    Celery resets the loop when the broker's connection is lost, forgets how far it was, takes what follows for another
    message, and then never reads from that child again: its slot would be dead until the worker is started anew.
    """
    if getattr(hub, "flowq_finishes", False):
        return
    hub.flowq_finishes, reset = True, hub.reset

    def finish_and_reset() -> None:
        for fd, process in list(pool._pool._fileno_to_outq.items()):
            try:
                pool._pool._result_handler._finish_partial_read(fd, process)
            except Exception as error:  # such as an acknowledgement that the broker does not get
                logger.warning("the end of a task could not be told (%s)", error)
        reset()

    hub.reset = finish_and_reset


def replace_at_once(pool: Any, hub: Any, replaced: Callable[[], None]) -> None:
    """Have a dead child replaced as soon as the system says that it is dead; ``replaced`` is called then.

    Celery waits for the end of a pipe to be closed, and then looks but once. The threads of the dead child have still
    to end at that moment, so that it does not count as dead yet, and Celery's next look is after five seconds; a
    process that the child has left behind may even hold that end open. Linux tells of the end of the process itself.
    """
    children = pool._pool
    track, untrack = type(children)._track_child_process, type(children)._untrack_child_process

    def watch(child: Any, loop: Any) -> None:
        if not hasattr(child, "flowq_watched"):
            child.flowq_watched = True
            if hasattr(child, "_sentinel_poll"):
                untrack(children, child, loop)
                del child._sentinel_poll
            with suppress(AttributeError, OSError):  # no Linux, or one that forbids it: as Celery does
                child._sentinel_poll = os.pidfd_open(child.pid)
        if getattr(child, "_sentinel_poll", -1) is not None:
            track(children, child, loop)

    def ended(loop: Any, child: Any) -> None:
        untrack(children, child, loop)
        children.maintain_pool()
        replaced()

    children._track_child_process, children._event_process_exit = watch, ended
    for child in list(children._pool):
        watch(child, hub)


def flush_without_waiting(pool: Any) -> None:
    """Have a dead child's results read without a pause.

    Celery waits for 10 ms, with all that the worker's parent has to do, for what a dead process might still write.
    """
    children = pool._pool
    if "process_flush_queues" in vars(children):
        return
    flush = children.process_flush_queues

    def flush_if_any(child: Any) -> None:
        reader = child.outq._reader
        if not reader.closed and reader.poll(0):
            flush(child)

    children.process_flush_queues = flush_if_any
