"""The tasks of the hand-written canvases, and their workers: ``python -m tests.bench.compare.celery_app URL …``."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery, chord, signals

from tests.bench.compare import bodies
from tests.bench.compare.peer import say_ready
from tests.bench.compare.shapes import REACH, layered


def collect(values: list[Any]) -> list[Any]:
    return values


def value(before: list[Any], number: int, positions: list[int]) -> int:
    """Be a node of a layer: ``before`` is what the layer before gave, ``positions`` where the upstreams are in it."""
    values = flat(before) if before else []
    return bodies.value([values[position] for position in positions], number)


def carry(before: list[Any]) -> list[int]:
    """Stand beside the nodes of a layer, and hand on what later layers need of those before."""
    return flat(before)[-(REACH - 1) * (len(before) - 1) :] if before else []


def last(before: list[Any]) -> list[int]:
    """Give the last layer's values."""
    *values, _ = before
    return values


def layer(task: Any, before: list[Any], index: int, layers: int, width: int, seed: int) -> Any:
    """Replace itself by a layer, as a chord with this task as its body: the graph need not be in the messages."""
    if index == layers:
        return last(before)
    header = layer_of(task.app, layers, width, seed, index)
    for node in header:
        node.args = (before, *node.args)
        node.set(ignore_result=True)
    raise task.replace(chord(header, task.s(index + 1, layers, width, seed)))


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


def make_app(url: str) -> Celery:
    """Make an app with these tasks, on Celery's defaults."""
    app = Celery("bench", broker=url, backend=url, set_as_current=False)
    for function in (*bodies.BODIES.values(), collect, value, carry, last):
        if function is not bodies.value:
            app.task(function, name=function.__name__, shared=False)
    app.task(layer, name=layer.__name__, shared=False, bind=True)
    return app


def main(url: str, *argv: str) -> None:
    """Run a worker."""
    app = make_app(url)

    def on_ready(sender: Any, **_: Any) -> None:
        say_ready(url.replace("redis+socket://", "unix://").partition("?")[0], sender.hostname.partition("@")[0])

    signals.worker_ready.connect(on_ready)
    app.worker_main(argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
