"""Wake-ups: small Celery messages that say "this queue may have ready nodes". Hints, never the truth.

Celery writes one message for each queue: routes, exchange, headers, whatever the app's configuration asks for. Those
that follow are copies of it with a name, a token and a time of their own: ``send_task`` costs a producer more than all
the rest of a submit.
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from celery import Celery, signals
from kombu.serialization import dumps

from flowq.runtime.replies import WakeUp

DRAIN = "flowq.drain"
"""The Celery task that answers a wake-up."""

EXPIRES_S = 60
"""A wake-up that lay in the broker for so long is dropped: the sweep has sent others since. Not shorter, because the
clocks of producers and workers may differ."""

_serialised: Any = dumps  # kombu has next to no types
_SIGNALS = (signals.before_task_publish, signals.after_task_publish, signals.task_sent)
_TOKEN = "{token}"
"""Stands for the token in a body that is written once: no queue is called so."""


class _Form(NamedTuple):
    """A wake-up of one queue, as Celery would send it."""

    body: str
    headers: dict[str, Any]
    options: dict[str, Any]
    """What kombu is told besides: where to, and in which way."""
    declared: frozenset[int]
    """What a connection remembers of having declared the queue; empty: it is to be declared each time."""


_forms: WeakKeyDictionary[Any, dict[str, _Form | None]] = WeakKeyDictionary()
"""By the part of an app that knows its queues and routes, and by queue; None: ``send_task`` is to send them."""


def publish(app: Any, wake: WakeUp) -> None:
    """Publish a wake-up; raises what Celery raises if the broker does not take it."""
    form = None if _is_watched(app) else _form(app, wake.queue)
    if form is None:
        _send(app, wake)
        return
    name = os.urandom(6).hex()
    expires = (datetime.now(UTC) + timedelta(seconds=EXPIRES_S)).isoformat()
    headers = {**form.headers, "id": name, "root_id": name, "expires": expires}
    body = form.body.replace(_TOKEN, json.dumps(wake.token)[1:-1])
    with app.producer_or_acquire() as producer:
        options = form.options
        if form.declared and form.declared <= producer.channel.connection.client.declared_entities:
            options = {**options, "declare": None}  # kombu would find out the same by binding it anew
        producer.publish(body, headers=headers, correlation_id=name, **options)


def _is_watched(app: Any) -> bool:
    """Tell whether somebody wants to see, or to change, every message that the app sends."""
    own = "send_task" in vars(app) or app.__class__.send_task is not Celery.send_task  # it may be a proxy
    return own or any(signal.receivers for signal in _SIGNALS)


def _is_told_otherwise(app: Any) -> bool:
    """Tell whether an app speaks Celery's old protocol, or tells of all that it sends."""
    return bool(app.conf.task_protocol != 2 or app.conf.task_send_sent_event)


def _form(app: Any, queue: str) -> _Form | None:
    forms = _forms.setdefault(app.amqp, {})
    if queue not in forms:
        forms[queue] = None if _is_told_otherwise(app) else _write(app, queue)
    return forms[queue]


def _write(app: Any, queue: str) -> _Form:
    """Have Celery write a wake-up, and keep it instead of sending it."""
    written: list[tuple[Any, dict[str, Any]]] = []
    producer = SimpleNamespace(
        publish=lambda body, **options: written.append((body, options)),
        connection=SimpleNamespace(_reraise_as_library_errors=nullcontext),
    )
    # With a parent's name, Celery does not look for the task that this process is at, and takes nothing over from it.
    _send(app, WakeUp(queue, _TOKEN), producer=producer, root_id=_TOKEN, parent_id=_TOKEN)
    ((body, options),) = written
    content_type, encoding, text = _serialised(body, serializer=options.pop("serializer"))
    headers = options.pop("headers") | {"parent_id": None}
    for name in ("correlation_id", "retry_policy"):
        options.pop(name, None)
    declare = options["declare"] or ()
    declared = frozenset(map(hash, declare)) if all(one.can_cache_declaration for one in declare) else frozenset()
    return _Form(text, headers, options | {"content_type": content_type, "content_encoding": encoding}, declared)


def _send(app: Any, wake: WakeUp, **more: Any) -> None:
    app.send_task(
        DRAIN,
        args=(wake.queue, wake.token),
        queue=wake.queue,
        serializer="json",
        expires=EXPIRES_S,
        ignore_result=True,
        retry=False,
        # Short ones in the place of what Celery would fill in: it names the task three times.
        task_id=os.urandom(6).hex(),
        reply_to="none",
        argsrepr="",
        add_to_parent=False,
        **more,
    )
