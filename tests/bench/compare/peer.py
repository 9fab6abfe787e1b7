"""What every competitor is: a server and workers of its own, and a way to run each shape on them."""

from __future__ import annotations

import os
import signal
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from flowq.standalone import EmbeddedServer
from flowq.standalone.workers import WorkerProcesses
from tests.bench.compare.shapes import Diamonds, Shape

Job: TypeAlias = Callable[[], list[int]]
"""Runs a prepared shape and gives the results. It need not come to an end."""

WARM = Diamonds(4)
"""Run before the clock starts: connections stand, and workers that were stopped are back."""


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

    @abstractmethod
    def start(self) -> None:
        """Start the server and the workers; returns when they are ready."""

    @abstractmethod
    def stop(self) -> None:
        """End both, whatever they are at."""

    @abstractmethod
    def prepare(self, shape: Shape) -> Job:
        """Do what does not belong to running: import, build, compile."""

    def restart(self) -> None:
        """Start anew, with an empty server."""
        self.stop()
        self.start()

    def warm_up(self) -> None:
        self.prepare(WARM)()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)
        # Now, not with every look at the clocks: it takes longer than some runs.
        self._pids = [self.server.pid, *_members({worker.pid for worker in self.workers.processes})]

    def cpu_s(self) -> float:
        """Give the processor time that the producer, the server and the workers have used so far; on Linux only."""
        return time.process_time() + sum(map(_cpu_s, self._pids)) if sys.platform == "linux" else 0.0

    def _signal(self, number: signal.Signals) -> None:
        for worker in self.workers.processes:
            os.killpg(worker.pid, number)


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
