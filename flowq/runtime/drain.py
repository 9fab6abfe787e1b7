"""What a Celery worker does on a wake-up: claim, run, settle, until nothing is ready or its time slice ends.

One drain holds one Celery slot. Its own thread runs PROCESS and INLINE nodes one after the other; beside it, THREAD
nodes run in threads, each of which settles its node and takes the next one. Every settle brings the next claims along.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from flowq.core.types import FlowType
from flowq.runtime.runner import ClaimRunner, Ended
from flowq.runtime.scripts import Claimed, Next
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")

LOOK_S = 0.05
"""While only threads are busy, the drain's own thread looks for work this often: a wake-up could not reach it."""


class Drain:
    """One answer to one wake-up."""

    def __init__(self, worker: WorkerProcess, queue: str, token: str) -> None:
        self._worker = worker
        self._scripts = worker.state.scripts
        self._runner = ClaimRunner(worker)
        self._queue, self._token = queue, token
        self._threads = 0
        """Busy ones."""
        self._idle = threading.Condition()
        self._ends = 0.0
        self._over = False
        """The last call found nothing while nothing was busy: the drain has ended in Redis."""

    def run(self) -> None:
        """Work until the queue is empty or the time slice is over; in that case another wake-up follows."""
        self._ends = time.monotonic() + self._worker.settings.slice_s
        todo: deque[Claimed] = deque()
        with self._worker.leases.draining(self._queue, self._token), self._letting_go(todo):
            following = self._claim(busy=0)
            while True:
                self._runner.follow_up(following)
                todo.extend(self._start_threads(following.claims))
                if todo:
                    following = self._work(todo)
                    continue
                with self._idle:
                    if self._over:
                        return
                    if self._threads:
                        self._idle.wait(LOOK_S)
                    busy = self._threads
                following = self._claim(busy=busy)

    @contextmanager
    def _letting_go(self, todo: deque[Claimed]) -> Iterator[None]:
        """Should this thread fail, renew its claims no longer: they would stay claimed for ever."""
        try:
            yield
        finally:
            for claim in todo:
                self._worker.leases.drop(claim.lease)

    def _open(self) -> int:
        """Give 1 while the time slice lasts, else 0."""
        return int(time.monotonic() < self._ends)

    def _free_threads(self) -> int:
        return max(0, self._worker.settings.threads - self._threads) * self._open()

    def _claim(self, busy: int) -> Next:
        following = self._scripts.claim(
            worker=self._worker.name,
            token=self._token,
            queue=self._queue,
            process=self._open(),
            thread=self._free_threads(),
            busy=busy,
        )
        self._over = busy == 0 and not following.claims
        return following

    def _start_threads(self, claims: list[Claimed]) -> list[Claimed]:
        """Start threads for the claims that are for them, and give the others."""
        own = []
        for claim in claims:
            node = self._worker.state.plan(claim.plan).nodes[int(claim.key.partition(".")[0])]
            if node.placement is FlowType.THREAD:
                with self._idle:
                    self._threads += 1
                threading.Thread(target=self._thread, args=(claim,), name="flowq-node", daemon=True).start()
            else:
                own.append(claim)
        return own

    def _thread(self, claim: Claimed) -> None:
        """Run a THREAD node, the inline ones that follow from it, and then the next THREAD node."""
        todo = deque([claim])
        try:
            with self._letting_go(todo):
                while todo:
                    ended = self._runner.run(todo[0])
                    thread = self._open() if len(todo) == 1 else 0
                    following = self._settle(todo.popleft(), ended, process=0, thread=thread, busy=1)
                    todo.extend(following.claims)
                    self._runner.follow_up(following)
        except Exception:
            logger.exception("a thread of the drain of %r failed; its claims will expire", self._queue)
        finally:
            with self._idle:
                self._threads -= 1
                self._idle.notify()

    def _work(self, todo: deque[Claimed]) -> Next:
        """Run the first of the claims and settle it; the others wait."""
        ended = self._runner.run(todo[0])
        waiting = len(todo) - 1
        busy = waiting + self._threads
        process = 0 if waiting else self._open()
        following = self._settle(todo.popleft(), ended, process=process, thread=self._free_threads(), busy=busy)
        self._over = busy == 0 and not following.claims
        return following

    def _settle(self, claim: Claimed, ended: Ended, *, process: int, thread: int, busy: int) -> Next:
        try:
            following = self._scripts.settle(
                worker=self._worker.name,
                token=self._token,
                queue=self._queue,
                process=process,
                thread=thread,
                busy=busy,
                inline=True,
                outcomes=ended.entries,
                values=ended.values,
            )
        finally:
            self._worker.leases.drop(claim.lease)
        for entry in ended.entries:
            if entry["retry"]:
                self._worker.leases.remind(entry["delay_ms"] / 1000)
        return following
