"""A message that nobody survives is set aside in the end; those that were beside it are not."""

from __future__ import annotations

import base64
import json
import logging
import threading
from typing import Any

import pytest

from flowq.runtime.transport import quarantine, recovery
from flowq.runtime.transport.wire import Wire
from flowq.testing import wait_until
from tests.conformance.transport.garbage import envelope, written
from tests.conformance.transport.post import DEAD_S, Post, Receiver

BOOKS = recovery.Books.under("", DEAD_S)
LIMIT = recovery.Limit(deaths=3)
DEADLY = written({**envelope("q", 7), "headers": {"task": "deadly", "id": "no-7"}})
BODY = envelope("q", 7)["body"]


def wire(post: Post) -> Wire:
    return Wire(post.client.connection_pool)


def die(post: Post, name: str, *, of: str = "q", limit: recovery.Limit = LIMIT, takes: int = 100) -> None:
    """Let a consumer take messages and die, and another one find that out."""
    recovery.beat(wire(post), BOOKS, name, [of])
    for _ in range(takes):
        post.client.lmove(of, recovery.held(of, name), "RIGHT", "LEFT")
    post.client.zincrby(BOOKS.consumers, -3_600_000, name)
    recovery.recover(wire(post), BOOKS, limit, name, [of])


def marks(post: Post) -> list[bytes]:
    return list(post.client.scan_iter(match="*:died:*", count=1000))


