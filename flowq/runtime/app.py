"""flowq in Celery: the drain task, and what a Celery worker does for the fleet beside it."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
from typing import Any

from billiard import current_process
from celery import Celery, bootsteps, signals
from redis import RedisError

from flowq.core.context import FlowContext
from flowq.execution import Interruptible
from flowq.runtime.beacon import Beacon
from flowq.runtime.canvas import node, tasks, whole
from flowq.runtime.drain import Drain
from flowq.runtime.monitor import CeleryMonitor, node_of
from flowq.runtime.wakeups import DRAIN
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
        # RabbitMQ closes a channel with a delivery that was not acknowledged for long: the worker opens another one.
        broker_channel_error_retry=True,
        # A broker that is away must not hold whoever sends a wake-up: the sweep sends them again.
        broker_transport_options={"max_retries": 0},
        worker_cancel_long_running_tasks_on_connection_loss=False,  # it loses running tasks
        worker_send_task_events=False,
        # Chords count there, and a flow's result as a task's lies there.
        result_backend=_celery_url(settings.redis_url),
        result_backend_transport_options={"global_keyprefix": f"{settings.prefix}:celery:"},
        result_expires=settings.retention_s,
    )
    attach(app, context)
    return app


def attach(app: Celery, context: FlowContext) -> None:
    """Add flowq to a Celery app: its tasks and one step of its workers. The app's configuration is left alone."""
    drains = Drains(app, context)
    tasks.answer_with(app, lambda task, run, key, alone: node.answer(drains.process(), task, run, key, alone))
    whole.register(app, context)

    # Late acknowledgement, not for safety (a lost wake-up costs time only): with an early one a busy worker fetches one
    # more message, and sits on it while others are idle.
    # No events: Flower shows the nodes, not the wake-ups. Not shared: Celery would give it to every other app of this
    # process too, with this app's context.
    def drain(queue: str, token: str) -> None:
        Drain(drains.process(), queue, token).run()

    app.task(name=DRAIN, shared=False, ignore_result=True, acks_late=True, send_events=False, time_limit=None)(drain)

    class FlowqStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Includes the modules, gets its processes ready for the first wake-up, and says that this worker is there."""

        def __init__(self, parent: Any, **kwargs: Any) -> None:
            super().__init__(parent, **kwargs)
            drains.hostname = parent.hostname
            context.registry.include([*context.settings.include, "flowq.runtime.imported"])  # before the pool forks
            context.registry.warm_up()
            tasks.register(app, context.registry.keys())
            tasks.register_imported(app)
            signals.worker_process_init.connect(drains.warm_up, weak=False, dispatch_uid=f"flowq-child-{id(self)}")
            signals.task_unknown.connect(
                lambda message, **_: _on_unknown_task(drains, message),
                weak=False,
                dispatch_uid=f"flowq-unknown-{id(self)}",
            )
            self._beacon: Beacon | None = None

        def start(self, parent: Any) -> None:
            signals.worker_ready.connect(lambda **_: self._ready(parent), weak=False, dispatch_uid=f"flowq-{id(self)}")

        def _ready(self, parent: Any) -> None:
            def look() -> None:
                drains.events_on[0] = int(_sends_task_events(parent.consumer))

            drains.warm_up()
            queues = [queue.name for queue in app.amqp.queues.consume_from.values()]
            name = f"{parent.hostname}/{os.getpid()}"
            self._beacon = Beacon(context, name, queues, parent.pool.num_processes or 1, look)
            self._beacon.start()

        def stop(self, parent: Any) -> None:
            if self._beacon is not None:
                self._beacon.stop()
                self._beacon = None

        terminate = stop

    app.steps["worker"].add(FlowqStep)


def _on_unknown_task(drains: Drains, message: Any) -> None:
    """A node's task is not registered here: give the node back, so that another worker gets it."""
    try:
        run, key = node_of(message.headers["id"], message.payload)
    except (KeyError, TypeError, ValueError, IndexError):
        return  # none of flowq's
    logger.warning("this worker does not know %s, a node's task; it waits for one that does", message.headers["task"])
    try:
        node.give_back(drains.process(), run, key)
        drains.app.backend.forget(message.headers["id"])  # Celery has stored a failure
    except RedisError as error:
        logger.warning("the node could not be given back (%s); the sweep will have its message sent again", error)


class Drains:
    """Gives the drains of each process of a worker what they need: one WorkerProcess, made after the fork."""

    def __init__(self, app: Celery, context: FlowContext) -> None:
        self.app, self._context = app, context
        self.hostname = "worker"
        self.events_on = mmap.mmap(-1, 1)
        """Whether anybody listens to events: one byte of memory that the parent shares with its forked children."""
        self._processes: dict[int, WorkerProcess] = {}
        self._lock = threading.Lock()

    def process(self) -> WorkerProcess:
        """Give this process's services."""
        with self._lock:  # in the threads pool, several drains begin at once
            if os.getpid() not in self._processes:
                self._processes = {os.getpid(): self._make()}
            return self._processes[os.getpid()]

    def warm_up(self, **_: Any) -> None:
        """Connect now, so that the first wake-up need not wait for it."""
        try:
            self.process().state.client.ping()
        except RedisError as error:
            logger.warning("the state store does not answer yet (%s)", error)

    def _make(self) -> WorkerProcess:
        monitor = CeleryMonitor(self.app, self.hostname, lambda: bool(self.events_on[0]))
        process = WorkerProcess(self._context, self.hostname, monitor)
        is_pool_child = current_process().name != "MainProcess"

        def give_up(lease: str, scope: Interruptible) -> None:
            kill = is_pool_child and scope.in_main_thread
            process.give_up(lease, next(iter(process.leases.drains), ("", "")) if kill else ("", ""))
            if kill:
                logger.error("the attempt %s ignores its timeout: its process %d is killed", lease, os.getpid())
                os.kill(os.getpid(), signal.SIGKILL)  # its parent starts another one

        process.leases.on_stuck = give_up
        return process


def _celery_url(url: str) -> str:
    """Give a Redis address as Celery writes it."""
    if not url.startswith("unix://"):
        return url
    return "redis+socket://" + url.removeprefix("unix://").replace("db=", "virtual_host=")


def _sends_task_events(consumer: Any) -> bool:
    """Tell whether anybody listens to this worker's tasks: -E says so at the start, Flower at any time later."""
    dispatcher = consumer.event_dispatcher
    return dispatcher is not None and dispatcher.enabled and (not dispatcher.groups or "task" in dispatcher.groups)
