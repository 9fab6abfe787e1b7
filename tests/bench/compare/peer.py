"""What every competitor is: a server and workers of its own, and a way to run each shape on them."""

from __future__ import annotations

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeAlias

import redis

from flowq.standalone import EmbeddedServer
from flowq.standalone.workers import WorkerProcesses
from tests.bench.compare.shapes import Diamonds, Shape

READY = "bench:ready"
"""The set in which workers say that they are ready, unless they have another way."""


class Laps:
    """When each run of a job was begun, when it was submitted, and when its result was in the producer's hands.

    By the clock that all processes of a machine share.
    """

    def __init__(self) -> None:
        self.begun: list[float] = []
        self._submitted: dict[int, float] = {}
        self._read: dict[int, float] = {}

    def begin(self) -> int:
        """Note that a run begins; gives its number."""
        self.begun.append(time.monotonic())
        return len(self.begun) - 1

    def submitted(self, number: int) -> None:
        """Note that the producer may go on: the run is on its way."""
        self._submitted[number] = time.monotonic()

    def end(self, number: int) -> None:
        """Note that the result of a run is there."""
        self._read[number] = time.monotonic()

    @property
    def seconds(self) -> list[float]:
        """From the begin to the result, for each run."""
        return [self._read[number] - begun for number, begun in enumerate(self.begun)]

    @property
    def submits(self) -> list[float]:
        """From the begin until the producer could go on, for each run."""
        return [self._submitted[number] - begun for number, begun in enumerate(self.begun)]


Job: TypeAlias = Callable[[Laps], list[Any]]
"""Runs a prepared shape and gives the results, telling of each run. It need not come to an end."""

Start: TypeAlias = Callable[[], Callable[[], Any]]
"""Starts a run, and gives a way to wait for its result."""


class NotExpressible(Exception):
    """A peer cannot run a shape."""


class Peer(ABC):
    """A competitor. Between ``pause`` and ``resume`` its workers are stopped, and take no time from the others."""

    name: str
    """A word for the command line."""
    title: str
    """What the table has."""
    note = ""
    """What a reader must know to compare it fairly."""

    server: EmbeddedServer
    workers: WorkerProcesses
    _pids: Sequence[int] = ()
    """Of the server and the workers, with their children."""

    warm: Shape = Diamonds(4)
    """Run before the clock starts: connections stand, and workers that were stopped are back."""

    def missing(self) -> str:
        """Tell what must be installed to run it; nothing: it can be run."""
        return ""

    @abstractmethod
    def start(self) -> None:
        """Start the server and the workers; returns when they are ready."""

    @abstractmethod
    def stop(self) -> None:
        """End both, whatever they are at."""

    @abstractmethod
    def prepare(self, shape: Shape) -> Job:
        """Do what does not belong to running: import, build, compile.

        Raises:
            NotExpressible: it cannot run this shape.
        """

    def tidy(self) -> None:  # noqa: B027 - most need not
        """Forget the values of what was run so far, if they would fill the memory."""

    def restart(self) -> None:
        """Start anew, with an empty server."""
        self.stop()
        self.start()

    def warm_up(self) -> None:
        self.prepare(self.warm)(Laps())

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        # Now, not with every look at the clocks: it takes longer than some runs.
        self._pids = [self.server.pid, *_members({worker.pid for worker in self.workers.processes})]

    def cpu_s(self) -> float:
        """Give the processor time that the producer, the server and the workers have used so far; on Linux only."""
        return time.process_time() + sum(self.cpu_s_each())

    def cpu_s_each(self) -> list[float]:
        """Give that of the server, and of each process of the workers."""
        return [_cpu_s(pid) for pid in self._pids] if sys.platform == "linux" else []

    def _signal(self, number: signal.Signals) -> None:
        for worker in self.workers.processes:
            os.killpg(worker.pid, number)


class ServedPeer(Peer):
    """A peer on a private server, whose workers say in ``READY`` that they are ready."""

    count = 2

    @abstractmethod
    def command(self) -> Sequence[str]:
        """Give the command line of a worker, ``{name}`` standing for its name."""

    def connect(self, started: ExitStack) -> None:
        """Connect the producer; what is to be undone at the end goes into ``started``."""

    def start(self) -> None:
        with ExitStack() as started:
            self.server = started.enter_context(EmbeddedServer(appendonly=False))
            self.client = started.enter_context(redis.Redis.from_url(self.server.redis_url, socket_timeout=None))
            self.connect(started)
            self.workers = WorkerProcesses(
                self.count, self.command(), ready=self._ready, env={"PYTHONPATH": search_path()}
            )
            started.enter_context(self.workers)
            self.workers.wait_ready()
            self._started = started.pop_all()

    def stop(self) -> None:
        self.workers.stop(grace_s=0)
        self._started.close()

    def _ready(self) -> set[str]:
        return {name.decode() for name in self.client.smembers(READY)}


def one_by_one(starts: Sequence[Start]) -> Job:
    """Give the job that starts all runs, then waits for them in the same order."""

    def run(laps: Laps) -> list[Any]:
        waits, found = [], []
        for start in starts:
            waits.append((laps.begin(), start()))
            laps.submitted(waits[-1][0])
        for number, wait in waits:
            found.append(wait())
            laps.end(number)
        return found

    return run


def say_ready(redis_url: str, name: str) -> None:
    """Tell the producer that this worker is ready."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(READY, name)


def search_path() -> str:
    """Give PYTHONPATH for workers, which are started elsewhere."""
    return os.pathsep.join(str(Path(path).absolute()) for path in sys.path)


def _members(groups: set[int]) -> list[int]:
    """Give the processes of these process groups; none where there is no /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        if int(fields[2]) in groups:
            found.append(int(status.parent.name))
    return found


def _cpu_s(pid: int) -> float:
    # The clock of another process, as clock_getcpuclockid(3) names it: to the nanosecond, where /proc has 10 ms.
    return time.clock_gettime(~pid << 3 | 2)
