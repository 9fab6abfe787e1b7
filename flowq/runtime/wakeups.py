"""Wake-ups: small Celery messages that say "this queue may have ready nodes". Hints, never the truth."""

from __future__ import annotations

import os
from typing import Any

from flowq.runtime.scripts import WakeUp

DRAIN = "flowq.drain"
"""The Celery task that answers a wake-up."""

EXPIRES_S = 60
"""A wake-up that lay in the broker for so long is dropped: the sweep has sent others since. Not shorter, because the
clocks of producers and workers may differ."""


def publish(app: Any, wake: WakeUp) -> None:
    """Publish a wake-up; raises what Celery raises if the broker does not take it."""
    app.send_task(
        DRAIN,
        args=(wake.queue, wake.token),
        queue=wake.queue,
        serializer="json",
        expires=EXPIRES_S,
        ignore_result=True,
        retry=False,
        # Short ones in the place of what Celery would fill in: it names the task three times.
        task_id=os.urandom(6).hex(),
        reply_to="none",
        argsrepr="",
    )
