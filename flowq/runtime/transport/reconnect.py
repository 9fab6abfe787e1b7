"""A Celery consumer that is back soon after its broker is."""

from __future__ import annotations

import functools
from typing import Any

from celery.worker import consumer

_INTERVALS_S = {"interval_start": 0.2, "interval_step": 0.2, "interval_max": 1.0}
"""Between two tries. Celery's own grow to 30 s: after a long outage, it would come back as late as that."""


class Consumer(consumer.Consumer):  # type: ignore[misc]
    """Celery's consumer."""

    def ensure_connected(self, conn: Any) -> Any:
        conn.ensure_connection = functools.partial(conn.ensure_connection, **_INTERVALS_S)
        return super().ensure_connected(conn)
