"""The tasks of the chords that bare Celery runs; ``python -m tests.chaos.celery_tasks URL NAME …`` is a worker."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import redis
from celery import Celery, chain, group, signals

from tests.chaos.effects import Writer, digest_of
from tests.chaos.flows import core_of

READY = "chaos:ready"
"""Where workers say that they are ready, with their process ids."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "celery": {},
    "celery-tuned": {
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        "worker_prefetch_multiplier": 1,
        "broker_connection_max_retries": None,
        "result_backend_always_retry": True,
        "broker_transport_options": {
            "visibility_timeout": 10,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            "unacked_mutex_expire": 10,
        },
    },
}


def node(before: Any, run: str, path: str, log: str, takes_ms: int) -> dict[str, Any]:
    """Be a node: after one, after many, or the first."""
    values = before if isinstance(before, list) else [] if before is None else [before]
    upstreams = {str(index): value for index, value in enumerate(values)}
    writer = Writer(log, run, path, 1, upstreams)
    time.sleep(takes_ms / 1000)
    value = {"core": core_of(path, {name: upstream["core"] for name, upstream in upstreams.items()})}
    writer.ended("end", digest_of(value))
    return value


def fork_join(app: Celery, run: str, takes_ms: list[int], log: str) -> Any:
    """One, many, one: as many nodes as there are times."""

    def task(path: str, takes: int, *first: None) -> Any:
        return app.signature("node", first, {"run": run, "path": path, "log": log, "takes_ms": takes})

    first, *middle, last = takes_ms
    parts = [task(f"part{index}", takes) for index, takes in enumerate(middle)]
    return chain(task("split", first, None), group(parts, app=app), task("merge", last), app=app)


def expected_core(nodes: int) -> str:
    split = core_of("split", {})
    parts = [core_of(f"part{index}", {"0": split}) for index in range(nodes - 2)]
    return core_of("merge", {str(index): core for index, core in enumerate(parts)})


def make_app(url: str, name: str) -> Celery:
    app = Celery("chaos", broker=url, backend=url, set_as_current=False)
    app.conf.update(broker_connection_retry_on_startup=True, **SETTINGS[name])
    app.task(node, name="node", shared=False)
    return app


def main(url: str, name: str, *argv: str) -> None:
    """Run a worker."""
    app = make_app(url, name)

    def say_ready(sender: Any, **_: Any) -> None:
        with redis.Redis.from_url(url.replace("redis+socket://", "unix://").partition("?")[0]) as client:
            client.sadd(READY, f"{sender.hostname.partition('@')[0]}/{os.getpid()}")

    signals.worker_ready.connect(say_ready)
    app.worker_main(argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
