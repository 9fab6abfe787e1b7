"""BullMQ on Node: trees as flows. Its producer and its workers are ``bullmq.js``."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from signal import Signals
from typing import IO, Any
from urllib.parse import urlsplit

from tests.bench.compare.peer import Job, Laps, NotExpressible, ServedPeer
from tests.bench.compare.shapes import Chains, FanIn, Independent, Shape, Tree

SCRIPT = Path(__file__).with_name("bullmq.js")


@lru_cache
def installed() -> bool:
    """Tell whether Node finds BullMQ: where NODE_PATH says, or beside the script."""
    node = shutil.which("node")
    if node is None:
        return False
    asked = [node, "-e", "require('bullmq'); require('ioredis')"]
    return subprocess.run(asked, cwd=SCRIPT.parent, capture_output=True, check=False).returncode == 0


class BullmqPeer(ServedPeer):
    """BullMQ with two workers, and a producer in a process of its own."""

    name = "bullmq"
    title = "BullMQ"
    note = (
        "Node; two workers with eight jobs at once each; a flow is a tree, added in one call; the producer is a process"
        " of its own, and reads results from the stream of events"
    )
    warm = FanIn(4)

    def missing(self) -> str:
        return "" if installed() else "npm install bullmq ioredis, and say where in NODE_PATH"

    def command(self) -> Sequence[str]:
        return ["node", str(SCRIPT), "worker", self._path, "{name}"]

    def connect(self, started: ExitStack) -> None:
        self._path = urlsplit(self.server.redis_url).path
        self.producer = started.enter_context(
            subprocess.Popen(
                ["node", str(SCRIPT), "producer", self._path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        )
        started.callback(self.producer.kill)
        assert _pipe(self.producer.stdout).readline() == "ready\n"

    def resume(self) -> None:
        super().resume()
        self._pids = [*self._pids, self.producer.pid]

    def prepare(self, shape: Shape) -> Job:
        told = json.dumps(_told(shape)) + "\n"
        runs = shape.count if isinstance(shape, Chains) else 1

        def run(laps: Laps) -> list[Any]:
            numbers = [laps.begin() for _ in range(runs)]
            _pipe(self.producer.stdin).write(told)
            _pipe(self.producer.stdin).flush()
            values: list[Any] = json.loads(_pipe(self.producer.stdout).readline())
            for number in numbers:
                laps.end(number)
            return values

        return run

    def _signal(self, number: Signals) -> None:
        super()._signal(number)
        self.producer.send_signal(number)


def _told(shape: Shape) -> Any:
    match shape:
        case Chains(length, count, ""):
            made: dict[str, Any] = {"name": "inc", "data": {"x": 0}}
            for _ in range(length - 1):
                made = {"name": "inc", "data": {"joins": True}, "children": [made]}
            return [made] * count
        case FanIn(leaves, ""):
            return [_total(_ones(leaves))]
        case Independent(nodes, ""):
            return {"plain": _ones(nodes)}
        case Tree(leaves):
            row = _ones(leaves)
            while len(row) > 1:
                row = [_total(row[i : i + 2]) for i in range(0, len(row), 2)]
            return row
        case _:
            raise NotExpressible


def _ones(count: int) -> list[dict[str, Any]]:
    return [{"name": "one", "data": {"number": number}} for number in range(count)]


def _total(children: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": "total", "data": {"joins": True}, "children": children}


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


PEER = BullmqPeer()
