"""What the workers of a mixed app know: ordinary Celery tasks, beside the flows."""

from __future__ import annotations

import time
from functools import lru_cache

import redis
from celery import shared_task

from flowq import FlowContext
from tests.bench.compare.bodies import spin_one

STARTS = "bench:starts"
"""The list of how long each other task waited, in seconds."""
DONE = "bench:done"
"""The sum of the numbers of the nodes that have run as tasks."""


@lru_cache
def client() -> redis.Redis:
    settings = FlowContext.get_instance().settings
    return redis.Redis.from_url(settings.state_url or settings.broker_url)


@shared_task(name="bench.other", ignore_result=True)  # type: ignore[untyped-decorator]
def other(sent: float) -> None:
    """Be a task of the app that has nothing to do with a flow: tell how long it waited for its start."""
    client().rpush(STARTS, time.monotonic() - sent)


@shared_task(name="bench.node", ignore_result=True)  # type: ignore[untyped-decorator]
def node(number: int) -> None:
    """Be a node of the flow, as an ordinary task."""
    client().incrby(DONE, spin_one(number))
