"""huey: chains as pipelines, fan-ins as chords. Worker: ``python -m tests.bench.compare.others.huey_peer URL NAME``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tests.bench.compare.bodies import BODIES, named
from tests.bench.compare.graph import inputs_of
from tests.bench.compare.peer import Job, NotExpressible, ServedPeer, one_by_one, say_ready
from tests.bench.compare.shapes import Chains, FanIn, Independent, Shape


def make(url: str) -> tuple[Any, dict[str, Any]]:
    """Give the queue, and the bodies as its tasks."""
    huey = import_module("huey").RedisHuey("bench", url=url, blocking=True)
    return huey, {name: huey.task(name=name)(body) for name, body in BODIES.items()}


class HueyPeer(ServedPeer):
    """huey with two consumers of one worker thread each."""

    name = "huey"
    title = "huey"
    note = "two consumers with one worker thread each; results are deleted when they are read; at most once"
    warm = FanIn(4)

    def missing(self) -> str:
        return "" if find_spec("huey") else "pip install huey"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.compare.others.huey_peer", self.server.redis_url, "{name}"]

    def connect(self, started: ExitStack) -> None:
        self.huey, self.tasks = make(self.server.redis_url)

    def prepare(self, shape: Shape) -> Job:
        match shape:
            case Chains(length, _, work):
                inc = self.tasks[named("inc", work)]

                def start(given: Sequence[Any]) -> Callable[[], Any]:
                    pipeline = inc.s(*given)
                    for _ in range(length - 1):
                        pipeline = pipeline.then(inc)
                    results = self.huey.enqueue(pipeline)
                    return lambda: list(results)[-1].get(blocking=True)

                return one_by_one([partial(start, given) for given in inputs_of(shape)])
            case FanIn(leaves, work):
                one, total = self.tasks[named("one", work)], self.tasks[named("total", work)]
                chord = import_module("huey.api").chord

                def start_chord() -> Callable[[], Any]:
                    result = self.huey.enqueue(chord([one.s(leaf) for leaf in range(leaves)], total.s()))
                    return lambda: result.callback.get(blocking=True)

                return one_by_one([start_chord])
            case Independent(nodes, work):
                one = self.tasks[named("one", work)]
                return one_by_one([partial(self._start_each, one, nodes)])
            case _:
                raise NotExpressible

    def _start_each(self, one: Any, nodes: int) -> Callable[[], Any]:
        results = [one(number) for number in range(nodes)]
        return lambda: [result.get(blocking=True) for result in results]


PEER = HueyPeer()


def main(url: str, name: str) -> None:
    """Run a consumer."""
    huey, _ = make(url)
    consumer = huey.create_consumer(workers=1, periodic=False)
    say_ready(url, name)
    consumer.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
