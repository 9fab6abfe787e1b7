"""A Celery worker's processes: each has services of its own, made after the fork."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billiard import current_process
from celery import Celery

from flowq.core.context import FlowContext
from flowq.core.errors import FlowqError
from flowq.execution import Interruptible
from flowq.runtime.board import Board
from flowq.runtime.monitor import CeleryMonitor
from flowq.runtime.state import State
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")


class Processes:
    """Gives whatever runs in a process of the worker that process's services: one WorkerProcess."""

    def __init__(self, app: Celery, context: FlowContext) -> None:
        self.app, self.context = app, context
        self.hostname = "worker"
        self.board = Board(0)
        """What the processes of a worker share."""
        self._processes: dict[int, WorkerProcess] = {}
        self._lock = threading.Lock()

    def here(self) -> WorkerProcess:
        """Give this process's services."""
        process = self._processes.get(os.getpid())
        if process is not None:
            return process
        with self._lock:  # in the threads pool, several drains begin at once
            if os.getpid() not in self._processes:
                self._processes = {os.getpid(): self._make()}
            return self._processes[os.getpid()]

    @contextmanager
    def at_work(self) -> Iterator[WorkerProcess]:
        """Give this process's services while it answers a message.

        A pool child that is told to end meanwhile does so in order: it hands back what it holds, stops its attempt,
        and ends when that has ended. Celery's own handler would raise wherever it happens to be.
        """
        process = self.here()
        seat = process.seat
        if seat is None:
            yield process
            return
        before = signal.signal(signal.SIGTERM, lambda *_: seat.leave(time.monotonic()))
        was_busy, seat.is_busy = seat.is_busy, True
        try:
            yield process
        finally:
            seat.is_busy = was_busy
            signal.signal(signal.SIGTERM, before)
            if seat.leaving:
                signal.raise_signal(signal.SIGTERM)

    def warm_up(self, **_: Any) -> None:
        """Connect now, so that the first wake-up need not wait for it; and who starts the process need not either."""
        client = self.here().state.client

        def connect() -> None:
            try:
                client.ping()
            except FlowqError as error:
                logger.warning("the state store does not answer yet (%s)", error)

        threading.Thread(target=connect, name="flowq-warm-up", daemon=True).start()

    def _make(self) -> WorkerProcess:
        monitor = CeleryMonitor(self.app, self.hostname, lambda: self.board.events_on)
        place = current_process()
        is_pool_child = place.name != "MainProcess"
        seat = None
        if is_pool_child and self.board.parent == os.getppid():  # else it was not forked, and shares nothing
            seat = self.board.take(place.index, State.of(self.context).scripts.holder)
        process = WorkerProcess(self.context, self.hostname, monitor, self.board, seat)

        def give_up(lease: str, scope: Interruptible) -> None:
            kill = is_pool_child and scope.in_main_thread
            process.give_up(lease, next(iter(process.leases.drains), ("", "")) if kill else ("", ""))
            if kill:
                logger.error("the attempt %s ignores its timeout: its process %d is killed", lease, os.getpid())
                os.kill(os.getpid(), signal.SIGKILL)  # its parent starts another one

        process.leases.on_stuck = give_up
        return process
