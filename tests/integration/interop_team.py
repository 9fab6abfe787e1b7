"""A Celery app that a team had before it had flowq, configured its own way. Its broker is in the environment."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from celery import Celery
from kombu.serialization import register

from flowq import FlowContext, flow, task


def _dump(content: Any) -> str:
    return json.dumps(content, default=str)[::-1]


def _load(text: str | bytes) -> Any:
    return json.loads((text.decode() if isinstance(text, bytes) else text)[::-1])


register("reversed", _dump, _load, content_type="application/x-reversed", content_encoding="utf-8")

app: Any = Celery("team", broker=os.environ["TEAM_BROKER"], backend=os.environ.get("TEAM_BACKEND"))
app.conf.update(
    task_default_queue="team",
    task_serializer="reversed",
    result_serializer="reversed",
    accept_content=["reversed", "json"],  # json: flowq's wake-ups, and Celery's own remote control
    task_routes={f"{__name__}:routed": {"queue": "elsewhere"}},
    task_annotations={
        f"{__name__}:limited": {"rate_limit": "600/m"},
        f"{__name__}:endless": {"soft_time_limit": 0.3},
    },
    worker_prefetch_multiplier=3,
    broker_connection_retry_on_startup=True,
)
before = app.conf.table(with_defaults=True), set(app.tasks)
context = FlowContext(celery_app=app)


@app.task(shared=False)  # type: ignore[untyped-decorator] # the module is imported more than once
def own(x: int) -> int:
    return x + 1


@task
def plain(x: int) -> int:
    return x + 1


@task
def routed(x: int) -> int:
    return 2 * x


@task
def limited(a: int, b: int) -> int:
    return a + b


@task
def endless(x: int) -> int:
    while True:
        time.sleep(0.01)


@flow(context=context)
def diamond(x: int) -> int:
    first = plain(x)
    return plain(limited(plain(first), routed(first)))


@flow(context=context)
def stopped(x: int) -> int:
    return endless(plain(x))
