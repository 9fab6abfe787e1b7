"""flowq's part of a Celery worker: what is done before its pool forks, when it is ready, while it runs, at its end."""

from __future__ import annotations

import gc
import logging
import os
import time
from typing import Any

from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool

from flowq.core.context import FlowContext
from flowq.core.errors import StateError, StoreUnavailableError
from flowq.runtime.beacon import Beacon
from flowq.runtime.board import Board
from flowq.runtime.canvas import node, tasks
from flowq.runtime.monitor import node_of
from flowq.runtime.prefork import flush_without_waiting, keep_partial_results, replace_at_once
from flowq.runtime.processes import Processes
from flowq.runtime.promise import check_store
from flowq.runtime.state import State
from flowq.runtime.supervising import stop_softly, supervisor_of
from flowq.runtime.supervisor import Supervisor

logger = logging.getLogger("flowq.worker")

REPLACE_S = 0.1
"""How often a pool is asked to replace a child that was found dead."""


class FlowqStep(bootsteps.StartStopStep):  # type: ignore[misc]
    """Includes the modules, gets its processes ready for the first wake-up, looks after them, and ends in order."""

    processes: Processes
    """Of a subclass: see ``step_of``."""

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        app, context = self.processes.app, self.processes.context
        self.processes.hostname = parent.hostname
        self.processes.board = Board()  # before the pool forks
        context.registry.include([*context.settings.include, "flowq.runtime.imported"])
        context.registry.warm_up()
        _await_store(context)
        tasks.register(app, context.registry.keys())
        tasks.register_imported(app)
        _freeze()
        self._beacon: Beacon | None = None
        self._supervisor: Supervisor | None = None
        self._replacing: Any = None
        self._connect("child", signals.worker_process_init, self.processes.warm_up)
        self._connect("unknown", signals.task_unknown, lambda message, **_: _on_unknown_task(self.processes, message))
        self._connect("closing", signals.worker_shutting_down, lambda **_: self.close(parent), parent.hostname)
        self._connect("ended", signals.worker_shutdown, lambda **_: self._ended(), parent)

    def _connect(self, name: str, to: Any, receiver: Any, sender: Any = None) -> None:
        to.connect(receiver, sender=sender, weak=False, dispatch_uid=f"flowq-{name}-{id(self)}")

    def start(self, parent: Any) -> None:
        self._connect("ready", signals.worker_ready, lambda **_: self._ready(parent))

    def _ready(self, parent: Any) -> None:
        def look() -> None:
            self.processes.board.events_on = _sends_task_events(parent.consumer)

        self.processes.warm_up()
        _freeze()  # for the children to come
        queues = [queue.name for queue in self.processes.app.amqp.queues.consume_from.values()]
        name = f"{parent.hostname}/{os.getpid()}"
        self._beacon = Beacon(self.processes.context, name, queues, lambda: _slots(parent), look)
        self._beacon.start()
        self._supervisor = supervisor_of(self.processes, parent.pool, self._beacon)
        self._supervisor.start()
        stop_softly(self.processes, parent)

    def register_with_event_loop(self, parent: Any, hub: Any) -> None:
        """Have dead children replaced, and what they held run elsewhere, at once."""

        def bury() -> None:
            if self._supervisor is not None:
                self._supervisor.look_soon()

        def replace() -> None:
            dead = self._supervisor.dead if self._supervisor is not None else set()
            if dead:
                parent.pool.maintain_pool()  # in vain while a thread of the dead process has still to end
                dead.intersection_update(parent.pool.info["processes"])

        if self._replacing is not None:
            self._replacing.cancel()  # of the loop before the broker's connection was lost
        if isinstance(parent.pool, TaskPool):
            self._replacing = hub.call_repeatedly(REPLACE_S, replace)
            keep_partial_results(parent.pool, hub)
            flush_without_waiting(parent.pool)
            replace_at_once(parent.pool, hub, bury)  # not before: a process that is forked meanwhile copies locks

    def close(self, parent: Any) -> None:
        """The worker was told to end. Called by a signal handler, or when Celery begins to stop."""
        self.processes.board.close(time.monotonic())

    def stop(self, parent: Any) -> None:
        if self._beacon is not None:
            self._beacon.stop()
            self._beacon = None

    terminate = stop

    def _ended(self) -> None:
        """Celery has stopped everything, its pool too."""
        if self._supervisor is not None:
            self._supervisor.stop()
            self._supervisor = None


def step_of(processes: Processes) -> type[FlowqStep]:
    """Give the step of one app: Celery makes one of it for each worker."""
    return type("FlowqStep", (FlowqStep,), {"__module__": __name__, "processes": processes})


def _on_unknown_task(processes: Processes, message: Any) -> None:
    """A node's task is not registered here: give the node back, so that another worker gets it."""
    try:
        run, key = node_of(message.headers["id"], message.payload)
    except (KeyError, TypeError, ValueError, IndexError):
        return  # none of flowq's
    logger.warning("this worker does not know %s, a node's task; it waits for one that does", message.headers["task"])
    try:
        node.give_back(processes.here(), run, key)
        processes.app.backend.forget(message.headers["id"])  # Celery has stored a failure
    except StateError as error:
        logger.warning("the node could not be given back (%s); the sweep will have its message sent again", error)


def _freeze() -> None:
    """Have Celery's collection of garbage before each fork pass over all that is here by now.

    It would take longer than the fork, and a child that collects would copy every page of it.
    """
    gc.collect()
    gc.freeze()


def _await_store(context: FlowContext) -> None:
    """Wait until the state store answers, as Celery waits for the broker; UnsafeStoreError if it may lose runs."""
    while True:
        try:
            check_store(State.of(context).client, context.settings)
            return
        except StoreUnavailableError as error:  # it was tried for ten seconds
            logger.warning("the worker does not start yet: %s", error)


def _sends_task_events(consumer: Any) -> bool:
    """Tell whether anybody listens to this worker's tasks: -E says so at the start, Flower at any time later."""
    dispatcher = consumer.event_dispatcher
    return dispatcher is not None and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)


def _slots(worker: Any) -> int:
    """Tell how many drains a worker can run: with --autoscale as many as it may grow to, since it grows on demand."""
    return max(worker.pool.num_processes or 1, worker.max_concurrency or 0)
