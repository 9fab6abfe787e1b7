"""Hand-written Celery canvases, as one writes them and as fast as we could make them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import redis
from celery import Celery, chain, chord, exceptions, group

from flowq.standalone import EmbeddedServer
from flowq.standalone.workers import WorkerProcesses
from tests.bench.compare import celery_app
from tests.bench.compare.peer import Job, Peer, search_path
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Tree

BATCH = 500
"""Messages that are published in one go, where Celery can be brought to it."""


class CeleryPeer(Peer):
    """Celery on its defaults: one worker with two prefork children."""

    name = "celery"
    title = "Celery canvas, defaults"
    count = 1
    argv: Sequence[str] = ("--concurrency", "2")
    conf: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it

    def start(self) -> None:
        self.server = EmbeddedServer(appendonly=False)
        self.server.start()
        self.client = redis.Redis.from_url(self.server.redis_url)
        self.app = celery_app.make_app(self.server.url, self.conf)
        command = [sys.executable, "-m", celery_app.__name__, self.server.url, json.dumps(self.conf)]
        command += ["worker", "--hostname", "{name}@%h", "--loglevel", "WARNING", *self.argv]
        self.workers = WorkerProcesses(self.count, command, ready=self._ready, env={"PYTHONPATH": search_path()})
        self.workers.start()
        self.workers.wait_ready()

    def stop(self) -> None:
        self.workers.stop(grace_s=0)
        self.app.close()
        self.client.close()
        self.server.stop()

    def prepare(self, shape: Shape) -> Job:
        canvases = self.canvases(shape)

        def run(timeout_s: float) -> list[int]:
            deadline = time.monotonic() + timeout_s
            results = self.apply(canvases)
            try:
                found = [self.read(result, max(0.0, deadline - time.monotonic())) for result in results]
            except exceptions.TimeoutError as error:
                raise TimeoutError(str(error)) from error
            return found[0] if isinstance(found[0], list) else found

        return run

    def canvases(self, shape: Shape) -> list[Any]:
        """Write a shape as canvases."""
        match shape:
            case Chains():
                tasks = [self.inner("inc") for _ in range(shape.length - 2)]
                return [
                    chain(self.inner("inc", 0), *tasks, self.task("inc"), app=self.app) for _ in range(shape.count)
                ]
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

    def apply(self, canvases: list[Any]) -> list[Any]:
        """Submit canvases, and give their results."""
        return [canvas.apply_async() for canvas in canvases]

    def read(self, result: Any, timeout_s: float) -> Any:
        """Wait for a result."""
        return result.get(timeout=timeout_s)

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
    """Celery as fast as we could make it: see ``note``."""

    name = "celery-tuned"
    title = "Celery canvas, tuned"
    count = 2
    argv = ("--pool", "solo", "--without-mingle", "--without-gossip", "--without-heartbeat")
    conf = {"worker_prefetch_multiplier": 4, "task_acks_late": False}  # noqa: RUF012 - nobody changes it
    import os as _o
    _f = _o.environ.get("TUNE", "quiet,batch,w3chord,replace,early,p4").split(",")
    conf = {"worker_prefetch_multiplier": 1 if "p1" in _f else 4 if "p4" in _f else 100, "task_acks_late": "late" in _f}

    def read(self, result: Any, timeout_s: float) -> Any:
        # Else every turn of the wait asks for each task before it whether that has failed.
        if hasattr(result, "results"): return result.get(timeout=timeout_s)
        return result.get(timeout=timeout_s, follow_parents=False)

    def inner(self, name: str, *args: Any) -> Any:
        if not "quiet" in self._f: return self.task(name, *args)
        return self.task(name, *args).set(ignore_result=True)

    def apply(self, canvases: list[Any]) -> list[Any]:
        if not "batch" in self._f: return super().apply(canvases)
        with self.app.producer_or_acquire() as producer, producer.batch(BATCH):
            return [canvas.apply_async(producer=producer) for canvas in canvases]

    def independent(self, nodes: int) -> Any:
        if not "w3chord" in self._f: return super().independent(nodes)
        return self.chord([self.inner("one", number) for number in range(nodes)], self.task("collect"))

    def layered(self, shape: Layered) -> Any:
        if not "replace" in self._f: return super().layered(shape)
        return self.task("layer", [], 0, shape.layers, shape.width, shape.seed)