def test_a_message_is_set_aside_after_so_many_deaths(post, caplog):
    post.client.lpush("q", DEADLY)
    for number in range(LIMIT.deaths):
        assert post.client.llen("q") == 1, number
        die(post, f"c{number}")
    assert post.client.llen("q") == 0
    (entry,) = quarantine.read(post.client, "q:quarantine")
    assert (entry.raw, entry.size, entry.source, entry.task) == (DEADLY, len(DEADLY), "q", "deadly no-7")
    assert entry.reason == "3 consumers have died one after the other with it in their hands"
    assert 0 < post.client.ttl("q:quarantine") <= 7 * 24 * 3600
    assert post.taken() == []
    assert all(0 < post.client.pttl(mark) <= LIMIT.within_s * 1000 for mark in marks(post))
    (said,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "deadly no-7" in said
    assert "'q:quarantine'" in said


def test_a_death_long_ago_does_not_count(post):
    post.client.lpush("q", DEADLY)
    for number in range(10):
        die(post, f"c{number}")
        (mark,) = marks(post)
        assert 0 < post.client.pttl(mark) <= LIMIT.within_s * 1000
        post.client.delete(mark)  # as if its time were over
    assert post.client.lrange("q", 0, -1) == [b"\t" + DEADLY]


def test_an_orderly_end_does_not_count(post):
    post.client.lpush("q", DEADLY)
    for _ in range(2 * LIMIT.deaths):
        receiver: Receiver = post.receiver(ack=False)
        assert receiver.take(1) == [BODY]
        receiver.connection.close()
    assert post.client.llen("q") == 1
    assert post.client.llen("q:quarantine") == 0


def test_the_end_by_an_error_counts(server):
    """Celery stops in order after an error that it did not expect, and gives back what it holds."""
    with Post(server, max_deaths=3) as post:
        post.client.lpush("q", DEADLY)

        def consume() -> None:
            with post.connection() as connection:
                receiver = Receiver(connection, ["q"], 0, ack=False)

                def take(message: Any) -> None:
                    raise MemoryError

                receiver._consumer.on_message = take
                receiver.take(1)

        for _ in range(3):
            assert post.client.llen("q:quarantine") == 0
            with pytest.raises(MemoryError):
                consume()
        assert post.client.llen("q:quarantine") == 1
        assert post.taken() == []


def test_many_at_once_count_a_death_once(post):
    total = 120
    recovery.beat(wire(post), BOOKS, "dead", ["q"])
    post.client.lpush("q:taken:dead", *(json.dumps({"n": number}) for number in range(total)))
    post.client.zincrby(BOOKS.consumers, -3_600_000, "dead")
    given = (BOOKS, LIMIT, "dead", ["q"])
    threads = [threading.Thread(target=recovery.recover, args=(wire(post), *given)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = post.client.lrange("q", 0, -1)
    assert sorted(found) == sorted(b"\t" + json.dumps({"n": number}).encode() for number in range(total))


def test_a_message_is_counted_for_itself_though_another_one_is_the_same(post):
    post.client.lpush("q", *[DEADLY] * 10)
    die(post, "c")
    assert post.client.lrange("q", 0, -1) == [b"\t" + DEADLY] * 10


def test_bytes_that_are_no_message_are_counted_too(post):
    """Whoever reads them may die of that."""
    raw = b"\x00\xff[no json"
    post.client.lpush("q", raw)
    for number in range(LIMIT.deaths):
        die(post, f"c{number}")
    (entry,) = quarantine.read(post.client, "q:quarantine")
    assert (entry.raw, entry.task) == (raw, "? ?")


def test_priorities_share_the_quarantine_of_their_queue(post):
    urgent = "q\x06\x169"
    post.client.lpush(urgent, DEADLY)
    for number in range(LIMIT.deaths):
        die(post, f"c{number}", of=urgent)
    (entry,) = quarantine.read(post.client, "q:quarantine")
    assert entry.source == urgent
    assert quarantine.put_back(post.client, "q:quarantine", entry)
    assert post.client.lrange(urgent, 0, -1) == [DEADLY]


def test_what_was_set_aside_can_be_put_back_once(post):
    post.client.lpush("q", DEADLY)
    for number in range(LIMIT.deaths):
        die(post, f"c{number}")
    (entry,) = quarantine.read(post.client, "q:quarantine")
    assert quarantine.put_back(post.client, "q:quarantine", entry)
    assert not quarantine.put_back(post.client, "q:quarantine", entry)
    assert post.client.lrange("q", 0, -1) == [DEADLY]
    assert post.client.llen("q:quarantine") == 0
    receiver = post.receiver()
    assert receiver.take(1) == [BODY]
    assert not receiver.messages[0].delivery_info.get("redelivered")  # all is forgotten


def test_what_was_cut_cannot_be_put_back(post):
    small = LIMIT._replace(message_bytes=100)
    post.client.lpush("q", DEADLY)
    for number in range(LIMIT.deaths):
        die(post, f"c{number}", limit=small)
    (entry,) = quarantine.read(post.client, "q:quarantine")
    assert entry.raw == DEADLY[:100]
    with pytest.raises(quarantine.Incomplete, match=f"{len(DEADLY)} bytes, of which 100"):
        quarantine.put_back(post.client, "q:quarantine", entry)
    assert post.client.llen("q:quarantine") == 1


def test_a_message_of_megabytes_is_kept_whole(post):
    large = DEADLY + b" " * 6_000_000
    post.client.lpush("q", large, large)
    for number in range(LIMIT.deaths):
        die(post, f"c{number}")
    assert [entry.raw for entry in quarantine.read(post.client, "q:quarantine")] == [large, large]


@pytest.mark.parametrize("transport", ["flowq", "celery"])
def test_every_transport_reads_what_was_recovered(post, transport):
    post.send("x")
    die(post, "c")
    die(post, "d")
    assert post.client.lrange("q", 0, -1)[0].startswith(b"\t\t{")
    assert post.receiver(transport=transport).take(1) == ["x"]
    assert post.taken() == []


def test_what_was_beside_a_deadly_message_is_not_set_aside_with_it(post):
    """Each consumer takes all that it gets, and dies before it has dealt with any of it if that one is among it."""
    innocent = [f"good-{number}" for number in range(6)]
    post.send(*innocent[:3], "deadly", *innocent[3:])
    done: list[str] = []
    while len(done) < len(innocent):
        receiver: Receiver = post.receiver(ack=False)
        while "deadly" not in (bodies := receiver.take_all()) and bodies:
            for message in receiver.messages[-len(bodies) :]:
                message.ack()
            done += bodies
        if bodies:
            end(post, receiver)
    (entry,) = quarantine.read(post.client, "q:quarantine")
    assert b"redelivered" not in entry.raw  # as it was sent
    assert json.loads(base64.b64decode(json.loads(entry.raw)["body"])) == "deadly"
    assert sorted(done) == innocent


def end(post: Post, receiver: Receiver) -> None:
    """Let a consumer die, and another one find that out."""
    channel = receiver.channel
    channel._keeper.stop()
    channel._lost = True  # it gives nothing back
    receiver.connection.close()
    post.client.zincrby(BOOKS.consumers, -3_600_000, channel.consumer)
    recovery.recover(wire(post), BOOKS, LIMIT, channel.consumer, sorted(channel._known_lists[("q",)].sources))


def test_a_suspect_is_taken_alone(post):
    post.send("suspect")
    die(post, "c")
    die(post, "d")
    post.send(*range(5))
    receiver = post.receiver(ack=False)
    assert receiver.take_all() == ["suspect"]
    assert post.client.llen("q") == 5
    receiver.messages[0].ack()
    assert receiver.take(5) == list(range(5))


def test_a_suspect_that_does_no_harm_keeps_others_away_for_seconds_only(post, monkeypatch):
    monkeypatch.setattr("flowq.runtime.transport.channel._SUSPECT_S", 0.2)
    post.send("suspect")
    die(post, "c")
    die(post, "d")
    post.send(1)
    receiver = post.receiver(ack=False)
    assert receiver.take(1) == ["suspect"]
    assert wait_until(receiver.take_all, 5) == [1]
