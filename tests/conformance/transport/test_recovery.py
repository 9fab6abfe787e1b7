"""Consumers that die, that stop for a while, and servers that go away: nothing is lost, nothing stays behind."""

from __future__ import annotations

import json
import threading

import pytest
import redis

from flowq.runtime.transport import recovery
from flowq.runtime.transport.wire import Wire
from flowq.standalone import EmbeddedServer
from flowq.testing import wait_until
from tests.conformance.transport.post import DEAD_S, Post
from tests.property.servers import FINDERS

LIMIT = recovery.Limit()


def books() -> recovery.Books:
    return recovery.Books.under("", DEAD_S)


def age(post: Post, consumer: str) -> None:
    """Let a consumer have been silent for an hour."""
    post.client.zincrby(books().consumers, -3_600_000, consumer)


def test_what_a_killed_consumer_had_is_delivered_again(post):
    post.send(*range(6))
    dying = post.process(prefetch=4)
    assert [dying.line() for _ in range(5)] == ["ready", "0", "1", "2", "3"]
    dying.kill()
    receiver = post.receiver()
    assert receiver.take(2) == [4, 5]
    assert receiver.take(4) == [0, 1, 2, 3]
    assert [message.delivery_info.get("redelivered", False) for message in receiver.messages] == [False] * 2 + [
        True
    ] * 4
    assert post.taken() == []


def test_a_consumer_that_was_stopped_and_returns_takes_nothing_from_the_others(post):
    post.send("x")
    stopped = post.process(prefetch=1, ack=True)
    assert stopped.line() == "ready"
    assert stopped.line() == '"x"'
    wait_until(lambda: post.taken() == [], 5)
    stopped.stop()
    post.send("y")
    receiver = post.receiver(ack=False)
    assert receiver.take(1) == ["y"]
    (held,) = post.taken()
    stopped.go_on()
    post.send("z")
    wait_until(lambda: len(receiver.messages) > 1 or post.client.llen("q") == 0, 5)
    assert held in post.taken()


def test_a_late_acknowledgement_leaves_the_other_ones_copy_alone(post):
    post.send("x")
    late = post.receiver(ack=False)
    late.take(1)
    late.channel._keeper.stop()  # as if its process were stopped
    receiver = post.receiver(ack=False)
    assert receiver.take(1) == ["x"]
    late.messages[0].ack()
    assert len(post.taken()) == 1
    receiver.messages[0].ack()
    assert post.taken() == []


def test_a_consumer_that_is_busy_for_long_is_no_dead_one(post):
    post.send("x")
    busy = post.receiver(ack=False)
    busy.take(1)
    other = post.receiver()
    with pytest.raises(TimeoutError):
        other.take(1, 2.5 * DEAD_S)  # meanwhile nobody looks after the busy one's connection
    busy.messages[0].ack()
    assert post.taken() == []


def test_a_message_that_was_moved_when_its_consumer_was_killed_is_not_lost(post):
    """The kill comes between the move and the delivery: the answer is never read."""
    victim = post.process()
    assert victim.line() == "ready"

    def moved_while_it_cannot_look() -> bool:
        wait_until(lambda: post.client.info("clients")["blocked_clients"] == 1, 5)
        victim.stop()
        post.client.lpush("q", raw)
        if post.taken() == [raw]:
            return True
        post.client.delete("q")  # its wait has just ended, and it has not asked again
        victim.go_on()
        return False

    post.send("x")
    assert victim.line() == '"x"'
    (raw,) = post.taken()
    post.client.delete(*post.client.keys("q*"))
    wait_until(moved_while_it_cannot_look, 10)
    victim.kill()
    assert post.receiver().take(1) == ["x"]


def test_many_at_once_move_a_dead_consumers_messages_once(post):
    wire = Wire(post.client.connection_pool)
    recovery.beat(wire, books(), "dead", ["q"])
    post.client.lpush("q:taken:dead", *(json.dumps({"n": i}) for i in range(300)))
    age(post, "dead")
    given = (books(), LIMIT, "dead", ["q"])
    threads = [
        threading.Thread(target=recovery.recover, args=(Wire(post.client.connection_pool), *given)) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(raw)["n"] for raw in post.client.lrange("q", 0, -1)) == list(range(300))
    assert post.taken() == []


def test_a_consumer_that_lives_after_all_keeps_its_messages(post):
    wire = Wire(post.client.connection_pool)
    recovery.beat(wire, books(), "alive", ["q"])
    post.client.lpush("q:taken:alive", b"x")
    recovery.recover(wire, books(), LIMIT, "alive", ["q"])
    assert post.taken() == [b"x"]


def test_a_dead_consumer_is_looked_at_once_more(post):
    """A last command of its may come in after its messages were moved."""
    wire = Wire(post.client.connection_pool)
    recovery.beat(wire, books(), "dead", ["q"])
    age(post, "dead")
    recovery.recover(wire, books(), LIMIT, "dead", ["q"])
    assert recovery.beat(wire, books(), "other", ["q"]) == []  # not for a while
    post.client.lpush("q:taken:dead", b"late")
    age(post, "dead")
    assert recovery.beat(wire, books(), "other", ["q"]) == [("dead", ["q"])]
    recovery.recover(wire, books(), LIMIT, "dead", ["q"])
    assert post.client.lrange("q", 0, -1) == [b"\tlate"]
    assert [name for name, _ in post.client.zscan_iter(books().consumers)] == [b"other"]
    assert post.client.hkeys(books().lists) == [b"other"]


@pytest.fixture(params=FINDERS)
def own(request):
    """A post with a server of its own, which may be killed."""
    path = FINDERS[request.param]()
    if path is None:
        pytest.skip(f"no server from {request.param} on this machine")
    with EmbeddedServer(binary=path) as server, Post(server) as post:
        yield post


def test_a_server_that_was_restarted_is_used_again(own):
    own.send(*range(2))
    receiver = own.receiver(ack=False)
    assert receiver.take(2) == [0, 1]
    wait_until(lambda: own.client.info("persistence")["aof_pending_bio_fsync"] == 0, 5)
    own.server.kill()
    with pytest.raises(redis.ConnectionError):
        receiver.take(1)
    own.server.restart()
    receiver.connection.close()
    receiver.messages[0].ack()  # what ran meanwhile is done
    own.send(2)
    again = own.receiver()
    assert again.take(2) == [2, 1]  # 1 when the lost connection's consumer counts as dead
    wait_until(lambda: own.taken() == [], 5)


def test_an_acknowledgement_waits_for_a_server_that_is_away(own):
    own.send(1)
    receiver = own.receiver(prefetch=1, ack=False)
    receiver.take(1)
    own.server.kill()
    receiver.messages[0].ack()
    own.server.restart()
    wait_until(lambda: own.taken() == [], 10, own.taken)
    assert own.client.llen("q") == 0
