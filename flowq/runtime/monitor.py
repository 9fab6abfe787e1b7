"""Shows every node as a task in Celery's events, and so in Flower, though no node has a message of its own."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from flowq.runtime.attempt import Outcome
from flowq.runtime.remote import RemoteAttempt

logger = logging.getLogger("flowq.worker")


class Monitor(Protocol):
    """Is told of every attempt."""

    def started(self, attempt: RemoteAttempt) -> None: ...
    def ended(self, attempt: RemoteAttempt, outcome: Outcome) -> None: ...


class NoMonitor:
    """Tells nobody."""

    def started(self, attempt: RemoteAttempt) -> None:
        pass

    def ended(self, attempt: RemoteAttempt, outcome: Outcome) -> None:
        pass


def task_id(run: str, key: str) -> str:
    """Give the id under which a node is a task: the same in all its attempts."""
    return f"{run}.{key}"


def resent_id(run: str, key: str) -> str:
    """Give the id of a node's message that is sent outside of its segment.

    A new one each time: when a chord's header fails, Celery revokes the tasks of its body by their ids, in all workers.
    """
    return f"{task_id(run, key)}.{os.urandom(4).hex()}"


def node_of(uuid: str, payload: Any) -> tuple[str, str]:
    """Give run and key of the message of a node's task; ValueError (or what reading it raises) if it is none."""
    (run, key, *_), *_ = payload
    if uuid != task_id(run, key) and not uuid.startswith(f"{task_id(run, key)}."):
        raise ValueError(uuid)
    return run, key


class CeleryMonitor:
    """Sends task-received, -started, -succeeded, -failed and -retried for nodes, while events are on."""

    def __init__(self, app: Any, hostname: str, is_on: Callable[[], bool]) -> None:
        self._app = app
        self._hostname = hostname
        self._is_on = is_on
        self._dispatcher: Any = None
        self._lock = threading.Lock()
        self._began: dict[str, float] = {}

    def started(self, attempt: RemoteAttempt) -> None:
        if not self._is_on():
            return
        claim, node = attempt.claim, attempt.node
        uuid = task_id(claim.run, claim.key)
        parent = f"{claim.run}.{node.edges[0].upstream}" if node.edges else None
        self._began[uuid] = time.monotonic()
        self._send(
            "task-received",
            uuid=uuid,
            name=attempt.info.node,
            args="()",
            kwargs="{}",
            root_id=claim.run,
            parent_id=parent,
            retries=claim.attempt - 1,
            eta=None,
            expires=None,
        )
        self._send("task-started", uuid=uuid)

    def ended(self, attempt: RemoteAttempt, outcome: Outcome) -> None:
        if not self._began:
            return
        uuid = task_id(attempt.claim.run, attempt.claim.key)
        began = self._began.pop(uuid, None)
        if began is None:
            return
        failure = outcome.failure
        if failure is None:
            text = "skipped" if outcome.value is None else f"{len(outcome.value)} bytes"
            self._send("task-succeeded", uuid=uuid, result=text, runtime=time.monotonic() - began)
        elif outcome.retry and attempt.claim.attempt - attempt.claim.crashes < attempt.node.retry.max_attempts:
            self._send(
                "task-retried", uuid=uuid, exception=f"{failure.type}: {failure.message}", traceback=failure.traceback
            )
        else:
            self._send(
                "task-failed", uuid=uuid, exception=f"{failure.type}: {failure.message}", traceback=failure.traceback
            )

    def _send(self, kind: str, **fields: Any) -> None:
        try:
            with self._lock:
                if self._dispatcher is None:
                    connection = self._app.connection_for_write()
                    self._dispatcher = self._app.events.Dispatcher(connection, hostname=self._hostname)
                self._dispatcher.send(kind, **fields)
        except Exception:
            logger.exception("an event could not be sent; the work goes on without")
