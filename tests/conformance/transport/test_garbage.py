"""What is no message goes into quarantine, with the reason; nothing else happens."""

from __future__ import annotations

import base64
import json
import re
import time
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowq.runtime.transport.envelope import Taken, open_envelope
from flowq.runtime.transport.quarantine import read
from flowq.runtime.transport.shapes import Malformed
from tests.conformance.transport.garbage import bomb, envelope, garbage, written
from tests.conformance.transport.post import Post

MAX_BYTES = 1_000_000


def opened(raw: bytes) -> str:
    """Give the reason why an item cannot be used; empty: it can."""
    try:
        open_envelope(Taken(raw, "q", "q:taken:x"), MAX_BYTES)
    except Malformed as error:
        return str(error) or "no reason"
    return ""


def changed(**parts: object) -> bytes:
    return written({**envelope("q", 1), **parts})


def with_header(**headers: object) -> bytes:
    message = envelope("q", 1)
    return written({**message, "headers": {**message["headers"], **headers}})


def with_property(**properties: object) -> bytes:
    message = envelope("q", 1)
    return written({**message, "properties": {**message["properties"], **properties}})


def test_what_celery_sends_can_be_used():
    assert opened(written(envelope("q", 1))) == ""


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"\xff", "UnicodeDecodeError"),
        (b"{", "JSONDecodeError"),
        (b"7", "no JSON object but int"),
        (b"[]", "no JSON object but list"),
        (b"{}", "no properties"),
        (changed(properties=[]), "must be JSON objects"),
        (changed(headers="x"), "must be JSON objects"),
        (changed(body=7), "the body is no string|not .args"),
        (changed(body="%%%"), "no base64"),
        (changed(**{"content-type": 5}), "content-type is no string"),
        (changed(**{"content-encoding": "klingon"}), "unknown content-encoding 'klingon'"),
        (with_property(body_encoding="rot13"), "unknown body_encoding|body is no string"),
        (with_property(delivery_tag=None), "no delivery_tag"),
        (with_property(delivery_info=[1]), "delivery_info cannot be"),
        (with_property(correlation_id="\ud800"), "surrogates"),
        (with_header(compression="arj"), "unknown compression 'arj'"),
        (with_header(compression="zlib"), "the body is no zlib"),
        (with_header(id=None), "a task without id"),
        (with_header(id=["x"]), "a task without id"),
        (with_header(task={}), "a task without task"),
        (with_header(eta=""), "header eta cannot be"),
        (with_header(eta="0001-01-01T00:00:00+23:59"), "header eta cannot be"),
        (with_header(expires=5), "header expires cannot be"),
        (with_header(timelimit=["x", None]), "header timelimit cannot be"),
        (with_header(timelimit=[float("nan"), None]), "header timelimit cannot be"),
        (with_header(retries="x"), "header retries cannot be"),
        (with_header(get=1), "a header is called 'get'"),
        (changed(body=[1, {}, {}]), "args is no list"),
        (changed(body=[[], 5, {}]), "kwargs is no JSON object"),
        (changed(body=[[], {}, {"errbacks": 5}]), "errbacks cannot be 5"),
        (changed(body=[[], {}, 5]), "the third part of the body"),
        (changed(body={"a": 1}), "not .args, kwargs, embed."),
        (b"[" * 100_000, "nested deeper than 300 levels"),
        (changed(body='["' * 400), "base64|JSON"),
        (b'"' + b"x" * MAX_BYTES + b'"', "1000002 bytes, more than the 1000000"),
    ],
)
def test_the_reason_is_said(raw, reason):
    found = opened(raw)
    assert re.search(reason, found), found


@pytest.mark.parametrize("compression", ["zlib", "bzip2", "lzma"])
def test_a_bomb_is_not_expanded(compression):
    raw = written(bomb(compression, 60 * MAX_BYTES))
    tracemalloc.start()
    try:
        assert "more than 1000000 bytes" in opened(raw)
        assert tracemalloc.get_traced_memory()[1] < 20 * MAX_BYTES
    finally:
        tracemalloc.stop()


@given(raw=st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_else(raw):
    assert opened(raw)


@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_broken_messages_raise_nothing_else(data):
    opened(garbage(lambda choices: data.draw(st.sampled_from(choices)), "q", 1))


def test_what_cannot_be_used_lies_in_quarantine_as_it_was(post):
    junk = [b"\x00\xff", b"[1]", b"no", with_header(id=5)]
    for raw in junk:
        post.client.lpush("q", raw)
    post.send("good")
    assert post.receiver(prefetch=1).take(1) == ["good"]
    kept = read(post.client, "q:quarantine")
    assert [entry.raw for entry in reversed(kept)] == junk
    assert all(entry.reason and abs(entry.at - time.time()) < 60 for entry in kept)
    assert post.client.ttl("q:quarantine") > 0
    assert post.taken() == []


def test_a_quarantine_is_bounded(server):
    with Post(server, quarantine_items=5, quarantine_item_bytes=10) as post:
        post.client.lpush("q", *(f"junk number {i:>10}" for i in range(20)))
        post.receiver().take_all()
        kept = read(post.client, "q:quarantine")
        assert [(entry.raw, entry.size) for entry in kept] == [(b"junk numbe", 22)] * 5


def test_an_item_that_is_too_large_is_not_read(server):
    with Post(server, max_message_bytes=1000) as post:
        post.client.lpush("q", b"x" * 5000)
        post.send("good")
        assert post.receiver().take(1) == ["good"]
        (entry,) = read(post.client, "q:quarantine")
        assert entry.reason == "5000 bytes, more than the 1000 that are read"


def test_what_its_consumer_raises_is_the_messages_fault(post):
    post.send("bad", "good")
    receiver = post.receiver(prefetch=1)

    def take(message):
        if message.decode() == "bad":
            raise KeyError("id")  # kombu takes that for a lost connection
        receiver.messages.append(message)
        message.ack()

    receiver._consumer.on_message = take
    assert receiver.take(1) == ["good"]
    (entry,) = read(post.client, "q:quarantine")
    assert entry.reason == "its consumer raised KeyError: 'id'"
    assert json.loads(base64.b64decode(json.loads(entry.raw)["body"])) == "bad"
    assert post.taken() == []


def test_single_messages_are_looked_at_too(post):
    post.client.lpush("q", b"junk")
    post.send("good")
    assert post.connection().channel().basic_get("q").decode() == "good"
    assert len(read(post.client, "q:quarantine")) == 1


def test_a_message_cannot_pretend_to_come_from_another_queue(post):
    post.client.lpush("q", with_property(delivery_info={"exchange": "", "routing_key": "other"}))
    receiver = post.receiver()
    receiver.take(1)
    assert receiver.messages[0].delivery_info == {"exchange": "", "routing_key": "q"}
