"""Sends what the scripts ask for: wake-ups, and what a canvas needs beyond Celery."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from kombu.exceptions import KombuError

from flowq.core.context import FlowContext
from flowq.runtime import wakeups
from flowq.runtime.canvas import deliveries
from flowq.runtime.scripts import Message, WakeUp

logger = logging.getLogger("flowq.worker")


def send(context: FlowContext, messages: Iterable[Message]) -> None:
    """Publish messages. A broker that is away delays the work, no more: the sweep asks for them again."""
    app: Any = context.celery_app
    for message in messages:
        try:
            if isinstance(message, WakeUp):
                wakeups.publish(app, message)
            else:
                deliveries.publish(context, app, message)
        except _broker_errors(app) as error:
            logger.warning("%s could not be sent (%s); the sweep will have it sent again", message, error)


def _broker_errors(app: Any) -> tuple[type[Exception], ...]:
    connection = app.connection_for_write()
    return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
