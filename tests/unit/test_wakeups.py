"""Wake-ups as they are published: what Celery's ``send_task`` would send, and by it where somebody looks on."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

import pytest
from celery import Celery, signals
from celery.local import Proxy
from kombu.entity import Queue

from flowq.runtime import wakeups
from flowq.runtime.replies import WakeUp

OWN = {"id", "root_id", "expires", "correlation_id", "delivery_tag"}
"""What is another thing in each message."""


def app_of(**conf: Any) -> Celery:
    app = Celery("wakeups", broker="memory://", set_as_current=False)
    app.conf.update(task_default_queue="main", **conf)
    return app


def published(app: Celery, queue: str = "main") -> list[Any]:
    """Take all messages of a queue."""
    found = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        consumer = Queue(queue)(channel)
        consumer.declare()
        while (message := consumer.get(no_ack=True)) is not None:
            found.append(message)
    return found


def parts(message: Any) -> dict[str, Any]:
    named = {**message.headers, **message.properties}
    named |= {"body": message.payload, "type": message.content_type, "encoding": message.content_encoding}
    return {name: value for name, value in named.items() if name not in OWN}


@pytest.fixture(autouse=True)
def _empty_queues():
    yield
    for queue in ("main", "side"):
        published(app_of(), queue)


@pytest.mark.parametrize(
    "conf",
    [
        {},
        {"task_routes": {"flowq.*": {"priority": 7}}},
        {"task_compression": "gzip"},
        {"task_default_delivery_mode": 1},
        {"task_queues": [Queue("main", routing_key="other"), Queue("side")]},
        {"timezone": "Asia/Tokyo", "enable_utc": False},
    ],
)
def test_it_is_what_celery_would_send(conf):
    app, wake = app_of(**conf), WakeUp("main", 'a.1.2-"main"-ü')
    wakeups._send(app, wake)
    for _ in range(2):
        wakeups.publish(app, wake)
    theirs, first, second = published(app)
    assert first.payload[:2] == [["main", wake.token], {}]
    assert parts(first) == parts(second) == parts(theirs)
    assert first.headers["id"] == first.headers["root_id"] == first.properties["correlation_id"]
    assert first.headers["id"] != second.headers["id"]
    left_s = datetime.fromisoformat(first.headers["expires"]).timestamp() - time.time()
    assert wakeups.EXPIRES_S - 30 < left_s <= wakeups.EXPIRES_S


def test_each_goes_to_its_own_queue():
    app = app_of()
    for queue in ("side", "main", "side"):
        wakeups.publish(app, WakeUp(queue, f"for {queue}"))
    assert [message.payload[0] for message in published(app, "side")] == [["side", "for side"]] * 2
    assert [message.payload[0] for message in published(app, "main")] == [["main", "for main"]]


def test_a_task_that_sends_one_leaves_no_trace_in_it(monkeypatch):
    """Celery would hand on whose child it is, and with which priority that came."""
    app = app_of(task_inherit_parent_priority=True)

    class Parent:
        class request:
            root_id, id, delivery_info = "root", "parent", {"priority": 9}

    monkeypatch.setattr(type(app), "current_worker_task", Parent)
    wakeups.publish(app, WakeUp("main", "token"))
    (message,) = published(app)
    assert message.headers["parent_id"] is None
    assert message.headers["root_id"] == message.headers["id"]
    assert message.properties["priority"] == 0


def test_it_is_written_once(monkeypatch):
    app = app_of()
    sent: list[Any] = []
    write = wakeups._send

    def watched(*given: Any, **more: Any) -> None:
        sent.append(given)
        write(*given, **more)

    monkeypatch.setattr(wakeups, "_send", watched)
    for number in range(5):
        wakeups.publish(app, WakeUp("main", str(number)))
    assert len(sent) == 1
    assert [message.payload[0][1] for message in published(app)] == list("01234")


def test_the_queue_is_declared_again_when_the_connection_was_made_anew():
    app = app_of()
    wakeups.publish(app, WakeUp("main", "first"))
    with app.producer_or_acquire() as producer:
        producer.connection.collect()
    wakeups.publish(app, WakeUp("main", "second"))
    with app.producer_or_acquire() as producer:
        assert hash(app.amqp.queues["main"]) in producer.channel.connection.client.declared_entities
    assert len(published(app)) == 2


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_watches_what_the_app_sends_sees_every_one(when):
    app, seen = app_of(), []
    wakeups.publish(app, WakeUp("main", "unseen"))
    signal = signals.before_task_publish if when == "before" else signals.after_task_publish

    def watch(headers: dict[str, Any], **_: Any) -> None:
        headers["trace"] = "1"
        seen.append(headers["task"])

    signal.connect(watch, weak=False)
    try:
        wakeups.publish(app, WakeUp("main", "seen"))
    finally:
        signal.disconnect(watch)
    assert seen == [wakeups.DRAIN]
    if when == "before":
        assert [message.headers.get("trace") for message in published(app)] == [None, "1"]


def test_an_app_with_a_way_of_its_own_to_send_is_asked():
    sent: list[Any] = []

    class Own(Celery):  # type: ignore[misc]
        def send_task(self, name: str, *args: Any, **options: Any) -> None:
            sent.append((name, options["args"]))

    app = Own("own", broker="memory://", set_as_current=False)
    wakeups.publish(app, WakeUp("main", "token"))
    assert sent == [(wakeups.DRAIN, ("main", "token"))]


def test_a_proxy_of_an_app_will_do(monkeypatch):
    app = app_of()
    proxy = Proxy(lambda: app)
    wakeups.publish(proxy, WakeUp("main", "token"))
    monkeypatch.setattr(wakeups, "_send", lambda *_: pytest.fail("it was written already"))
    wakeups.publish(app, WakeUp("main", "token"))
    assert len(published(app)) == 2


@pytest.mark.parametrize("conf", [{"task_protocol": 1}, {"task_send_sent_event": True}])
def test_celery_sends_it_itself_where_a_copy_would_not_do(conf):
    app = app_of(**conf)
    for token in ("first", "second"):
        wakeups.publish(app, WakeUp("main", token))
    bodies = [message.payload for message in published(app)]
    assert [json.dumps(body).count(token) for body, token in zip(bodies, ("first", "second"), strict=True)] == [1, 1]
