"""Sends what the scripts ask for: wake-ups, and what a canvas needs beyond Celery."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kombu.exceptions import KombuError

from flowq.core.context import FlowContext
from flowq.plan import Plan, Region
from flowq.runtime import wakeups
from flowq.runtime.canvas import deliveries
from flowq.runtime.replies import Message, WakeUp

logger = logging.getLogger("flowq.worker")


def send(context: FlowContext, messages: Iterable[Message]) -> None:
    """Publish messages. A broker that is away delays the work, no more: the sweep asks for them again."""
    app: Any = context.celery_app
    with _broker_may_be_away(app):
        for message in messages:
            if isinstance(message, WakeUp):
                wakeups.publish(app, message)
            else:
                deliveries.publish(context, app, message)


def send_start(context: FlowContext, run: str, plan: Plan, regions: list[Region]) -> None:
    """Publish the regions that a run begins with, in the same way."""
    app: Any = context.celery_app
    with _broker_may_be_away(app):
        deliveries.publish_regions(context, app, run, plan, regions)


@contextmanager
def _broker_may_be_away(app: Any) -> Iterator[None]:
    """Give up at the first message that the broker does not take: the others would wait as long for nothing."""
    try:
        yield
    except _broker_errors(app) as error:
        logger.warning("the broker does not take messages (%s); the sweep will have them sent again", error)


def _broker_errors(app: Any) -> tuple[type[Exception], ...]:
    connection = app.connection_for_write()
    return (KombuError, OSError, *connection.connection_errors, *connection.channel_errors)
