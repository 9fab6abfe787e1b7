"""A fleet of real workers on a private server, on which one cell after the other is played."""

from __future__ import annotations

import logging
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import redis

from flowq import Flow, FlowHandle
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from flowq.testing.keyspace import SETTLE_S, open_keys
from tests.chaos.points import oracle
from tests.chaos.points.errands import ERRANDS, Errand, Errands
from tests.chaos.points.passing import CHILD, FOLDER, TREE, Control, Struck
from tests.chaos.points.producer import PRODUCER, Producer
from tests.chaos.points.shapes import SHAPES, bystander, meeting

logger = logging.getLogger(__name__)

WORKERS = 2
SETTINGS: dict[str, Any] = {"lease_s": 1.5, "renew_s": 0.3, "sweep_s": 0.3, "inline_bytes": 64}
"""Leases that a cell can wait for; the results of most bodies are too large for the run's own state."""

BOUND_S = 30.0
"""A run that has not ended by then is stuck: a lease, a lost wake-up, ten seconds of retries are over long before."""
LATE_S = 0.7
"""So much later than the run's end a point may still be passed: the last acknowledgement, a sweep."""
INCLUDE = ["tests.chaos.points.shapes", "tests.chaos.points.hooks"]


class Cell(NamedTuple):
    """Who dies where, in which run."""

    shape: str
    point: str
    nth: int
    victim: str
    takes_s: float = 0.004

    def __str__(self) -> str:
        slow = f" --takes {self.takes_s:g}" if self.takes_s != Cell._field_defaults["takes_s"] else ""
        return f"--shape '{self.shape}' --point {self.point} --nth {self.nth} --victim {self.victim}{slow}"


@dataclass
class Verdict:
    """What came of a cell."""

    cell: Cell
    struck: bool = False
    """Somebody was killed: else the point was not passed so often this time, and the cell says nothing."""
    took_s: float = 0.0
    """From the kill to the run's end."""
    bystander_s: float = 0.0
    """What a run of one node took that was submitted right after the kill."""
    extra: int = 0
    """Bodies that began again."""
    violations: list[str] = field(default_factory=list)
    logs: str = ""


