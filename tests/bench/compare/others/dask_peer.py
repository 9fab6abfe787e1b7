"""Dask distributed: any graph, in the memory of its scheduler."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tests.bench.compare.graph import INPUT, Graph, call, graph_of, inputs_of
from tests.bench.compare.peer import Job, Peer, one_by_one, search_path
from tests.bench.compare.shapes import Shape


class DaskPeer(Peer):
    """A scheduler in the producer's process, and two workers of one thread."""

    name = "dask"
    title = "Dask"
    note = "distributed, two workers with one thread each; the whole graph is submitted at once; nothing is durable"

    def missing(self) -> str:
        return "" if find_spec("distributed") else "pip install distributed"

    def start(self) -> None:
        distributed, dask = import_module("distributed"), import_module("dask")
        with ExitStack() as started:
            # Workers that are stopped while others are measured are not dead.
            started.enter_context(dask.config.set({"distributed.scheduler.worker-ttl": None}))
            started.enter_context(dask.config.set({"distributed.nanny.environ.PYTHONPATH": search_path()}))
            cluster = distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
            )
            started.enter_context(cluster)
            self.client = started.enter_context(distributed.Client(cluster))
            self._pids = [*self.client.run(os.getpid).values()]
            self._started = started.pop_all()

    def stop(self) -> None:
        self.resume()
        self._started.close()

    def pause(self) -> None:
        self._tell(signal.SIGSTOP)

    def resume(self) -> None:
        self._tell(signal.SIGCONT)

    def prepare(self, shape: Shape) -> Job:
        graph = graph_of(shape)

        def start(given: Sequence[Any]) -> Callable[[], Any]:
            run = uuid.uuid4().hex
            tasks = {f"{run}-{number}": _task(run, graph, number, given) for number in range(len(graph.nodes))}
            futures = self.client.get(tasks, [f"{run}-{number}" for number in graph.results], sync=False)
            return lambda: self._read(futures)

        return one_by_one([partial(start, given) for given in inputs_of(shape)])

    def _read(self, futures: list[Any]) -> Any:
        values = self.client.gather(futures)
        return values if len(values) > 1 else values[0]

    def _tell(self, number: signal.Signals) -> None:
        for pid in self._pids:
            os.kill(pid, number)


def _task(run: str, graph: Graph, number: int, given: Sequence[Any]) -> tuple[Any, ...]:
    node = graph.nodes[number]
    values = [given[0] if upstream == INPUT else f"{run}-{upstream}" for upstream in node.upstreams]
    return call, node.body, values, [*node.constants]


PEER = DaskPeer()
