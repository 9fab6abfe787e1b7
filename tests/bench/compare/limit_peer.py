"""The physical limit: a bare executor of graphs on Redis, which promises nothing. A ceiling, not a design."""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Sequence
from typing import Any

from tests.bench.compare import limit_worker
from tests.bench.compare.graph import INPUT, Graph, graph_of, inputs_of
from tests.bench.compare.peer import Job, Laps, ServedPeer
from tests.bench.compare.shapes import Shape

PIECE = 2000
"""Fields or items that one command carries."""


class LimitPeer(ServedPeer):
    """Hashes, one list and one script: store the result, count down the downstreams, pop and return what is next."""

    def __init__(self, batch: int = 1, workers: int = 2) -> None:
        self._batch, self.count = batch, workers
        self.name = "limit" if batch == 1 else f"limit-{batch}"
        self.title = "limit, one round trip per node" if batch == 1 else f"limit, {batch} nodes per round trip"
        self.note = "a bare executor without leases, retries, validation or events, with hiredis if it is installed"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", limit_worker.__name__, self.server.redis_url, "{name}", str(self._batch)]

    def tidy(self) -> None:
        self.client.flushdb()

    def prepare(self, shape: Shape) -> Job:
        graph, inputs = graph_of(shape), inputs_of(shape)
        plan = f"plan-{uuid.uuid4().hex[:8]}"
        rows = rows_of(graph)
        roots = [number for number, node in enumerate(graph.nodes) if not {*node.upstreams} - {INPUT}]

        def run(laps: Laps) -> list[Any]:
            self._send("HSET", plan, rows)
            for given in inputs:
                number = laps.begin()
                self._submit(f"{plan}.{number}", plan, roots, given)
                laps.submitted(number)
            found: dict[int, Any] = {}
            for _ in inputs:
                _, item = self.client.execute_command("BLPOP", f"done:{plan}", 0)
                name, _, value = item.partition(b"\n")
                number = int(name.rpartition(b".")[2])
                found[number] = self._values(name, graph) if len(graph.results) > 1 else json.loads(value)
                laps.end(number)
            return [found[number] for number in sorted(found)]

        return run

    def _submit(self, run: str, plan: str, roots: Sequence[int], given: Sequence[Any]) -> None:
        ready = [f"{run} {plan} {root + 1}" for root in roots]
        if not given:
            self._send("RPUSH", limit_worker.QUEUE, ready)
            return
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.execute_command("HSET", run, "v0", json.dumps(given[0]))
            pipeline.execute_command("RPUSH", limit_worker.QUEUE, *ready)
            pipeline.execute()

    def _send(self, command: str, key: str, parts: Sequence[str]) -> None:
        """Send a command in pieces that Redis takes little time for."""
        for first in range(0, len(parts), PIECE):
            self.client.execute_command(command, key, *parts[first : first + PIECE])

    def _values(self, run: bytes, graph: Graph) -> list[Any]:
        fields = [f"v{number + 1}" for number in graph.results]
        found: list[Any] = []
        for first in range(0, len(fields), PIECE):
            found += self.client.execute_command("HMGET", run, *fields[first : first + PIECE])
        return [json.loads(value) for value in found]


def rows_of(graph: Graph) -> list[str]:
    """Give fields and values of a plan, as ``limit.lua`` reads them; nodes are numbered from 1, and 0 is the input."""
    downstreams: list[list[int]] = [[] for _ in graph.nodes]
    for number, node in enumerate(graph.nodes):
        for upstream in node.upstreams:
            if upstream != INPUT:
                downstreams[upstream].append(number)
    results = {*graph.results}
    rows = []
    for number, node in enumerate(graph.nodes):
        after = [f"{other + 1}:{len(graph.nodes[other].upstreams)}" for other in downstreams[number]]
        if number in results:
            after.append(f"0:{len(results)}")
        rows += [f"c{number + 1}", json.dumps((node.body, node.constants))]
        rows += [f"u{number + 1}", " ".join(str(upstream + 1) for upstream in node.upstreams)]
        rows += [f"d{number + 1}", " ".join(after)]
    return rows