class Stage:
    """Two workers of one child each, and who starts again what was killed. A context manager."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowq-points-")))
            self.log = str(folder / "effects")
            before = os.environ.get(FOLDER)
            os.environ[FOLDER] = str(folder)
            stack.callback(lambda: os.environ.pop(FOLDER) if before is None else os.environ.update({FOLDER: before}))
            self.control = Control(folder)
            stack.callback(self.control.close)
            self.context: EmbeddedContext = stack.enter_context(fleet(WORKERS, INCLUDE, settings=SETTINGS))
            self.state = State.of(self.context)
            self._settle_down()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        with self._stack:
            if error[0] is None:
                self._await_nothing_left(drains=True)

    def profile(self, shape: str, takes_s: float) -> Counter[str]:
        """Give the points that a run of a shape passes, and how often."""
        if shape in ERRANDS:
            return self._profile_errand(ERRANDS[shape])
        self.control.record()
        self._submit(shape, takes_s).result(BOUND_S)
        with suppress(AssertionError):  # what comes soon after the end is part of it
            wait_until(lambda: False, 2 * SETTINGS["sweep_s"])
        found = self.control.recorded()
        self.control.disarm()
        self._settle_down()
        return found

    def play(self, cell: Cell) -> Verdict:
        """Play one cell; never raises."""
        verdict = Verdict(cell)
        try:
            if cell.shape in ERRANDS:
                self._play_errand(cell, verdict)
            else:
                self._play(cell, verdict)
        except Exception as error:
            verdict.violations.append(f"{type(error).__name__}: {error}")
        finally:
            self.control.disarm()
        try:
            self._settle_down()
        except Exception as error:
            verdict.violations.append(f"afterwards: {type(error).__name__}: {error}")
            self._start_over()
        if verdict.violations:
            tails = [f"--- {worker.name}\n{worker.log_tail(60)}" for worker in self.context.workers.processes]
            verdict.logs = "\n".join(tails)
        return verdict

    def _play(self, cell: Cell, verdict: Verdict) -> None:
        self.control.arm(cell.point, cell.nth, cell.victim, self.context.server.pid)
        with self._mending(cell.victim):
            handle = self._submit(cell.shape, cell.takes_s)
            struck = self._wait(handle)
            if struck is None:
                return
            verdict.struck = True
            if cell.victim in (CHILD, TREE):
                began = time.monotonic()
                self._bystander().result(BOUND_S)
                verdict.bystander_s = time.monotonic() - began
            result = handle.result(BOUND_S)
            verdict.took_s = max(0.0, time.monotonic() - struck.at)
        shape = SHAPES[cell.shape]
        verdict.extra = oracle.extra_starts(shape, handle.run_id, self.log)
        verdict.violations += oracle.violations(shape, handle, result, self.log, self.state, cell.victim)

    def _profile_errand(self, errand: Errand) -> Counter[str]:
        order = self.errands.prepare(errand)
        self.control.record()
        status = self.errands.do(order)
        found = self.control.recorded()
        self.control.disarm()
        wrong = list(self.errands.violations(errand, order, status))
        assert not wrong, f"{errand}: {wrong}"
        self._settle_down()
        return Counter({point: times for point, times in found.items() if point.startswith(PRODUCER)})

    def _play_errand(self, cell: Cell, verdict: Verdict) -> None:
        errand = ERRANDS[cell.shape]
        order = self.errands.prepare(errand)
        self.control.arm(cell.point, cell.nth, cell.victim, self.context.server.pid)
        with self._mending(cell.victim):
            status = self.errands.do(order)
            struck = self.control.struck()
        self.control.disarm()
        if struck is None:
            return
        verdict.struck = True
        verdict.violations += self.errands.violations(errand, order, status, cell.point)
        verdict.took_s = time.monotonic() - struck.at

    @cached_property
    def errands(self) -> Errands:
        """The producers of this stage, which are made when one is needed."""
        producer = self._stack.enter_context(Producer())
        return Errands(self.context, producer, self.log, BOUND_S)

    def _submit(self, shape: str, takes_s: float) -> FlowHandle:
        flow, given = SHAPES[shape].make(""), {"log": self.log, "takes_s": takes_s}
        options: dict[str, Any] = {"context": self.context, "dispatch": SHAPES[shape].dispatch}
        handle: Any = flow.submit(given, **options) if isinstance(flow, Flow) else flow.submit(**given, **options)
        assert isinstance(handle, FlowHandle)
        return handle

    def _bystander(self) -> Any:
        return bystander().submit({"log": self.log, "takes_s": 0}, context=self.context)

    def _wait(self, handle: FlowHandle) -> Struck | None:
        """Wait until somebody has struck; None: the run has ended, and nobody did."""
        ended_at: list[float] = []

        def is_over() -> bool:
            if self.control.struck() is not None:
                return True
            if not ended_at and handle.status().is_final:
                ended_at.append(time.monotonic())
            return bool(ended_at) and time.monotonic() - ended_at[0] > LATE_S

        wait_until(is_over, BOUND_S, lambda: f"nobody was struck, and the run goes on: {handle.progress()!r}")
        return self.control.struck()

    @contextmanager
    def _mending(self, victim: str) -> Iterator[None]:
        """Meanwhile, start again what is killed, as whoever runs services does."""
        over = threading.Event()

        def mend() -> None:
            while self.control.struck() is None and not over.wait(0.005):
                pass
            struck = self.control.struck()
            if struck is None:
                return
            if victim not in (CHILD, TREE):
                self.context.server.restart()
                return
            for position, worker in enumerate(self.context.workers.processes):
                if worker.pid == struck.group and (victim == TREE or worker.pid == struck.pid):
                    self.context.workers.restart(position + 1)

        thread = threading.Thread(target=mend, name="mending")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _settle_down(self) -> None:
        """Wait until every slot works again and nothing is left over; the next cell begins with that."""
        self.context.workers.wait_ready(BOUND_S)
        meeting(WORKERS).submit({"log": self.log}, context=self.context).result(BOUND_S).raise_for_status()
        self._await_nothing_left(drains=False)
        Path(self.log).unlink(missing_ok=True)

    def _await_nothing_left(self, *, drains: bool) -> None:
        """Wait until nothing is left; ``drains``: nor of wake-ups, of which a lost one is noted for seconds."""
        wait_until(lambda: not self._left_over(drains), SETTLE_S, lambda: f"left over: {self._left_over(drains)}")

    def _left_over(self, drains: bool) -> list[str]:
        """Give what is kept for ever, and messages that nobody has taken."""
        queue = self.context.settings.queue
        kept = [name for name in open_keys(self.context) if not name.startswith(f"{queue}:taken:")]  # the broker's
        kept = [name for name in kept if drains or not name.endswith(":drains")]
        return [*kept, *(f"message {number}" for number in range(self.state.client.llen(queue)))]

    def _start_over(self) -> None:
        """Something is stuck: do not let it spoil the next cells."""
        for number in range(1, WORKERS + 1):
            self.context.workers.kill(number)
        with suppress(redis.RedisError):
            self.state.client.flushall()
        for number in range(1, WORKERS + 1):
            self.context.workers.restart(number)
        self._settle_down()
