"""The faults: a plan of them, made from a seed, and the injector that carries it out on real processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, TypeVar

import redis

from flowq.standalone import EmbeddedServer
from flowq.standalone.workers import EmbeddedWorkerError, WorkerProcesses
from flowq.testing import wait_until
from tests.chaos.effects import Reader
from tests.chaos.history import MS, Faults, Pause

T = TypeVar("T")

BUSY = 0.75
"""So many of the faults that strike a process go for one that is in the middle of a node."""

LEAVE_S = 20.0
"""A worker that was asked to end and has not by then is killed."""


class Kind(StrEnum):
    """What can be done."""

    CHILD = "child killed"
    PARENT = "parent killed"
    TREE = "tree killed"
    SERVER = "server killed"
    PAUSE_CHILD = "child paused"
    PAUSE_TREE = "tree paused"
    ROLLING = "rolling restart"


class Fault(NamedTuple):
    """One of the plan."""

    at_s: float
    kind: Kind
    lasts_s: float
    """Until it is put right: the server's outage, the pause, the time without the worker."""
    aim: float
    """Picks the victim, from 0 to 1."""
    busy: bool
    """It goes for a victim that is in the middle of a node, if there is one."""


class Mix(NamedTuple):
    """How many of each are made."""

    kills: int
    servers: int
    pauses: int
    rollings: int

    @staticmethod
    def of(runs: int) -> Mix:
        """For so many runs, as in 500: 110, 10, 6 and 5; from 20 runs on at least one of each, and of both pauses."""

        def share(count: int, least: int = 1) -> int:
            return max(least * (runs >= 20), round(runs / 500 * count))

        return Mix(max(2, share(110)), share(10), share(6, 2), share(5))


def make_plan(seed: int, seconds: float, mix: Mix, lease_s: float) -> list[Fault]:
    """Spread the faults over the time, in random order, each at a random moment of its share of it."""
    choose = random.Random(f"faults {seed}")
    kills = [(Kind.CHILD, Kind.CHILD, Kind.TREE, Kind.PARENT)[number % 4] for number in range(mix.kills)]
    pauses = [(Kind.PAUSE_TREE, Kind.PAUSE_CHILD)[number % 2] for number in range(mix.pauses)]
    kinds = [*kills, *pauses, *[Kind.SERVER] * mix.servers, *[Kind.ROLLING] * mix.rollings]
    choose.shuffle(kinds)
    lasts = {Kind.SERVER: (0.2, 3.0), Kind.PAUSE_CHILD: (2 * lease_s,) * 2, Kind.PAUSE_TREE: (2 * lease_s,) * 2}
    share = seconds / max(1, len(kinds))
    return [
        Fault(
            at_s=(number + choose.random()) * share,
            kind=kind,
            lasts_s=choose.uniform(*lasts.get(kind, (0.0, 2.0))),
            aim=choose.random(),
            busy=choose.random() < BUSY,
        )
        for number, kind in enumerate(kinds)
    ]


class Done(NamedTuple):
    """A fault that was carried out; milliseconds of the wall clock."""

    kind: Kind
    began: int
    ended: int
    what: str


