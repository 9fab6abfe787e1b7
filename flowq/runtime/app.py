"""flowq in Celery: the drain task, and what a Celery worker does for the fleet beside it."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from billiard import current_process
from celery import Celery, bootsteps, signals

from flowq.core.context import FlowContext
from flowq.execution import Interruptible
from flowq.runtime.drain import Drain
from flowq.runtime.monitor import CeleryMonitor
from flowq.runtime.state import State
from flowq.runtime.wakeups import DRAIN, send
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")


def make_app(context: FlowContext) -> Celery:
    """Make a Celery app for flowq alone, with the settings that it runs best and safest with."""
    settings = context.settings
    app = Celery("flowq", broker=settings.broker_url, set_as_current=False)
    app.conf.update(
        task_default_queue=settings.queue,
        worker_prefetch_multiplier=1,  # a wake-up that waits behind a busy slot is of no use to an idle one
        broker_connection_retry_on_startup=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # it loses running tasks
        worker_send_task_events=False,
        task_ignore_result=True,
    )
    attach(app, context)
    return app


def attach(app: Celery, context: FlowContext) -> None:
    """Add flowq to a Celery app: one task and one step of its workers. The app's configuration is left alone."""
    events_on = mmap.mmap(-1, 1)  # one byte of memory that the parent shares with its forked children
    processes: dict[int, WorkerProcess] = {}
    lock = threading.Lock()

    def drain(task: Any, queue: str, token: str) -> None:
        with lock:  # in the threads pool, several drains begin at once
            process = processes.get(os.getpid())
            if process is None:
                process = processes[os.getpid()] = _process(app, context, task.request.hostname or "worker", events_on)
        Drain(process, queue, token).run()

    # Early acknowledgement: a lost wake-up costs time only, and a late one would cost every message two round trips.
    # No events: Flower shows the nodes, not the wake-ups.
    app.task(name=DRAIN, bind=True, ignore_result=True, acks_late=False, send_events=False, time_limit=None)(drain)

    class FlowqStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Includes the modules, says that this worker is there, and sweeps."""

        def __init__(self, parent: Any, **kwargs: Any) -> None:
            super().__init__(parent, **kwargs)
            context.registry.include(context.settings.include)  # before the pool forks
            self._beacon: Beacon | None = None

        def start(self, parent: Any) -> None:
            signals.worker_ready.connect(lambda **_: self._ready(parent), weak=False, dispatch_uid=f"flowq-{id(self)}")

        def _ready(self, parent: Any) -> None:
            def look() -> None:
                events_on[0] = int(_sends_task_events(parent.consumer))

            queues = [queue.name for queue in app.amqp.queues.consume_from.values()]
            name = f"{parent.hostname}/{os.getpid()}"
            self._beacon = Beacon(context, name, queues, parent.concurrency or 1, look)
            self._beacon.start()

        def stop(self, parent: Any) -> None:
            if self._beacon is not None:
                self._beacon.stop()
                self._beacon = None

        terminate = stop

    app.steps["worker"].add(FlowqStep)


class Beacon(threading.Thread):
    """Says every few seconds that this worker is there, and takes its turn at the fleet's sweep."""

    def __init__(
        self, context: FlowContext, worker: str, queues: list[str], slots: int, look: Callable[[], None]
    ) -> None:
        super().__init__(name="flowq-beacon", daemon=True)
        self._context = context
        self._scripts = State.of(context).scripts
        self._worker, self._queues, self._slots = worker, queues, slots
        self._look = look
        """Told on every turn to see what else has changed."""
        self._stopped = threading.Event()

    def run(self) -> None:
        settings = self._context.settings
        pause = 0.0
        while not self._stopped.wait(pause):
            pause = settings.sweep_s
            try:
                self._look()
                send(self._context, self._scripts.register(worker=self._worker, queues=self._queues, slots=self._slots))
                # A little under the period, so that a fleet of one does not find its own lock still there.
                swept = self._scripts.sweep(worker=self._worker, every_ms=int(settings.sweep_s * 900))
                send(self._context, swept.wakes)
                if swept.next_due_ms >= 0:
                    pause = min(pause, max(0.05, swept.next_due_ms / 1000))
            except Exception:
                logger.exception("the sweep failed; it is tried again in %s s", pause)

    def stop(self) -> None:
        """Say that the worker leaves."""
        self._stopped.set()
        self.join(timeout=5)
        try:
            self._scripts.register(worker=self._worker, queues=self._queues, slots=0)
        except Exception as error:
            logger.warning("could not say goodbye (%s); the fleet will notice", error)


def _process(app: Celery, context: FlowContext, hostname: str, events_on: mmap.mmap) -> WorkerProcess:
    monitor = CeleryMonitor(app, hostname, lambda: bool(events_on[0]))
    process = WorkerProcess(context, hostname, monitor)
    is_pool_child = current_process().name != "MainProcess"

    def give_up(lease: str, scope: Interruptible) -> None:
        kill = is_pool_child and scope.in_main_thread
        process.give_up(lease, process.leases.drains[0] if kill else ("", ""))
        if kill:
            logger.error("the attempt %s ignores its timeout: its process %d is killed", lease, os.getpid())
            os.kill(os.getpid(), signal.SIGKILL)  # its parent starts another one

    process.leases.on_stuck = give_up
    return process


def _sends_task_events(consumer: Any) -> bool:
    """Tell whether anybody listens to this worker's tasks: -E says so at the start, Flower at any time later."""
    dispatcher = consumer.event_dispatcher
    return dispatcher is not None and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)
