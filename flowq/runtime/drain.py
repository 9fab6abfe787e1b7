"""A drain in a worker: its steps, driven in the thread that got the wake-up, and threads beside it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from flowq.runtime import steps as asked
from flowq.runtime.drain_steps import DrainSteps
from flowq.runtime.driver import Driver
from flowq.runtime.replies import Claimed
from flowq.runtime.runner import ClaimRunner
from flowq.runtime.steps import Steps
from flowq.runtime.work import Work
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")


class Drain:
    """One answer to one wake-up.

    Args:
        worker: the services of this process.
        queue: what to drain.
        token: names the drain.
        closing: tells whether this process is to end: then it claims nothing more, stores what it has run, and hands
            back what it has not begun.
    """

    def __init__(
        self, worker: WorkerProcess, queue: str, token: str, closing: Callable[[], bool] = lambda: False
    ) -> None:
        self._worker, self._queue, self._token = worker, queue, token
        settings = worker.settings
        self._steps = DrainSteps(
            settings.slice_s,
            settings.linger_s,
            settings.threads,
            settings.lease_s,
            closing,
            pace_s=worker.paces.lately_s,
        )
        self._driver = Driver(worker, ClaimRunner(worker, closing=closing), queue, token)
        self._driver.does[asked.StartThread] = self._start_thread
        self._driver.does[asked.AwaitThread] = self._await_thread
        self._idle = threading.Condition()
        self._works: list[Work] = []
        """Its own and its threads'."""

    def run(self) -> None:
        """Work until the queue is empty or the time slice is over; in that case another wake-up follows."""
        with self._worker.leases.draining(self._queue, self._token, self._relieve):
            self._drive(Work(), self._steps.main)
        if self._steps.quickest_s is not None:
            self._worker.paces.lately_s = self._steps.quickest_s

    def _drive(self, work: Work, steps: Callable[[Work], Steps[None]]) -> None:
        self._works.append(work)
        try:
            with self._driver.letting_go(work):
                self._driver.drive(steps(work))
        finally:
            self._works.remove(work)

    def _relieve(self) -> None:
        """Let nothing wait behind an attempt that takes long; called by another thread, now and then."""
        now = time.monotonic()
        for work in list(self._works):
            if work.is_late(now):
                self._driver.drive(self._steps.relieve(work))

    def _start_thread(self, request: asked.StartThread) -> None:
        with self._idle:
            self._steps.threads += 1
        try:
            threading.Thread(target=self._thread, args=(request.claim,), name="flowq-node", daemon=True).start()
        except RuntimeError:  # the system gives no more
            with self._idle:
                self._steps.threads -= 1
            raise

    def _await_thread(self, request: asked.AwaitThread) -> None:
        with self._idle:
            if self._steps.threads:
                self._idle.wait(request.seconds)

    def _thread(self, claim: Claimed) -> None:
        try:
            self._drive(Work([claim]), self._steps.beside)
        except Exception:
            logger.exception("a thread of the drain of %r failed; its claims are given to others", self._queue)
        finally:
            with self._idle:
                self._steps.threads -= 1
                self._idle.notify()
