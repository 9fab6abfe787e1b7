"""Puts points around every call that a worker or a producer makes to Redis or the broker.

Workers include this module; production code knows nothing of it.

=====================  ==============================================================================================
``<script>:before``    a script is about to be sent; ``:after``: its reply has come, and its caller does not know it yet
``wake``, ``deliver``  a wake-up, or what a canvas needs beyond Celery, is published
``publish``            any message is
``regions``            what a run in canvas begins with is published
``put``                a large value is put into the results store
``pack``               an output is packed
``read``               a plan, a record, a value or the input is read
``chord``              Celery counts a part of a chord
``receive``, ``ack``   a message has come, and is acknowledged
``task``               a task begins, and has ended
``body``               a node's own code (in ``shapes``)
=====================  ==============================================================================================
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import celery.backends.redis
import kombu.message
import kombu.messaging
from celery import signals

from flowq.results import ResultsManager
from flowq.results.redis import RedisStore
from flowq.runtime import wakeups
from flowq.runtime.canvas import deliveries
from flowq.runtime.scripts import Scripts
from flowq.runtime.state import State
from flowq.standalone.embedded import WORKER_MARK
from tests.chaos.points.passing import passes


def install() -> None:
    """Put the points where they belong, for this process and those that it forks."""
    _around_scripts()
    _around(wakeups, "publish", "wake")
    _around(deliveries, "publish", "deliver")
    _around(deliveries, "publish_regions", "regions")
    _around(kombu.messaging.Producer, "publish", "publish")
    _around(kombu.messaging.Consumer, "_receive_callback", "receive")
    _around(kombu.message.Message, "ack", "ack")
    _around(celery.backends.redis.RedisBackend, "on_chord_part_return", "chord")
    _around(RedisStore, "put", "put")
    _around(ResultsManager, "pack", "pack")
    for name in ("records", "values", "run_input", "keep"):  # a plan is kept when it was read
        _around(State, name, "read")
    signals.task_prerun.connect(lambda **_: passes("task:before"), weak=False)
    signals.task_postrun.connect(lambda **_: passes("task:after"), weak=False)


def _around(owner: Any, name: str, point: str) -> None:
    before: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(before)
    def watched(*args: Any, **kwargs: Any) -> Any:
        passes(f"{point}:before")
        answer = before(*args, **kwargs)
        passes(f"{point}:after")
        return answer

    setattr(owner, name, watched)


def _around_scripts() -> None:
    before = Scripts._run

    @functools.wraps(before)
    def watched(self: Scripts, name: str, *args: Any, **kwargs: Any) -> Any:
        passes(f"{name}:before")
        answer = before(self, name, *args, **kwargs)
        passes(f"{name}:after")
        return answer

    setattr(Scripts, "_run", watched)  # noqa: B010 - mypy does not have methods assigned to


if os.environ.get(WORKER_MARK):
    install()
