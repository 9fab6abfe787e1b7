"""What Celery's prefork pool does not do by itself, so that no slot of a worker is lost."""

from __future__ import annotations

import logging
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
