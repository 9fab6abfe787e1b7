"""A worker without Celery's: the real worker process and the real drains, in threads of this process.

Messages go straight from whoever sends them to whoever takes them, through a queue in memory. So a run takes
milliseconds, and all that stands between it and Redis is what a test has put there.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace, TracebackType
from typing import Any, Self, TypeAlias
from unittest.mock import patch

from celery.exceptions import Ignore, Retry

from flowq import FlowContext, Settings
from flowq.runtime.canvas import deliveries, node
from flowq.runtime.drain import Drain
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.tests")

QUICK: dict[str, Any] = {"lease_s": 2.0, "renew_s": 0.4, "sweep_s": 0.1, "allow_unsafe_store": True}
"""Claims that nobody knows of come back soon; servers of tests need no files."""


class Fleet:
    """One worker process with some slots. A context manager.

    Args:
        redis_url: the state's Redis, or a proxy before it.
        slots: how many messages it works on at once.
        settings: further settings.
    """

    def __init__(self, redis_url: str, *, slots: int = 3, settings: dict[str, Any] | None = None) -> None:
        given = {"broker_url": "memory://", "state_url": redis_url, **QUICK, **(settings or {})}
        self.context = FlowContext(Settings(**given))
        self.slots = slots
        self.failures: list[BaseException] = []
        """What ended a message's work; the rest of it is for the sweep."""
        self._messages: queue.Queue[Any] = queue.Queue()
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        app: Any = self.context.celery_app
        app.send_task = lambda _name, args, **_options: self._messages.put(tuple(args))
        self._undo.enter_context(taking_canvases(self._messages))
        self.worker = WorkerProcess(self.context, "fleet@here")
        self._threads = [threading.Thread(target=self._slot, name=f"slot-{i}", daemon=True) for i in range(self.slots)]
        self._threads.append(threading.Thread(target=self._look_after, name="beacon", daemon=True))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(20)
        self._undo.close()
        self.context.close()

    def _slot(self) -> None:
        while not self._stopped.is_set():
            try:
                message = self._messages.get(timeout=0.05)
            except queue.Empty:
                continue
            try:
                answer(self.worker, message)
            except Exception as error:
                logger.exception("a message could not be answered")
                self.failures.append(error)

    def _look_after(self) -> None:
        """Do what a worker does for the fleet."""
        scripts, settings = self.worker.state.scripts, self.worker.settings
        while not self._stopped.wait(settings.sweep_s):
            try:
                self.worker.send(scripts.register(worker=self.worker.name, queues=[settings.queue], slots=self.slots))
                self.worker.send(scripts.sweep(worker=self.worker.name, every_ms=0).messages)
            except Exception as error:
                logger.exception("the sweep failed")
                self.failures.append(error)


@contextlib.contextmanager
def taking_canvases(messages: Any) -> Iterator[None]:
    """Put the canvases that are published meanwhile to the other messages (``put`` is all that is asked of them)."""
    with patch.object(deliveries, "_publish", lambda _app, signature: messages.put(signature)):
        yield


Wait: TypeAlias = Callable[[float], object]
"""Lets so many seconds pass."""


def answer(worker: WorkerProcess, message: Any, wait: Wait = time.sleep) -> None:
    """Do what a message asks for: a wake-up (queue and token), or a canvas."""
    if isinstance(message, tuple):
        Drain(worker, *message).run()
    else:
        play(worker, message, wait)


def play(worker: WorkerProcess, signature: Any, wait: Wait) -> bool:
    """Play a canvas as Celery would; False: it has ended before its end."""
    match signature.task:
        case "celery.chain":
            return all(play(worker, part, wait) for part in signature.tasks)
        case "celery.group":
            parts = [play(worker, part, wait) for part in signature.tasks]
            return all(parts)
        case "celery.chord":
            header = [play(worker, part, wait) for part in _header(signature)]
            return all(header) and play(worker, signature.body, wait)
        case "flowq.join":
            return True
        case _:
            run, key, *alone = signature.args
            return NodeCall(worker, run, key, alone=bool(alone)).play(wait)


def _header(chord: Any) -> Sequence[Any]:
    tasks = chord.tasks
    return tasks if isinstance(tasks, (list, tuple)) else tasks.tasks


class NodeCall:
    """Stands for Celery's task of a node."""

    def __init__(self, worker: WorkerProcess, run: str, key: str, *, alone: bool) -> None:
        self._worker, self._run, self._key, self._alone = worker, run, key, alone
        self.request = SimpleNamespace(id="", retries=0, chain=None, chord=None, callbacks=(), errbacks=None)
        nothing = SimpleNamespace(store_result=_ignore, mark_as_revoked=_ignore)
        self.backend, self.send_event = nothing, _ignore

    def play(self, wait: Wait) -> bool:
        """Answer for the node until it need not be tried again; False: what stands after it is not to come."""
        while True:
            try:
                node.answer(self._worker, self, self._run, self._key, self._alone)
            except Retry as again:
                wait(float(again.when))
                self.request.retries += 1
                continue
            except Ignore:
                return False
            except Exception as error:
                logger.info("the node %s of %s failed: %r", self._key, self._run, error)
                return False
            return self.request.callbacks is not None  # else it was cut off

    def retry(self, exc: BaseException | None = None, countdown: float = 0) -> Retry:
        """Give what a task raises that is to be tried again."""
        return Retry(exc=exc, when=countdown)


def _ignore(*_: Any, **__: Any) -> None:
    """Do nothing."""
