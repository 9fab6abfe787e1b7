"""flowq in Celery: the drain task, and what a Celery worker does for the fleet beside it."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billiard import current_process
from celery import Celery, bootsteps, signals
from celery.concurrency.prefork import TaskPool
from celery.worker import state as celery_state

from flowq.core.context import FlowContext
from flowq.core.errors import FlowqError, StateError, StoreUnavailableError
from flowq.execution import Interruptible
from flowq.runtime import transport
from flowq.runtime.beacon import Beacon
from flowq.runtime.board import Board
from flowq.runtime.canvas import node, tasks, whole
from flowq.runtime.drain import Drain
from flowq.runtime.monitor import CeleryMonitor, node_of
from flowq.runtime.prefork import keep_partial_results
from flowq.runtime.promise import check_store
from flowq.runtime.state import State
from flowq.runtime.supervisor import Supervisor
from flowq.runtime.wakeups import DRAIN
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")

REPLACE_S = 0.1
"""How often a pool is asked to replace a child that was found dead."""


def make_app(context: FlowContext) -> Celery:
    """Make a Celery app for flowq alone, with the settings that it runs best and safest with."""
    settings = context.settings
    chosen = transport.celery_conf(settings.broker_url) if settings.transport == "flowq" else {}
    app = Celery("flowq", broker=chosen.pop("broker_url", settings.broker_url), set_as_current=False)
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
        **chosen,
    )
    attach(app, context)
    return app


def attach(app: Celery, context: FlowContext) -> None:
    """Add flowq to a Celery app: its tasks and one step of its workers. The app's configuration is left alone."""
    drains = Drains(app, context)

    def answer(task: Any, run: str, key: str, alone: bool) -> None:
        with drains.at_work() as process:
            node.answer(process, task, run, key, alone, process.closing)

    tasks.answer_with(app, answer)
    whole.register(app, context)

    # Late acknowledgement, not for safety (a lost wake-up costs time only): with an early one a busy worker fetches one
    # more message, and sits on it while others are idle.
    # No events: Flower shows the nodes, not the wake-ups. Not shared: Celery would give it to every other app of this
    # process too, with this app's context.
    def drain(task: Any, queue: Any, token: Any) -> None:
        served = {served.name for served in app.amqp.queues.consume_from.values()}
        came_by = (task.request.delivery_info or {}).get("routing_key")  # one that was added when this child was there
        if not isinstance(token, str) or not isinstance(queue, str) or queue not in served | {came_by}:
            logger.warning("a wake-up for %.100r is ignored: this worker does not serve that queue", queue)
            return
        with drains.at_work() as process:
            Drain(process, queue, token, process.closing).run()

    options = {"ignore_result": True, "acks_late": True, "send_events": False, "time_limit": None}
    app.task(name=DRAIN, bind=True, shared=False, **options)(drain)

    class FlowqStep(bootsteps.StartStopStep):  # type: ignore[misc]
        """Includes the modules, gets its processes ready for the first wake-up, looks after them, and ends in order."""

        def __init__(self, parent: Any, **kwargs: Any) -> None:
            super().__init__(parent, **kwargs)
            drains.hostname = parent.hostname
            drains.board = Board()  # before the pool forks
            context.registry.include([*context.settings.include, "flowq.runtime.imported"])
            context.registry.warm_up()
            _await_store(context)
            tasks.register(app, context.registry.keys())
            tasks.register_imported(app)
            # Celery collects garbage before each fork: with all that is here by now, that takes longer than the fork.
            gc.collect()
            gc.freeze()
            self._beacon: Beacon | None = None
            self._supervisor: Supervisor | None = None
            self._replacing: Any = None
            self._connect("child", signals.worker_process_init, drains.warm_up)
            self._connect("unknown", signals.task_unknown, lambda message, **_: _on_unknown_task(drains, message))
            self._connect("closing", signals.worker_shutting_down, lambda **_: self.close(parent), parent.hostname)
            self._connect("ended", signals.worker_shutdown, lambda **_: self._ended(), parent)

        def _connect(self, name: str, to: Any, receiver: Any, sender: Any = None) -> None:
            to.connect(receiver, sender=sender, weak=False, dispatch_uid=f"flowq-{name}-{id(self)}")

        def start(self, parent: Any) -> None:
            self._connect("ready", signals.worker_ready, lambda **_: self._ready(parent))

        def _ready(self, parent: Any) -> None:
            def look() -> None:
                drains.board.events_on = _sends_task_events(parent.consumer)

            drains.warm_up()
            queues = [queue.name for queue in app.amqp.queues.consume_from.values()]
            name = f"{parent.hostname}/{os.getpid()}"
            self._beacon = Beacon(context, name, queues, parent.pool.num_processes or 1, look)
            self._beacon.start()
            self._supervisor = _supervisor(drains, parent.pool, self._beacon)
            self._supervisor.start()
            _stop_softly(drains, parent)

        def register_with_event_loop(self, parent: Any, hub: Any) -> None:
            """Have dead children replaced at once: Celery may miss a death, and then looks every five seconds only."""

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

        def close(self, parent: Any) -> None:
            """The worker was told to end. Called by a signal handler, or when Celery begins to stop."""
            drains.board.close(time.monotonic())

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

    app.steps["worker"].add(FlowqStep)


