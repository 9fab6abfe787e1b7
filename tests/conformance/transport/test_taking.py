"""Order, priorities, several queues, limits, acknowledgements; and the two transports on the same queues."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from flowq.runtime.transport import celery_conf
from flowq.testing import wait_until
from tests.conformance.transport.post import Post, Receiver


def test_messages_come_in_the_order_in_which_they_were_sent(post):
    post.send(*range(50))
    assert post.receiver(prefetch=1).take(50) == list(range(50))
    assert post.taken() == []


@pytest.mark.parametrize(("sender", "taker"), [("celery", "flowq"), ("flowq", "celery"), ("flowq", "flowq")])
def test_each_transport_takes_what_the_other_one_sends(post, sender, taker):
    post.send(1, 2, transport=sender)
    post.send(3, transport=sender, priority=9)
    assert post.client.llen("q") == 2
    assert post.client.llen("q\x06\x169") == 1
    assert post.receiver(transport=taker).take(3) == [1, 2, 3]


def test_both_transports_consume_from_one_queue(post):
    receivers = [post.receiver(transport=transport, prefetch=1) for transport in ("flowq", "celery", "flowq")]
    post.send(*range(30))
    while sum(len(receiver.messages) for receiver in receivers) < 30:
        for receiver in receivers:
            receiver.take(1)
    assert sorted(body for receiver in receivers for body in receiver.bodies) == list(range(30))
    assert all(receiver.messages for receiver in receivers)


def test_urgent_messages_come_first(post):
    for priority in (9, 3, 0, 6):
        post.send(priority, priority + 100, priority=priority)
    assert post.receiver(prefetch=1).take(8) == [0, 100, 3, 103, 6, 106, 9, 109]


def test_an_urgent_message_overtakes_what_waits_in_another_queue(post):
    post.send("later", to="a", priority=3)
    post.send("first", to="b", priority=0)
    assert post.receiver("a", "b", prefetch=1).take(2) == ["first", "later"]


def test_no_queue_starves_another(post):
    for name in ("a", "b", "c"):
        post.send(*[name] * 20, to=name)
    got = post.receiver("a", "b", "c", prefetch=1).take(30)
    assert all(count >= 8 for count in Counter(got).values()), got
    assert set(got) == {"a", "b", "c"}


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
@pytest.mark.parametrize("priority", [0, 9])
def test_a_consumer_that_waits_hears_of_every_list(post, name, priority):
    """It waits on one list. None of the others is looked at before its own wait of a minute ends."""
    receiver = post.receiver("a", "b", "c", "d")
    receiver.channel._taker._wait_s = 60
    with pytest.raises(TimeoutError):
        receiver.take(1, 0.25)
    timer = threading.Timer(0.1, lambda: post.send("here", to=name, priority=priority))
    timer.start()
    assert receiver.take(1, 5) == ["here"]
    timer.join()


def test_a_server_without_a_bell_is_asked_once_a_second(post, monkeypatch):
    monkeypatch.setattr("flowq.runtime.transport.taker.Bell.listen", lambda self, taker, timeout_s: None)
    receiver = post.receiver("a", "b")
    receiver.channel._taker._wait_s = 1  # as it is by default
    with pytest.raises(TimeoutError):
        receiver.take(1, 0.5)
    post.send("here", to="a", priority=9)
    post.send("there", to="b", priority=9)
    assert sorted(receiver.take(2, 5)) == ["here", "there"]


def test_a_consumer_takes_no_more_than_its_limit(post):
    post.send(*range(10))
    receiver = post.receiver(prefetch=3, ack=False)
    assert receiver.take_all() == [0, 1, 2]
    assert len(post.taken()) == 3
    assert post.client.llen("q") == 7
    receiver.messages[1].ack()
    assert receiver.take_all() == [3]
    assert len(post.taken()) == 3


def test_what_is_rejected_is_gone(post):
    post.send(1)
    receiver = post.receiver(ack=False)
    receiver.take(1)
    receiver.messages[0].reject()
    assert post.taken() == []
    assert post.client.llen("q") == 0


def test_what_is_requeued_comes_last_and_says_so(post):
    post.send(1, 2)
    receiver = post.receiver(prefetch=1, ack=False)
    receiver.take(1)
    receiver.messages[0].requeue()
    assert receiver.take(1) == [2]
    receiver.messages[1].ack()
    assert receiver.take(1) == [1]
    assert [message.delivery_info.get("redelivered", False) for message in receiver.messages] == [False, False, True]
    assert len(post.taken()) == 1


def test_a_channel_that_is_closed_gives_back_in_order(post):
    post.send(*range(6))
    receiver = post.receiver(prefetch=4, ack=False)
    assert receiver.take(4) == [0, 1, 2, 3]
    receiver.messages[1].ack()
    receiver.connection.close()
    assert set(post.client.keys()) == {b"q"}  # and nothing else is left
    assert post.receiver().take(5) == [0, 2, 3, 4, 5]


def test_a_message_that_was_sent_twice_is_two_messages(post):
    post.send(1)
    (raw,) = post.client.lrange("q", 0, -1)
    post.client.lpush("q", raw)
    receiver = post.receiver(prefetch=2, ack=False)
    assert receiver.take(2) == [1, 1]
    assert len({message.delivery_tag for message in receiver.messages}) == 2
    receiver.messages[1].ack()
    assert post.taken() == [raw]
    receiver.messages[0].ack()
    assert post.taken() == []


def test_consumers_that_want_no_acknowledgements(post):
    post.send(1)
    channel = post.connection().channel()
    got: list[object] = []
    with Consumer(channel, [Queue("q", Exchange(""), "q")], callbacks=[lambda body, _: got.append(body)], no_ack=True):
        channel.connection.client.drain_events(timeout=5)
    assert got == [1]
    assert post.taken() == []


def test_single_messages_can_be_fetched(post):
    post.send(1, 2)
    channel = post.connection().channel()
    first = channel.basic_get("q")
    assert (first.decode(), len(post.taken())) == (1, 1)
    first.ack()
    assert channel.basic_get("q", no_ack=True).decode() == 2
    assert channel.basic_get("q") is None
    assert post.taken() == []


@pytest.mark.parametrize("name", ["__prefixed"])
def test_a_key_prefix_is_respected(server, name):
    with Post(server, global_keyprefix="mine:") as post:
        post.send(1, 2, to=name)
        post.send(3, to=name, priority=6)
        receiver = post.receiver(name, ack=False, prefetch=3)
        assert receiver.take(3) == [1, 2, 3]
        assert all(key.startswith(b"mine:") for key in post.client.scan_iter())
        assert len(post.taken()) == 3
        post.client.lpush(f"mine:{name}", b"junk")
        receiver.messages[0].ack()
        receiver.take_all()
        assert post.client.llen(f"mine:{name}:quarantine") == 1


def test_fanout_reaches_everybody_of_both_transports(post):
    exchange = Exchange("news", type="fanout")
    channels = [post.connection(transport).channel() for transport in ("flowq", "celery", "flowq")]
    got: list[tuple[int, object]] = []
    for i, channel in enumerate(channels):
        named = Queue(f"news.{i}", exchange, auto_delete=True)
        consumer = Consumer(channel, [named], callbacks=[lambda body, _, i=i: got.append((i, body))], no_ack=True)
        consumer.consume()
        with suppress(TimeoutError):
            channel.connection.client.drain_events(timeout=0.2)  # subscribe
    post.client.publish("/0.news", b"[" * 5000)
    post.client.publish("/0.news", b"[]")
    Producer(channels[1], exchange).publish("told")
    for i in (0, 2):
        while (i, "told") not in got:
            channels[i].connection.client.drain_events(timeout=5)
    assert [body for _, body in got] == ["told", "told"]


def test_commands_for_one_message(post):
    """One to take it, one to acknowledge it."""
    receiver = post.receiver(prefetch=1)
    assert receiver.take_all() == []  # the bell is there
    post.send(*range(100))
    post.client.config_resetstat()
    receiver.take(100)
    calls = {name.removeprefix("cmdstat_"): found["calls"] for name, found in post.client.info("commandstats").items()}
    assert calls["lrem"] == 100
    assert calls["blmove"] >= 90  # it looks at all lists once a second without any message
    assert {name for name, count in calls.items() if count > 10} == {"blmove", "lrem"}


def test_over_tcp(post):
    if post.client.info("server")["redis_version"].startswith("6."):
        pytest.skip("this server cannot be told to listen on another port")
    post.over_tcp()
    receiver = post.receiver("a", "b")
    receiver.channel._taker._wait_s = 60
    with pytest.raises(TimeoutError):
        receiver.take(1, 0.5)
    for name in ("a", "b"):
        post.send(name, to=name, priority=9)
    assert sorted(receiver.take(2)) == ["a", "b"]
    assert post.taken() == []


def test_addresses_are_shown_as_the_user_wrote_them(post):
    connection = post.connection()
    assert connection.as_uri() == post.server.url
    assert connection.clone().transport.__class__ is connection.transport.__class__
    for url in ("redis://localhost:7/3", "sentinel://localhost:7;sentinel://localhost:8/main/0"):
        conf = celery_conf(url)
        made = Connection(conf["broker_url"], transport=conf["broker_transport"])
        assert made.as_uri() == Connection(url).as_uri() or ";" in url
        assert type(made.transport).__module__ == "flowq.runtime.transport.transport"
    assert celery_conf("amqp://localhost") == {}


def test_a_receiver_that_is_cancelled_gives_to_the_others(post):
    first = post.receiver(ack=False, prefetch=1)
    post.send(1, 2)
    first.take(1)
    first.connection.close()
    other: Receiver = post.receiver()
    assert other.take(2) == [1, 2]
    wait_until(lambda: post.taken() == [], 5)
