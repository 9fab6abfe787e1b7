"""Hand-written Celery canvases: as one writes them, and as fast as Celery can be made on two cores."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from celery import chain, chord, group

from tests.bench.compare import celery_app
from tests.bench.compare.bodies import named
from tests.bench.compare.graph import inputs_of
from tests.bench.compare.peer import Job, NotExpressible, ServedPeer, one_by_one
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Sleeping, Tree


class CeleryPeer(ServedPeer):
    """Celery on its defaults: one worker with two prefork children."""

    name = "celery"
    title = "Celery canvas, defaults"
    note = "one worker with two prefork children, and nothing configured; canvases as one writes them"
    count = 1
    argv: Sequence[str] = ("--concurrency", "2")

    def command(self) -> Sequence[str]:
        command = [sys.executable, "-m", celery_app.__name__, self.server.url]
        return [*command, "worker", "--hostname", "{name}@%h", *self.argv]

    def connect(self, started: ExitStack) -> None:
        self.app = started.enter_context(celery_app.make_app(self.server.url))

    def stop(self) -> None:
        # Results unsubscribe when they are forgotten, which may be when the server has long been gone.
        self.app.backend.result_consumer.subscribed_to.clear()
        super().stop()

    def tidy(self) -> None:
        for waited in self.app.backend._pending_results:  # among them those that nobody ever waits for
            waited.clear()
        kept = list(self.client.scan_iter("celery-task-meta-*", count=1000))
        if kept:
            self.client.unlink(*kept)

    def prepare(self, shape: Shape) -> Job:
        def start(canvas: Any) -> Callable[[], Any]:
            result = canvas.apply_async()
            return lambda: self.read(result)

        return one_by_one([partial(start, canvas) for canvas in self.canvases(shape)])

    def canvases(self, shape: Shape) -> list[Any]:
        """Write a shape as canvases."""
        match shape:
            case Chains(length, count, work):
                inc = named("inc", work)
                tasks = [self.inner(inc) for _ in range(length - 2)]
                first = [self.inner(inc, *given) for given in inputs_of(shape)]
                return [chain(first[i], *tasks, self.task(inc), app=self.app) for i in range(count)]
            case FanIn(leaves, work):
                header = [self.inner(named("one", work), leaf) for leaf in range(leaves)]
                return [self.chord(header, self.task(named("total", work)))]
            case Independent(nodes, work):
                return [self.independent(nodes, named("one", work))]
            case Layered():
                return [self.layered(shape)]
            case Tree():
                return [self.tree(shape.leaves)]
            case Diamonds():
                return [self.diamond(shape, *given) for given in inputs_of(shape)]
            case Sleeping():
                raise NotExpressible  # as a canvas: it may be any graph

    def read(self, result: Any) -> Any:
        """Wait for a result."""
        return result.get()

    def task(self, name: str, *args: Any) -> Any:
        """Give a task whose result the producer reads."""
        return self.app.signature(name, args)

    def inner(self, name: str, *args: Any) -> Any:
        """Give a task whose result only Celery needs."""
        return self.task(name, *args)

    def chord(self, header: list[Any], body: Any) -> Any:
        return chord(header, body, app=self.app)

    def independent(self, nodes: int, body: str) -> Any:
        return group([self.task(body, number) for number in range(nodes)], app=self.app)

    def layered(self, shape: Layered) -> Any:
        """Nest chords: each layer's waits for the whole layer before, and its messages hold all layers after it."""
        places = {number: place for place, number in enumerate(celery_app.names_of(shape, shape.layers))}
        following = self.task("last", [places[sink] for sink in shape.sinks])
        for index in reversed(range(shape.layers)):
            header = celery_app.layer_of(self.app, shape, index)
            if index == 0:
                for task in header:
                    task.args = ([], *task.args)
            following = self.chord(header, following)
        return following

    def tree(self, leaves: int) -> Any:
        row = [self.inner("one", leaf) for leaf in range(leaves)]
        while len(row) > 2:
            row = [self.chord(row[i : i + 2], self.inner("total")) for i in range(0, len(row), 2)]
        return self.chord(row, self.task("total"))

    def diamond(self, shape: Diamonds, given: Any) -> Any:
        inc, total = named("inc", shape.work), named("total", shape.work)
        middle = group([self.inner(inc, by) for by in (1, 2, 3)], app=self.app)
        return chain(self.inner(inc, given), middle, self.task(total), app=self.app)


class TunedCeleryPeer(CeleryPeer):
    """Celery at its fastest on two cores. What did not help: batched publishing, other prefetches, late acks."""

    name = "celery-tuned"
    title = "Celery canvas, tuned"
    note = (
        "two solo workers; only results that the producer reads are stored, and waited for without a look at their"
        " parents; independent nodes are a chord; layers are chords that replace their body by the next layer"
    )
    count = 2
    argv = ("--pool", "solo", "--without-mingle", "--without-gossip", "--without-heartbeat")

    def read(self, result: Any) -> Any:
        # Else every turn of the wait asks of each task before it, in a call of its own, whether that has failed.
        return result.get(follow_parents=False)

    def inner(self, name: str, *args: Any) -> Any:
        return super().inner(name, *args).set(ignore_result=True)

    def independent(self, nodes: int, body: str) -> Any:
        return self.chord([self.inner(body, number) for number in range(nodes)], self.task("collect"))

    def layered(self, shape: Layered) -> Any:
        return self.task("layer", [], 0, shape.layers, shape.width, shape.seed)
