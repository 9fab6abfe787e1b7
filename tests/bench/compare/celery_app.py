"""The tasks of the hand-written canvases, and their workers: ``python -m tests.bench.compare.celery_app URL …``."""

from __future__ import annotations

import sys
from typing import Any

from celery import Celery, chord, signals

from tests.bench.compare import bodies
from tests.bench.compare.peer import say_ready
from tests.bench.compare.shapes import Layered, layered


def collect(values: list[Any]) -> list[Any]:
    return values


def placed_value(before: list[Any], number: int, places: list[int]) -> int:
    """Be a node of a layer written beforehand: ``before`` is what the layer before gave, and the places in it."""
    values = flat(before) if before else []
    return bodies.value([values[place] for place in places], number)


def carry(before: list[Any], places: list[int]) -> list[int]:
    """Stand beside the nodes of a layer, and hand on what is needed later of the layers before."""
    values = flat(before) if before else []
    return [values[place] for place in places]


def layer(task: Any, before: list[Any], index: int, layers: int, width: int, seed: int) -> Any:
    """Replace itself by a layer, as a chord with this task as its body; each node is given its upstreams' values."""
    shape = layered(layers, width, seed)
    known = dict(zip(names_of(shape, index), flat(before), strict=True)) if before else {}
    if index == layers:
        return [known[sink] for sink in shape.sinks]
    header = [
        task.app.signature("value", ([known[upstream] for upstream in shape.upstreams[number]], number))
        for number in range(index * width, (index + 1) * width)
    ]
    header.append(task.app.signature("collect", ([known[number] for number in shape.kept[index + 1]],)))
    for node in header:
        node.set(ignore_result=True)
    raise task.replace(chord(header, task.s(index + 1, layers, width, seed)))


def flat(before: list[Any]) -> list[int]:
    """Give the values that there are before a layer, of ``names_of``: the carried ones come last in a header."""
    *values, carried = before
    return [*carried, *values]


def names_of(shape: Layered, index: int) -> list[int]:
    """Give the nodes whose values there are before a layer: some carried, and all of the layer before."""
    return [*shape.kept[index], *range((index - 1) * shape.width, index * shape.width)] if index else []


def layer_of(app: Celery, shape: Layered, index: int) -> list[Any]:
    """Give the tasks of a layer that is written beforehand; each takes what the layer before gave."""
    places = {number: place for place, number in enumerate(names_of(shape, index))}
    tasks = [
        app.signature("placed_value", (number, [places[upstream] for upstream in shape.upstreams[number]]))
        for number in range(index * shape.width, (index + 1) * shape.width)
    ]
    return [*tasks, app.signature("carry", ([places[number] for number in shape.kept[index + 1]],))]


def last(before: list[Any], places: list[int]) -> list[int]:
    """Give the values that are asked for."""
    values = flat(before)
    return [values[place] for place in places]


def make_app(url: str) -> Celery:
    """Make an app with these tasks, on Celery's defaults."""
    app = Celery("bench", broker=url, backend=url, set_as_current=False)
    for function in (*bodies.BODIES.values(), collect, placed_value, carry, last):
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
