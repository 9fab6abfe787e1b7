"""Producers and consumers on one server, of kombu's transport and of ours; and what a separate process consumes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self, cast

import redis
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Consumer, Producer

from flowq.runtime.transport import celery_conf, register
from flowq.standalone import EmbeddedServer

WAIT_S = 10.0
DEAD_S = 1.0
"""So soon does a consumer of a test count as dead."""
LOOK_S = 0.2
"""So often does a consumer of a test look at all its lists though nobody has rung; by default once a second."""
QUIET_S = LOOK_S + 0.5
"""Nothing has come for so long: it has looked meanwhile, and a busy machine has had the time to bring what it found."""


def queue(name: str) -> Any:
    """Give a queue as Celery's producers address it."""
    return Queue(name, Exchange(""), routing_key=name)


class Receiver:
    """Consumes from queues and keeps what it gets."""

    def __init__(self, connection: Any, queues: Iterable[str], prefetch: int, ack: bool) -> None:
        self.connection, self.channel = connection, connection.channel()
        if hasattr(self.channel, "_taker"):  # flowq's
            self.channel._taker._wait_s = LOOK_S
        self.messages: list[Any] = []
        self._consumer = Consumer(self.channel, [queue(name) for name in queues], on_message=self._take, accept=None)
        self._consumer.qos(prefetch_count=prefetch)
        self._consumer.consume()
        self._ack = ack

    @property
    def bodies(self) -> list[Any]:
        return [message.decode() for message in self.messages]

    def take(self, count: int, timeout_s: float = WAIT_S) -> list[Any]:
        """Wait for so many messages, and give their bodies."""
        start = len(self.messages)
        while len(self.messages) < start + count:
            self.connection.drain_events(timeout=timeout_s)
        return self.bodies[start:]

    def take_all(self) -> list[Any]:
        """Take until nothing has come for a while."""
        start = len(self.messages)
        try:
            while True:
                self.connection.drain_events(timeout=QUIET_S)
        except TimeoutError:
            return self.bodies[start:]

    def _take(self, message: Any) -> None:
        self.messages.append(message)
        if self._ack:
            message.ack()


class Post:
    """What a test uses of one server; closed, and the server emptied, at its end."""

    def __init__(self, server: EmbeddedServer, **options: Any) -> None:
        self.server = server
        self.url = server.url
        self.options = {"dead_s": DEAD_S, **options}
        self.client = redis.Redis.from_url(server.redis_url)
        self.client.flushall()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        self.client.flushall()
        self.client.close()

    def connection(self, transport: str = "flowq") -> Any:
        conf = celery_conf(self.url) if transport == "flowq" else {"broker_url": self.url}
        stock = {name: value for name, value in self.options.items() if name in ("global_keyprefix", "priority_steps")}
        options = self.options if transport == "flowq" else stock
        chosen = {"transport": conf.get("broker_transport"), "transport_options": dict(options)}
        return self._stack.enter_context(Connection(conf["broker_url"], **chosen))

    def over_tcp(self) -> None:
        """Have the server listen on a port of this machine too, and use that from now on."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.client.config_set("bind", "127.0.0.1")
        self.client.config_set("port", port)
        self._stack.callback(self.client.config_set, "port", 0)
        self.url = f"redis://127.0.0.1:{port}/0"

    def receiver(self, *queues: str, transport: str = "flowq", prefetch: int = 0, ack: bool = True) -> Receiver:
        return Receiver(self.connection(transport), queues or ("q",), prefetch, ack)

    def send(self, *bodies: Any, to: str = "q", transport: str = "celery", priority: int = 0) -> None:
        producer = Producer(self.connection(transport).channel(), serializer="json")
        for body in bodies:
            producer.publish(body, routing_key=to, priority=priority)

    def taken(self) -> list[bytes]:
        """Give all messages that some consumer holds."""
        found: list[bytes] = []
        for key in self.client.scan_iter(match="*:taken:*", count=1000):
            found += cast("list[bytes]", self.client.lrange(key, 0, -1))
        return found

    def process(self, prefetch: int = 0, ack: bool = False) -> Other:
        made = Other(self, prefetch, ack)
        self._stack.callback(made.kill)
        return made


class Other:
    """A consumer of queue ``q`` in a process of its own; it writes down what it gets."""

    def __init__(self, post: Post, prefetch: int, ack: bool) -> None:
        url = celery_conf(post.server.url)["broker_url"]
        told = json.dumps({"url": url, "options": post.options, "prefetch": prefetch, "ack": ack})
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, told], stdout=subprocess.PIPE, text=True, env=env
        )

    def line(self) -> str:
        """Wait for the next line that it writes: ``ready``, then the body of each message as JSON."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()


def _consume(told: dict[str, Any]) -> None:
    register()
    with Connection(told["url"], transport_options=told["options"]) as connection:
        receiver = Receiver(connection, ["q"], told["prefetch"], ack=False)
        print("ready", flush=True)  # noqa: T201
        while True:
            try:
                connection.drain_events(timeout=1)
            except TimeoutError:
                continue
            message = receiver.messages[-1]
            print(json.dumps(message.decode()), flush=True)  # noqa: T201
            if told["ack"]:
                message.ack()


if __name__ == "__main__":
    _consume(json.loads(sys.argv[1]))
