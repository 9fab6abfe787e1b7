"""Wake-ups: small Celery messages that say "this queue may have ready nodes". Hints, never the truth."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from typing import Any

from kombu.exceptions import KombuError

from flowq.core.context import FlowContext
from flowq.runtime.scripts import WakeUp

logger = logging.getLogger("flowq.worker")

DRAIN = "flowq.drain"
"""The Celery task that answers a wake-up."""

EXPIRES_S = 60
"""A wake-up that lay in the broker for so long is dropped: the sweep has sent others since. Not shorter, because the
clocks of producers and workers may differ."""


def send(context: FlowContext, wakes: Iterable[WakeUp]) -> None:
    """Publish wake-ups. A broker that is away delays the work, no more: the sweep sends them again."""
    app: Any = context.celery_app
    for queue, token in wakes:
        try:
            app.send_task(
                DRAIN,
                args=(queue, token),
                queue=queue,
                serializer="json",
                expires=EXPIRES_S,
                ignore_result=True,
                retry=False,
                # Short ones in the place of what Celery would fill in: it names the task three times.
                task_id=os.urandom(6).hex(),
                reply_to="none",
                argsrepr="",
            )
        except _broker_errors(app) as error:
            logger.warning("no wake-up could be sent to queue %r (%s); the sweep will send another", queue, error)


def _broker_errors(app: Any) -> tuple[type[Exception], ...]:
    connection = app.connection_for_write()
    return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
