"""The tasks of the hand-written canvases, and their workers: ``python -m tests.bench.compare.celery_app URL CONF …``."""

from __future__ import annotations

import json
import sys
from typing import Any

import redis
from celery import Celery, chord, signals

from tests.bench.compare.shapes import REACH, layered, value_of

READY = "bench:ready"
"""Where workers say that they are ready."""


def make_app(url: str, conf: dict[str, Any]) -> Celery:
    """Make the app of one competitor."""
    app = Celery("bench", broker=url, backend=url, set_as_current=False)
    app.conf.update(conf, broker_connection_retry_on_startup=True)

    @app.task(name="inc")
    def inc(x: int, by: int = 1) -> int:
        return x + by

    @app.task(name="one")
    def one(number: int) -> int:
        return number

    @app.task(name="total")
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    @app.task(name="collect")
    def collect(values: list[Any]) -> list[Any]:
        return values

    @app.task(name="carry")
    def carry(before: list[Any]) -> list[int]:
        """Hand the values of the layers before on, beside the nodes of a layer that give its own."""
        return flat(before)[-(REACH - 1) * (len(before) - 1) :] if before else []

    @app.task(name="value")
    def value(before: list[Any], number: int, positions: list[int]) -> int:
        values = flat(before) if before else []
        return value_of(number, [values[position] for position in positions])

    @app.task(name="last")
    def last(before: list[Any]) -> list[int]:
        *values, _ = before
        return values

    @app.task(name="layer", bind=True)
    def layer(self: Any, before: list[Any], index: int, layers: int, width: int, seed: int) -> Any:
        """Replace itself by a layer, as a chord with this task as its body: the graph need not be in the messages."""
        if index == layers:
            return last(before)
        body = app.signature("layer", (index + 1, layers, width, seed))
        header = layer_of(app, layers, width, seed, index)
        for task in header:
            task.args = (before, *task.args)
            task.set(immutable=True, ignore_result=True)
        raise self.replace(chord(header, body, app=app))

    return app


def flat(before: list[Any]) -> list[int]:
    """Give the values that a layer may need, of the layers before it in their order."""
    *values, carried = before
    return [*carried, *values]


def layer_of(app: Celery, layers: int, width: int, seed: int, index: int) -> list[Any]:
    """Give the tasks of a layer; each takes what the layer before gave."""
    upstreams = layered(layers, width, seed).upstreams
    start = max(0, index - REACH) * width
    tasks = [
        app.signature("value", (number, [upstream - start for upstream in upstreams[number]]))
        for number in range(index * width, (index + 1) * width)
    ]
    return [*tasks, app.signature("carry")]


def main(url: str, conf: str, *argv: str) -> None:
    """Run a worker."""
    app = make_app(url, json.loads(conf))

    def say_ready(sender: Any, **_: Any) -> None:
        with redis.Redis.from_url(url.replace("redis+socket://", "unix://").partition("?")[0]) as client:
            client.sadd(READY, sender.hostname.partition("@")[0])

    signals.worker_ready.connect(say_ready)
    app.worker_main(argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
