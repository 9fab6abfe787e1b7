"""What a Celery worker does on a wake-up: claim, run, settle, until nothing is ready or its time slice ends.

One drain holds one Celery slot. Its own thread runs PROCESS and INLINE nodes one after the other; beside it, THREAD
nodes run in threads, each of which settles its node and takes the next one. Every settle brings the next claims along.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from flowq.core.config import RetryPolicy
from flowq.core.errors import FlowqError
from flowq.core.types import FlowType
from flowq.execution import Interruptible
from flowq.plan import Node
from flowq.runtime.attempt import Outcome, expand, failed, perform
from flowq.runtime.remote import RemoteAttempt
from flowq.runtime.scripts import Claimed, Next, OutcomeEntry
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")

LOOK_S = 0.05
"""While only threads are busy, the drain's own thread looks for work this often: a wake-up could not reach it."""

ITEMS_PER_CALL = 1000
"""Items that one call opens: about a millisecond of Redis."""

NO_RETRY = Node("?", "?", retry=RetryPolicy(max_attempts=1))
"""Stands for the node of a claim whose plan cannot be read."""


class Drain:
    """One answer to one wake-up."""

    def __init__(self, worker: WorkerProcess, queue: str, token: str) -> None:
        self._worker = worker
        self._scripts = worker.state.scripts
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
                self._follow_up(following)
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

    def _follow_up(self, following: Next) -> None:
        """Do what a reply asks for besides running its claims."""
        self._worker.wake(following.wakes)
        for run in following.unfinished:
            left = True
            while left:
                left, wakes = self._scripts.advance(run=run)
                self._worker.wake(wakes)
        for claim in following.claims:  # last: what fails before leaves no lease that would be renewed for nobody
            self._worker.leases.hold(claim.lease)

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
                    entries, values = self._outcomes(todo[0])
                    thread = self._open() if len(todo) == 1 else 0
                    following = self._settle(todo.popleft(), entries, values, process=0, thread=thread, busy=1)
                    todo.extend(following.claims)
                    self._follow_up(following)
        except Exception:
            logger.exception("a thread of the drain of %r failed; its claims will expire", self._queue)
        finally:
            with self._idle:
                self._threads -= 1
                self._idle.notify()

    def _work(self, todo: deque[Claimed]) -> Next:
        """Run the first of the claims and settle it; the others wait."""
        entries, values = self._outcomes(todo[0])
        waiting = len(todo) - 1
        busy = waiting + self._threads
        process = 0 if waiting else self._open()
        following = self._settle(
            todo.popleft(), entries, values, process=process, thread=self._free_threads(), busy=busy
        )
        self._over = busy == 0 and not following.claims
        return following

    def _settle(
        self,
        claim: Claimed,
        entries: list[OutcomeEntry],
        values: list[bytes],
        *,
        process: int,
        thread: int,
        busy: int,
    ) -> Next:
        try:
            following = self._scripts.settle(
                worker=self._worker.name,
                token=self._token,
                queue=self._queue,
                process=process,
                thread=thread,
                busy=busy,
                inline=True,
                outcomes=entries,
                values=values,
            )
        finally:
            self._worker.leases.drop(claim.lease)
        for entry in entries:
            if entry["retry"]:
                self._worker.leases.remind(entry["delay_ms"] / 1000)
        return following

    def _outcomes(self, claim: Claimed) -> tuple[list[OutcomeEntry], list[bytes]]:
        try:
            attempt = self._worker.loader.attempt(claim)
        except FlowqError as error:  # such as a plan of another version: this node will never run here
            logger.exception("the claim %s cannot be prepared", claim.lease)
            return [_entry(claim, NO_RETRY, failed(error, NO_RETRY), None, 0, fused=False)], []
        return self._open_map(attempt) if attempt.opens_map else self._attempt(attempt)

    def _attempt(self, attempt: RemoteAttempt) -> tuple[list[OutcomeEntry], list[bytes]]:
        """Run an attempt, and if it completes, the nodes that are fused to it."""
        entries: list[OutcomeEntry] = []
        values: list[bytes] = []
        todo = deque([attempt])
        while todo:
            current = todo.popleft()
            outcome = self._perform(current, attempt.claim.lease)
            if outcome is None:
                break
            entry, packed = self._entry(current, outcome, fused=current is not attempt, position=len(values) + 2)
            entries.append(entry)
            if packed is not None:
                values.append(packed)
                todo.extend(self._worker.loader.fused(current, outcome.value or b""))
        return entries, values

    def _perform(self, attempt: RemoteAttempt, lease: str) -> Outcome | None:
        """Run one attempt under a lease (a fused node's is that of the one before it); None: the lease is lost."""
        scope = Interruptible(attempt.node.timeout_s)
        with self._worker.leases.running(lease, scope) as held:
            if not held:
                return None
            self._worker.monitor.started(attempt)
            outcome = perform(self._worker.registry, attempt.info, attempt.inputs, scope)
        self._worker.monitor.ended(attempt, outcome)
        return outcome

    def _entry(
        self, attempt: RemoteAttempt, outcome: Outcome, *, fused: bool, position: int
    ) -> tuple[OutcomeEntry, bytes | None]:
        """Give the outcome as settle takes it, and the packed value."""
        claim, packed = attempt.claim, None
        if outcome.value is not None:
            try:
                packed = self._worker.results.pack(claim.run, outcome.value)
            except Exception as error:
                outcome = failed(error, attempt.node)
        return _entry(claim, attempt.node, outcome, packed, position, fused=fused), packed

    def _open_map(self, attempt: RemoteAttempt) -> tuple[list[OutcomeEntry], list[bytes]]:
        """Open a map's items, some at a time; gives the failure if there are no items to open."""
        claim, scope = attempt.claim, Interruptible()
        with self._worker.leases.running(claim.lease, scope), scope:
            try:
                items = expand(attempt.inputs)
            except Exception as error:
                entry, _ = self._entry(attempt, failed(error, attempt.node), fused=False, position=0)
                return [entry], []
            for offset in range(claim.opened, max(len(items), 1), ITEMS_PER_CALL):
                chunk = [self._worker.results.pack(claim.run, item) for item in items[offset : offset + ITEMS_PER_CALL]]
                counted, wakes = self._scripts.extend(
                    run=claim.run, key=claim.key, fence=claim.fence, offset=offset, total=len(items), values=chunk
                )
                self._worker.wake(wakes)
                if not counted:
                    break
        return [], []


def _entry(
    claim: Claimed, node: Node, outcome: Outcome, packed: bytes | None, position: int, *, fused: bool
) -> OutcomeEntry:
    failures = claim.attempt - claim.crashes
    return OutcomeEntry(
        run=claim.run,
        key=claim.key,
        fence=claim.fence,
        kind="completed" if packed is not None else "failed" if outcome.failure else "skipped",
        value=position if packed is not None else 0,
        failure=outcome.failure.model_dump_json() if outcome.failure else "",
        retry=outcome.retry and failures < node.retry.max_attempts,
        delay_ms=int(node.retry.delay(failures, random.random()) * 1000),
        timed_out=outcome.timed_out,
        fused=fused,
    )
