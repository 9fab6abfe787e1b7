"""streaq: any graph, by ``after``. Worker: ``python -m tests.bench.compare.others.streaq_peer URL NAME``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tests.bench.compare.graph import INPUT, Graph, call, graph_of, inputs_of
from tests.bench.compare.peer import Job, ServedPeer, one_by_one, say_ready
from tests.bench.compare.shapes import Shape


class Tasks:
    """A worker, and what it runs."""

    def __init__(self, url: str) -> None:
        self.worker = import_module("streaq").Worker(redis_url=url)
        self.node = self.worker.task(name="node")(self._node)
        self.end = self.worker.task(name="end")(self._end)

    async def values(self, ids: Sequence[str]) -> list[Any]:
        """Give the results of tasks that have ended, in one round trip."""
        raw = await self.worker.redis.mget([self.worker.results_key + one for one in ids]) if ids else []
        return [(await self.worker.deserialize(one))["r"] for one in raw]

    async def _node(self, body: str, before: list[str], given: list[Any], constants: list[int]) -> Any:
        return call(body, given or await self.values(before), constants)

    async def _end(self) -> None:
        pass


class StreaqPeer(ServedPeer):
    """streaq with two workers, its bodies on their event loops."""

    name = "streaq"
    title = "streaq"
    note = (
        "two workers; a node reads its upstreams' results in one call; one more task tells the end of many; the"
        " producer waits on one subscription for all"
    )

    def missing(self) -> str:
        return "" if find_spec("streaq") else "pip install streaq"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.compare.others.streaq_peer", self.server.redis_url, "{name}"]

    def connect(self, started: ExitStack) -> None:
        self.tasks = Tasks(self.server.redis_url)
        self.portal = started.enter_context(import_module("anyio.from_thread").start_blocking_portal())
        started.enter_context(self.portal.wrap_async_context_manager(self.tasks.worker))
        self.told = started.enter_context(self.client.pubsub(ignore_subscribe_messages=True))
        self.channels: str = self.tasks.worker._channel_key
        self.ended: set[str] = set()

    def prepare(self, shape: Shape) -> Job:
        graph = graph_of(shape)

        def start(given: Sequence[Any]) -> Callable[[], Any]:
            ids = self._call(self._submit, graph, [*given])
            return lambda: self._read(graph, ids)

        return one_by_one([partial(start, given) for given in inputs_of(shape)])

    async def _submit(self, graph: Graph, given: list[Any]) -> list[str]:
        tasks: list[Any] = []
        for node in graph.nodes:
            before = [tasks[upstream].id for upstream in node.upstreams if upstream != INPUT]
            own = [] if before else given
            tasks.append(self.tasks.node.enqueue(node.body, before, own, [*node.constants]).start(after=before))
        ids = [tasks[number].id for number in graph.results]
        if len(ids) > 1:
            tasks.append(self.tasks.end.enqueue().start(after=ids))
            ids.append(tasks[-1].id)
        self.told.subscribe(f"{self.channels}{ids[-1]}")
        await self.tasks.worker.enqueue_many(tasks)
        return ids

    def _read(self, graph: Graph, ids: list[str]) -> Any:
        # Its own wait opens a subscription for each result, and takes 0.1 s to leave it.
        while ids[-1] not in self.ended:
            message = self.told.get_message(timeout=None)
            if message:
                self.ended.add(message["channel"].decode().removeprefix(self.channels))
            elif self.client.exists(f"{self.tasks.worker.results_key}{ids[-1]}"):
                self.ended.add(ids[-1])  # before the subscription stood
        values = self._call(self.tasks.values, ids[: len(graph.results)])
        return values if len(values) > 1 else values[0]

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        future = self.portal.start_task_soon(function, *args)
        try:
            return future.result()
        except BaseException:  # the time is up: nothing may be left of it
            future.cancel()
            raise


PEER = StreaqPeer()


def main(url: str, name: str) -> None:
    """Run a worker."""
    tasks = Tasks(url)
    say_ready(url, name)
    tasks.worker.run_sync()


if __name__ == "__main__":
    main(*sys.argv[1:])
