"""The proxy itself: what it says it does to a request is what happens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq.standalone import EmbeddedServer
from flowq.testing import wait_until
from tests.chaos.replies.faults import Armed, ByRate, Fault
from tests.chaos.replies.proxy import FaultProxy
from tests.chaos.replies.resp import Frames, end_of, request_of, words_of

COUNT = "return redis.call('INCR', KEYS[1])"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(appendonly=False) as started:
        yield started


def impatient(url: str) -> Any:
    """A client that repeats nothing."""
    return redis.Redis.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2)


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize(
    ("fault", "carried_out", "answered"),
    [
        (Fault.DROP, 1, False),
        (Fault.TORN, 1, False),
        (Fault.CUT, 0, False),
        (Fault.TWICE, 2, True),
        (Fault.DELAY, 1, True),
        (Fault.LATE, 1, False),
    ],
)
def test_a_request_meets_the_fault_that_was_armed(server, fault, carried_out, answered, tcp):
    armed = Armed()
    with FaultProxy(server.redis_url, armed, tcp=tcp) as proxy:
        with closing(impatient(server.redis_url)) as direct, closing(impatient(proxy.redis_url)) as client:
            direct.delete("n")
            armed.arm(fault)
            if answered:
                assert client.eval(COUNT, 1, "n") == carried_out
            else:
                with pytest.raises(redis.ConnectionError):
                    client.eval(COUNT, 1, "n")
            wait_until(lambda: int(direct.get("n") or 0) == carried_out, 5)
            assert client.get("n") == direct.get("n")  # the next request is answered as if nothing had been
        assert proxy.happened == {fault: 1}
        assert armed.left == 0


def test_of_a_pipeline_what_stands_before_the_cut_is_carried_out_and_answered(server):
    class Third:
        asked = 0

        def __call__(self, command: str, *, in_transaction: bool) -> Fault | None:
            self.asked += command == "INCRBY"
            return Fault.CUT if command == "INCRBY" and self.asked == 3 else None

    with FaultProxy(server.redis_url, Third()) as proxy, closing(impatient(server.redis_url)) as direct:
        direct.delete("n")
        with closing(impatient(proxy.redis_url)) as client, client.pipeline(transaction=False) as pipe:
            for _ in range(5):
                pipe.incr("n")
            with pytest.raises(redis.ConnectionError):
                pipe.execute()
        assert int(direct.get("n")) == 2


@pytest.mark.parametrize("protocol", [2, 3])
def test_subscriptions_and_transactions_pass(server, protocol):
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultProxy(server.redis_url, Armed()))
        client: Any = stack.enter_context(closing(redis.Redis.from_url(proxy.redis_url, protocol=protocol)))
        with client.pipeline(transaction=True) as pipe:
            assert pipe.set("a", "1").get("a").hset("h", mapping={"x": 1}).execute() == [True, b"1", 1]
        with closing(client.pubsub()) as channel:
            channel.subscribe("news")
            assert channel.get_message(timeout=5)["type"] == "subscribe"
            client.publish("news", "hello")
            assert channel.get_message(timeout=5)["data"] == b"hello"
        client.delete("h")


def test_a_client_that_repeats_gets_through_all_faults(server):
    """Twelve repetitions are enough; what it counts may come twice, but never not at all."""
    with FaultProxy(server.redis_url, ByRate(7, dict.fromkeys(Fault, 0.02))) as proxy:
        patient = Retry(NoBackoff(), 12)
        with closing(redis.Redis.from_url(proxy.redis_url, retry=patient)) as client:
            client.set("n", 0)
            for _ in range(300):
                client.incr("n")
            assert int(client.get("n") or 0) >= 300
        assert all(proxy.happened[fault] for fault in Fault), str(proxy.happened)


def test_the_same_seed_gives_the_same_faults():
    def drawn(seed: int) -> list[Fault | None]:
        chooses = ByRate(seed, dict.fromkeys(Fault, 0.1))
        return [chooses("EVALSHA", in_transaction=False) for _ in range(100)]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)


def test_frames_are_found_however_the_data_come():
    frames = [
        request_of([b"SET", b"k", b"\r\n*2\r\n"]),
        b"+OK\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        b"*3\r\n:1\r\n$0\r\n\r\n*1\r\n_\r\n",
        b"%1\r\n+a\r\n#t\r\n",
        b"|1\r\n+ttl\r\n:3\r\n+value\r\n",
        b">2\r\n+message\r\n$1\r\nx\r\n",
        b",3.14\r\n",
    ]
    whole = b"".join(frames)
    for size in range(1, len(whole)):
        found = Frames()
        pieces = [frame for at in range(0, len(whole), size) for frame in found.feed(whole[at : at + size])]
        assert pieces == frames
    assert words_of(frames[0]) == [b"SET", b"k", b"\r\n*2\r\n"]
    assert all(end_of(frame[:-1]) == -1 for frame in frames)
