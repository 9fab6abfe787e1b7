"""taskiq: pipelines of tasks. Worker: ``python -m tests.bench.compare.others.taskiq_peer URL NAME``."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tests.bench.compare.bodies import BODIES, named
from tests.bench.compare.graph import inputs_of
from tests.bench.compare.peer import Job, NotExpressible, ServedPeer, one_by_one, say_ready
from tests.bench.compare.shapes import Chains, FanIn, Independent, Shape

LOOK_S = 0.002
"""Between two looks at whether a result is there: it has no other way, and its own 0.2 s would be all of the figure."""


def make(url: str) -> tuple[Any, dict[str, Any]]:
    """Give the broker, and the bodies as its tasks."""
    redis = import_module("taskiq_redis")
    results = redis.RedisAsyncResultBackend(redis_url=url, socket_timeout=None)
    broker = redis.ListQueueBroker(url=url, socket_timeout=None).with_result_backend(results)
    broker = broker.with_middlewares(import_module("taskiq_pipelines").PipelineMiddleware())
    return broker, {name: broker.task(task_name=name)(_on_the_loop(body)) for name, body in BODIES.items()}


def _on_the_loop(body: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Spare a body the way through a pool of threads."""

    async def run(*args: Any) -> Any:
        return body(*args)

    return run


class TaskiqPeer(ServedPeer):
    """taskiq with two workers, its bodies on their event loops."""

    name = "taskiq"
    title = "taskiq"
    note = f"two workers; fan-ins are joined by the producer; results are asked for every {LOOK_S * 1000:g} ms"
    warm = FanIn(4)

    def missing(self) -> str:
        there = all(map(find_spec, ("taskiq", "taskiq_redis", "taskiq_pipelines")))
        return "" if there else "pip install taskiq taskiq-redis taskiq-pipelines"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.compare.others.taskiq_peer", self.server.redis_url, "{name}"]

    def connect(self, started: ExitStack) -> None:
        self.portal = started.enter_context(import_module("anyio.from_thread").start_blocking_portal())
        self.broker, self.tasks = make(self.server.redis_url)
        self.portal.call(self.broker.startup)
        started.callback(lambda: self.portal.call(self.broker.shutdown))

    def prepare(self, shape: Shape) -> Job:
        match shape:
            case Chains(length, _, work):
                pipeline = import_module("taskiq_pipelines").Pipeline(self.broker)
                for _ in range(length):
                    pipeline = pipeline.call_next(self.tasks[named("inc", work)])
                return one_by_one([partial(self._start, partial(pipeline.kiq, *given)) for given in inputs_of(shape)])
            case FanIn(leaves, work):
                joined = partial(self._joined, named("one", work), leaves, named("total", work))
                return one_by_one([partial(self._start, joined)])
            case Independent(nodes, work):
                return one_by_one([partial(self._start_each, named("one", work), nodes)])
            case _:
                raise NotExpressible

    def _start(self, kiq: Callable[[], Coroutine[Any, Any, Any]]) -> Callable[[], Any]:
        task = self._call(kiq)
        return lambda: self._call(_value, task)

    def _start_each(self, one: str, nodes: int) -> Callable[[], Any]:
        tasks = self._call(self._send, one, nodes)
        return lambda: self._call(_values, tasks)

    async def _send(self, one: str, count: int) -> list[Any]:
        return [await self.tasks[one].kiq(number) for number in range(count)]

    async def _joined(self, one: str, leaves: int, total: str) -> Any:
        return await self.tasks[total].kiq(await _values(await self._send(one, leaves)))

    def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        future = self.portal.start_task_soon(function, *args)
        try:
            return future.result()
        except BaseException:  # the time is up: nothing may be left of it
            future.cancel()
            raise


async def _value(task: Any) -> Any:
    result = await task.wait_result(check_interval=LOOK_S)
    result.raise_for_error()
    return result.return_value


async def _values(tasks: Sequence[Any]) -> list[Any]:
    return [await _value(task) for task in tasks]


PEER = TaskiqPeer()


async def work(url: str, name: str) -> None:
    """Run a worker."""
    broker, _ = make(url)
    broker.is_worker_process = True
    say_ready(url, name)
    await import_module("taskiq.api").run_receiver_task(broker, run_startup=True)


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