@dataclass
class Injector:
    """Carries out a plan on a server and its workers, each fault in a thread of its own, so that they may overlap."""

    server: EmbeddedServer
    workers: WorkerProcesses
    log: Path
    """The effects, by which it knows who is busy."""
    done: list[Done] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    _taken: set[int] = field(default_factory=set)
    """Workers that are being put through something."""
    _lock: threading.Condition = field(default_factory=threading.Condition)
    _server: threading.Lock = field(default_factory=threading.Lock)
    _kills: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._busy = Busy(self.log)

    def run(self, plan: Sequence[Fault], began: float) -> None:
        """Carry the plan out, ``began`` being its zero on the monotonic clock; returns when all is back."""
        threads = []
        for fault in plan:
            time.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            threads.append(threading.Thread(target=self._safely, args=(fault,), name=f"chaos {fault.kind}"))
            threads[-1].start()
        for thread in threads:
            thread.join()

    def faults(self) -> Faults:
        """Give what the checker is to know."""
        pauses = [Pause(d.began, d.ended) for d in self.done if d.kind in (Kind.PAUSE_CHILD, Kind.PAUSE_TREE)]
        return Faults(self._kills, pauses, max((done.ended for done in self.done), default=0))

    def counts(self) -> Counter[str]:
        return Counter(done.kind.value for done in self.done)

    def _safely(self, fault: Fault) -> None:
        began = time.time_ns() // MS
        try:
            what = self._carry_out(fault)
        except Exception as error:
            self.failed.append(f"{fault.kind}: {type(error).__name__}: {error}")
            return
        self.done.append(Done(fault.kind, began, time.time_ns() // MS, what))

    def _carry_out(self, fault: Fault) -> str:
        match fault.kind:
            case Kind.SERVER:
                return self._kill_server(fault)
            case Kind.ROLLING:
                return self._roll()
            case Kind.CHILD:
                child = self._child(fault)
                os.kill(child, signal.SIGKILL)
                return f"pid {child}"
            case Kind.PAUSE_CHILD:
                child = self._child(fault)
                os.kill(child, signal.SIGSTOP)
                time.sleep(fault.lasts_s)
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child, signal.SIGCONT)
                return f"pid {child}"
            case _:
                with self._worker(fault) as number:
                    return self._strike(fault, number)

    def _strike(self, fault: Fault, number: int) -> str:
        """Kill a worker, and start it again later; or stop it, and let it go on."""
        worker = self.workers.processes[number - 1]
        if not worker.alive:  # nobody struck it: it is nobody else's now
            self.failed.append(f"{worker.name} had ended by itself, status {worker.returncode}: {worker.log_tail(12)}")
            self._start(number)
            worker = self.workers.processes[number - 1]
        parent = worker.pid
        if fault.kind is Kind.PAUSE_TREE:
            os.killpg(parent, signal.SIGSTOP)
            time.sleep(fault.lasts_s)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent, signal.SIGCONT)
        else:
            if fault.kind is Kind.TREE:
                self.workers.kill(number)
            else:
                os.kill(parent, signal.SIGKILL)
            time.sleep(fault.lasts_s)
            self._start(number)
        return f"w{number}, pid {parent}"

    def _kill_server(self, fault: Fault) -> str:
        with self._server:
            self._kills.append(time.time_ns() // MS)
            self.server.kill()
            time.sleep(fault.lasts_s)
            self.server.restart()
        return f"for {fault.lasts_s:.1f} s"

    def _roll(self) -> str:
        for number in range(1, len(self.workers.processes) + 1):
            with self._worker(only=number):
                worker = self.workers.processes[number - 1]
                worker.terminate()
                worker.wait(LEAVE_S)
                self._start(number)
        return f"{len(self.workers.processes)} workers"

    def _start(self, number: int) -> None:
        self.workers.restart(number)
        # Whoever restarts workers waits for one before ending the next; another fault may strike it meanwhile.
        with contextlib.suppress(EmbeddedWorkerError, redis.RedisError):
            self.workers.wait_ready(10)

    def _child(self, fault: Fault) -> int:
        parents = [worker.pid for worker in self.workers.processes]

        def look() -> list[int]:
            return sorted(child for parent in parents for child in children_of(parent))

        return self._pick(fault, wait_until(look, 15, "a worker with children"), self._busy.pids())

    @contextlib.contextmanager
    def _worker(self, fault: Fault | None = None, only: int = 0) -> Iterator[int]:
        """Give the number of a worker that nobody else strikes meanwhile."""
        with self._lock:
            numbers = {only} if only else set(range(1, len(self.workers.processes) + 1))
            self._lock.wait_for(lambda: numbers - self._taken)
            free = sorted(numbers - self._taken)
            number = free[0]
            if fault is not None:
                busy = self._busy.pids()
                at_work = {i for i in free if busy & set(children_of(self.workers.processes[i - 1].pid))}
                number = self._pick(fault, free, at_work)
            self._taken.add(number)
        try:
            yield number
        finally:
            with self._lock:
                self._taken.discard(number)
                self._lock.notify_all()

    def _pick(self, fault: Fault, among: Sequence[int], busy: set[int]) -> int:
        chosen = sorted(busy & set(among)) if fault.busy else []
        chosen = chosen or list(among)
        return chosen[int(fault.aim * len(chosen))]


class Busy:
    """Who is in the middle of a node, as far as the effects tell."""

    def __init__(self, log: Path) -> None:
        self._reader = Reader(log)
        self._open: dict[str, int] = {}
        self._lock = threading.Lock()

    def pids(self) -> set[int]:
        with self._lock:
            for effect in self._reader.new():
                if effect.what == "start":
                    self._open[effect.nonce] = effect.pid
                else:
                    self._open.pop(effect.nonce, None)
            return set(self._open.values())


def children_of(pid: int) -> list[int]:
    """Give a process's children; none if it has ended."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += map(int, (thread / "children").read_text().split())
    return found


def within(timeout_s: float, call: Callable[[], T], what: str) -> T:
    """Call what fails while the server is away, until it succeeds."""

    def attempt() -> tuple[T] | None:
        try:
            return (call(),)
        except (redis.RedisError, OSError):
            return None

    found = wait_until(attempt, timeout_s, what)
    assert found is not None
    return found[0]
