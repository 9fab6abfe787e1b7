"""flowq in Celery: an app for flowq alone, or flowq added to a team's own."""

from __future__ import annotations

import logging
from typing import Any

from celery import Celery

from flowq.core.context import FlowContext
from flowq.runtime import transport
from flowq.runtime.canvas import node, tasks, whole
from flowq.runtime.drain import Drain
from flowq.runtime.processes import Processes
from flowq.runtime.step import step_of
from flowq.runtime.wakeups import DRAIN

logger = logging.getLogger("flowq.worker")


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
    processes = Processes(app, context)

    def answer(task: Any, run: str, key: str, alone: bool) -> None:
        with processes.at_work() as process:
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
        with processes.at_work() as process:
            Drain(process, queue, token, process.closing).run()

    options = {"ignore_result": True, "acks_late": True, "send_events": False, "time_limit": None}
    app.task(name=DRAIN, bind=True, shared=False, **options)(drain)

    app.steps["worker"].add(step_of(processes))


def _celery_url(url: str) -> str:
    """Give a Redis address as Celery writes it."""
    if url.startswith("rediss://") and "ssl_cert_reqs=" not in url:  # Celery has no default for it; redis-py has this
        return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=CERT_REQUIRED"
    if not url.startswith("unix://"):
        return url
    return "redis+socket://" + url.removeprefix("unix://").replace("db=", "virtual_host=")
