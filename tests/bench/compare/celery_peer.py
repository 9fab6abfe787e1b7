"""Hand-written Celery canvases: as one writes them, and as fast as Celery can be made on two cores."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import redis
from celery import chain, chord, group

from flowq.standalone import EmbeddedServer
from flowq.standalone.workers import WorkerProcesses
from tests.bench.compare import celery_app
from tests.bench.compare.peer import Job, Peer, search_path
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Tree


class CeleryPeer(Peer):
    """Celery on its defaults: one worker with two prefork children."""

    name = "celery"
    title = "Celery canvas, defaults"
    note = "one worker with two prefork children, and nothing configured; canvases as one writes them"
    count = 1
    argv: Sequence[str] = ("--concurrency", "2")

    def start(self) -> None:
        with ExitStack() as started:
            self.server = started.enter_context(EmbeddedServer(appendonly=False))
            self.client = started.enter_context(redis.Redis.from_url(self.server.redis_url))
            self.app = started.enter_context(celery_app.make_app(self.server.url))
            command = [sys.executable, "-m", celery_app.__name__, self.server.url, "worker", "--hostname", "{name}@%h"]
            self.workers = WorkerProcesses(
                self.count, [*command, *self.argv], ready=self._ready, env={"PYTHONPATH": search_path()}
            )
            started.enter_context(self.workers)
            self.workers.wait_ready()
            self._started = started.pop_all()

    def stop(self) -> None:
        self.workers.stop(grace_s=0)
        # Results unsubscribe when they are forgotten, which may be when the server has long been gone.
        self.app.backend.result_consumer.subscribed_to.clear()
        self._started.close()

    def prepare(self, shape: Shape) -> Job:
        canvases = self.canvases(shape)

        def run() -> list[int]:
            found = [self.read(result) for result in [canvas.apply_async() for canvas in canvases]]
            return found[0] if isinstance(found[0], list) else found

        return run

    def canvases(self, shape: Shape) -> list[Any]:
        """Write a shape as canvases."""
        match shape:
            case Chains():
                tasks = [self.inner("inc") for _ in range(shape.length - 2)]
                return [chain(self.inner("inc", 0), *tasks, self.task("inc"), app=self.app) for _ in range(shape.count)]
            case FanIn():
                return [self.chord([self.inner("one", leaf) for leaf in range(shape.leaves)], self.task("total"))]
            case Independent():
                return [self.independent(shape.nodes)]
            case Layered():
                return [self.layered(shape)]
            case Tree():
                return [self.tree(shape.leaves)]
            case Diamonds():
                return [self.diamond(number) for number in range(shape.count)]

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

    def independent(self, nodes: int) -> Any:
        return group([self.task("one", number) for number in range(nodes)], app=self.app)

    def layered(self, shape: Layered) -> Any:
        """Nest chords: each layer's waits for the whole layer before."""
        following = self.task("last")
        for index in reversed(range(shape.layers)):
            header = celery_app.layer_of(self.app, shape.layers, shape.width, shape.seed, index)
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

    def diamond(self, number: int) -> Any:
        middle = group([self.inner("inc", by) for by in (1, 2, 3)], app=self.app)
        return chain(self.inner("inc", number), middle, self.task("total"), app=self.app)

    def _ready(self) -> set[str]:
        return {name.decode() for name in self.client.smembers(celery_app.READY)}


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

    def independent(self, nodes: int) -> Any:
        return self.chord([self.inner("one", number) for number in range(nodes)], self.task("collect"))

    def layered(self, shape: Layered) -> Any:
        return self.task("layer", [], 0, shape.layers, shape.width, shape.seed)