def _supervisor(drains: Drains, pool: Any, beacon: Beacon) -> Supervisor:
    process = drains.process()
    has_children = isinstance(pool, TaskPool)

    def exit_at_once() -> None:
        if not has_children and process.leases.is_busy and not _others_at_work():
            logger.warning("an attempt that was handed back does not end, so this process does")
            logging.shutdown()
            os._exit(0)

    return Supervisor(
        drains.board,
        lambda: pool.num_processes if has_children else 0,
        process.state.scripts,
        process.send,
        process.give_up,
        beacon.leave,
        exit_at_once,
        renew_s=process.settings.renew_s,
        grace_s=process.settings.grace_s,
    )


def _others_at_work() -> bool:
    """Tell whether tasks are at work here that are none of flowq's."""
    return any(
        request.name != DRAIN and not isinstance(request.task, tasks.NodeTask)
        for request in celery_state.active_requests
    )


def _stop_softly(drains: Drains, worker: Any) -> None:
    """Hand back what runs when Celery cancels its tasks at a cold shutdown (SIGQUIT, Ctrl-C again).

    Where there are no children, Celery would raise in the middle of the attempts, which were then recorded as failed.
    """
    consumer = worker.consumer
    cancel = consumer.cancel_active_requests

    def cancel_active_requests() -> None:
        drains.board.close(time.monotonic())
        drains.board.end()
        if isinstance(worker.pool, TaskPool) or _others_at_work():
            cancel()

    consumer.cancel_active_requests = cancel_active_requests


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
    except StateError as error:
        logger.warning("the node could not be given back (%s); the sweep will have its message sent again", error)


def _await_store(context: FlowContext) -> None:
    """Wait until the state store answers, as Celery waits for the broker; UnsafeStoreError if it may lose runs."""
    while True:
        try:
            check_store(State.of(context).client, context.settings)
            return
        except StoreUnavailableError as error:  # it was tried for ten seconds
            logger.warning("the worker does not start yet: %s", error)


class Drains:
    """Gives the drains of each process of a worker what they need: one WorkerProcess, made after the fork."""

    def __init__(self, app: Celery, context: FlowContext) -> None:
        self.app, self._context = app, context
        self.hostname = "worker"
        self.board = Board(0)
        """What the processes of a worker share."""
        self._processes: dict[int, WorkerProcess] = {}
        self._lock = threading.Lock()

    def process(self) -> WorkerProcess:
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
        process = self.process()
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
        client = self.process().state.client

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
            seat = self.board.take(place.index, State.of(self._context).scripts.holder)
        process = WorkerProcess(self._context, self.hostname, monitor, self.board, seat)

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
