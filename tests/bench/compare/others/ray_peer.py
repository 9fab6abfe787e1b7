"""Ray: any graph, in the memory of its processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.bench.compare.graph import INPUT, Graph, call, graph_of, inputs_of
from tests.bench.compare.peer import Job, Peer, one_by_one, search_path
from tests.bench.compare.shapes import Shape

AT_HOME = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_enable_metrics_collection": "0"}
"""Without it, Ray listens on all of the machine's addresses."""


def node(body: str, constants: list[int], *values: Any) -> Any:
    """Run a body on what other tasks gave."""
    return call(body, [*values], constants)


class RayPeer(Peer):
    """Ray with two slots. Its processes cannot be stopped for a while: it would take itself for dead."""

    name = "ray"
    title = "Ray"
    note = "two slots; each node is a task; nothing is durable; its processes go on while others are measured"

    def missing(self) -> str:
        return "" if find_spec("ray") else "pip install ray"

    def start(self) -> None:
        before = set(_children(os.getpid()))
        with _environment(PYTHONPATH=search_path(), **AT_HOME):
            self.ray = import_module("ray")
            self.ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
        self.own = set(_children(os.getpid())) - before
        self.node = self.ray.remote(num_cpus=1)(node)

    def stop(self) -> None:
        self.ray.shutdown()

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        self._pids = [pid for own in self.own for pid in (own, *_below(own))]

    def prepare(self, shape: Shape) -> Job:
        graph = graph_of(shape)

        def start(given: Sequence[Any]) -> Callable[[], Any]:
            results = self._submit(graph, given)
            return lambda: self._read(results)

        return one_by_one([partial(start, given) for given in inputs_of(shape)])

    def _submit(self, graph: Graph, given: Sequence[Any]) -> list[Any]:
        made: list[Any] = []
        for one in graph.nodes:
            values = [given[0] if upstream == INPUT else made[upstream] for upstream in one.upstreams]
            made.append(self.node.remote(one.body, [*one.constants], *values))
        return [made[number] for number in graph.results]

    def _read(self, results: list[Any]) -> Any:
        values = self.ray.get(results)
        return values if len(values) > 1 else values[0]


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _children(pid: int) -> list[int]:
    """Give the processes that a process has started; none where there is no /proc."""
    found: list[int] = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, children.read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
    return found


def _below(pid: int) -> list[int]:
    return [below for child in _children(pid) for below in (child, *_below(child))]


PEER = RayPeer()
