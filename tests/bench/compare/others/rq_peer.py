"""rq: any graph, by ``depends_on``. Worker: ``python -m tests.bench.compare.others.rq_peer URL NAME``."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import redis

from tests.bench.compare.graph import INPUT, Graph, call, graph_of, inputs_of
from tests.bench.compare.peer import Job, ServedPeer, one_by_one, say_ready
from tests.bench.compare.shapes import Independent, Shape

NODE = "tests.bench.compare.others.rq_peer.node"
KEPT_S = 3600


def node(body: str, before: list[str], given: list[Any], constants: list[int]) -> Any:
    """Run a body on what the jobs before gave."""
    if before:
        jobs = import_module("rq.job")
        found = jobs.Job.fetch_many(before, connection=jobs.get_current_job().connection, serializer=_serializer())
        given = [one.return_value() for one in found]
    return call(body, given, constants)


class RqPeer(ServedPeer):
    """rq with two workers that do not fork for each job."""

    name = "rq"
    title = "rq"
    note = (
        "two simple workers; a node fetches its upstreams' jobs by itself; where both workers end upstreams of one node"
        " in the same moment, that node may wait for ever, and the run has failed"
    )
    warm = Independent(4)

    def missing(self) -> str:
        return "" if find_spec("rq") else "pip install rq"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "tests.bench.compare.others.rq_peer", self.server.redis_url, "{name}"]

    def connect(self, started: ExitStack) -> None:
        self.queue = import_module("rq").Queue("bench", connection=self.client, serializer=_serializer())

    def tidy(self) -> None:
        kept = [*self.client.scan_iter("rq:job:*", count=1000), *self.client.scan_iter("rq:results:*", count=1000)]
        for first in range(0, len(kept), 1000):
            self.client.unlink(*kept[first : first + 1000])

    def prepare(self, shape: Shape) -> Job:
        graph = graph_of(shape)

        def start(given: Sequence[Any]) -> Callable[[], Any]:
            jobs = self._submit(graph, [*given])
            return lambda: self._read(graph, jobs)

        return one_by_one([partial(start, given) for given in inputs_of(shape)])

    def _submit(self, graph: Graph, given: list[Any]) -> dict[int, Any]:
        run = uuid.uuid4().hex
        first = [number for number, made in enumerate(graph.nodes) if not {*made.upstreams} - {INPUT}]
        data = [self.queue.prepare_data(NODE, job_id=f"{run}-{n}", **_job(run, graph, n, given)) for n in first]
        jobs = dict(zip(first, self.queue.enqueue_many(data), strict=True))
        for number in range(len(graph.nodes)):
            if number not in jobs:  # those that wait cannot be sent together: some would wait for ever
                before = [jobs[upstream] for upstream in graph.nodes[number].upstreams]
                more = _job(run, graph, number, given)
                jobs[number] = self.queue.enqueue_call(NODE, job_id=f"{run}-{number}", depends_on=before, **more)
        return jobs

    def _read(self, graph: Graph, jobs: dict[int, Any]) -> Any:
        values = [jobs[number].latest_result(timeout=KEPT_S).return_value for number in graph.results]
        return values if len(values) > 1 else values[0]


PEER = RqPeer()


def _job(run: str, graph: Graph, number: int, given: list[Any]) -> dict[str, Any]:
    made = graph.nodes[number]
    before = [f"{run}-{upstream}" for upstream in made.upstreams if upstream != INPUT]
    args = (made.body, before, [] if before else given, [*made.constants])
    return {"args": args, "result_ttl": KEPT_S, "timeout": KEPT_S}


def _serializer() -> Any:
    return import_module("rq.serializers").JSONSerializer


def main(url: str, name: str) -> None:
    """Run a worker."""
    client = redis.Redis.from_url(url, socket_timeout=None)
    rq = import_module("rq")
    queue = rq.Queue("bench", connection=client, serializer=_serializer())
    worker = rq.SimpleWorker([queue], connection=client, serializer=_serializer(), log_job_description=False)
    say_ready(url, name)
    worker.work(logging_level="ERROR")


if __name__ == "__main__":
    main(*sys.argv[1:])
