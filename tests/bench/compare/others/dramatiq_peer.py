"""dramatiq: pipelines, and groups with a callback. Worker: ``python -m tests.bench.compare.others.dramatiq_peer …``."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import redis

from tests.bench.compare.bodies import BODIES, named
from tests.bench.compare.graph import inputs_of
from tests.bench.compare.peer import Job, NotExpressible, ServedPeer, one_by_one, say_ready
from tests.bench.compare.shapes import Chains, FanIn, Independent, Shape

FOR_EVER_MS = 10**9
"""A wait for a result: whoever measures ends it."""


class Actors:
    """A broker, a store of results, and the bodies as actors."""

    def __init__(self, url: str) -> None:
        dramatiq = import_module("dramatiq")
        middleware = import_module("dramatiq.middleware")
        results = import_module("dramatiq.results")
        client = redis.Redis.from_url(url, socket_timeout=None)  # redis-py would give up a wait after five seconds
        self.results = import_module("dramatiq.results.backends.redis").RedisBackend(client=client)
        counters = import_module("dramatiq.rate_limits.backends.redis").RedisBackend(client=client)
        kept = [middleware.Callbacks(), middleware.Pipelines(), middleware.Retries(max_retries=0)]
        kept += [middleware.GroupCallbacks(counters), results.Results(backend=self.results)]
        self.broker = import_module("dramatiq.brokers.redis").RedisBroker(url=url, middleware=kept)
        actor = partial(dramatiq.actor, broker=self.broker, store_results=True)
        self.bodies = {name: actor(body, actor_name=name) for name, body in BODIES.items()}
        self.joined = actor(self._joined, actor_name="joined")

    def _joined(self, body: str, before: str, ids: list[str]) -> Any:
        """Run a body on what others gave: a callback is not handed the values of its group."""
        messages = [self.bodies[before].message().copy(message_id=one) for one in ids]
        return BODIES[body]([self.results.get_result(message) for message in messages])


class DramatiqPeer(ServedPeer):
    """dramatiq with two workers of one thread each."""

    name = "dramatiq"
    title = "dramatiq"
    note = "two workers with one thread each; a fan-in is a group's callback, which reads the values by itself"
    warm = FanIn(4)

    def missing(self) -> str:
        return "" if find_spec("dramatiq") else "pip install dramatiq[redis]"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.compare.others.dramatiq_peer", self.server.redis_url, "{name}"]

    def connect(self, started: ExitStack) -> None:
        self.actors = Actors(self.server.redis_url)

    def prepare(self, shape: Shape) -> Job:
        composition = import_module("dramatiq.composition")
        match shape:
            case Chains(length, _, work):
                inc = self.actors.bodies[named("inc", work)]

                def start(given: Sequence[Any]) -> Callable[[], Any]:
                    steps = [inc.message(*given), *(inc.message() for _ in range(length - 1))]
                    made = composition.pipeline(steps, broker=self.actors.broker).run()
                    return lambda: made.get_result(block=True, timeout=FOR_EVER_MS)

                return one_by_one([partial(start, given) for given in inputs_of(shape)])
            case FanIn(leaves, work):

                def start_group() -> Callable[[], Any]:
                    one = named("one", work)
                    messages = [self.actors.bodies[one].message(leaf) for leaf in range(leaves)]
                    ids = [message.message_id for message in messages]
                    joined = self.actors.joined.message(named("total", work), one, ids)
                    made = composition.group(messages, broker=self.actors.broker)
                    made.add_completion_callback(joined)
                    made.run()
                    return lambda: self._read(joined)

                return one_by_one([start_group])
            case Independent(nodes, work):
                return one_by_one([partial(self._start_each, named("one", work), nodes)])
            case _:
                raise NotExpressible

    def _start_each(self, one: str, nodes: int) -> Callable[[], Any]:
        messages = [self.actors.bodies[one].send(number) for number in range(nodes)]
        return lambda: [self._read(message) for message in messages]

    def _read(self, message: Any) -> Any:
        return self.actors.results.get_result(message, block=True, timeout=FOR_EVER_MS)


PEER = DramatiqPeer()


def main(url: str, name: str) -> None:
    """Run a worker."""
    worker = import_module("dramatiq").Worker(Actors(url).broker, worker_threads=1)
    worker.start()
    say_ready(url, name)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
