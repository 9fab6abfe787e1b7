"""How long another task of the same app waits for its start, while many nodes run on the same workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median, quantiles

import redis

from tests.bench.compare.flowq_flows import flow_of
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.measure import WrongResult
from tests.bench.compare.shapes import Independent
from tests.bench.mixed import tasks

EVERY_S = 0.05
"""One other task is sent so often: few, as what is looked at is the wait behind the nodes."""


@dataclass(frozen=True)
class Waits:
    """What other tasks waited for their start."""

    what: str
    seconds: list[float]
    ran_s: float
    """How long the nodes took, from their submission to the last one's end."""

    @property
    def p50_ms(self) -> float:
        return median(self.seconds) * 1000

    @property
    def p99_ms(self) -> float:
        return quantiles(self.seconds, n=100, method="inclusive")[98] * 1000 if len(self.seconds) > 1 else self.p50_ms

    @property
    def most_ms(self) -> float:
        return max(self.seconds) * 1000


def measure(nodes: int, *, idle_s: float, timeout_s: float) -> list[Waits]:
    """Measure with idle workers, with a flow of so many nodes of 1 ms, and with these as ordinary tasks."""
    peer = FlowqPeer("pull", include=[tasks.__name__])
    peer.start()
    try:
        peer.warm_up()
        runs: dict[str, Callable[[], None]] = {
            "nothing": lambda: _pause(idle_s),
            "a flow": lambda: _as_flow(peer, nodes, timeout_s),
            "the same nodes as Celery tasks": lambda: _as_tasks(peer, nodes, timeout_s),
        }
        return [_beside(peer, what, run, timeout_s) for what, run in runs.items()]
    finally:
        peer.stop()


def _beside(peer: FlowqPeer, what: str, run: Callable[[], None], timeout_s: float) -> Waits:
    peer.redis.delete(tasks.STARTS)
    with _others(peer) as sent:
        began = time.perf_counter()
        run()
        ran_s = time.perf_counter() - began
    _until(lambda: peer.redis.llen(tasks.STARTS) == len(sent), timeout_s, "other tasks to run")
    return Waits(what, [float(wait) for wait in _all(peer.redis, tasks.STARTS)], ran_s)


@contextmanager
def _others(peer: FlowqPeer) -> Iterator[list[float]]:
    """Send other tasks to the queue of the flows, one by one; gives when each was sent."""
    sent: list[float] = []
    enough = threading.Event()
    app, queue = peer.context.celery_app, peer.context.settings.queue

    def send() -> None:
        while not enough.wait(EVERY_S):
            sent.append(time.monotonic())
            app.send_task("bench.other", args=[sent[-1]], queue=queue, ignore_result=True)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        yield sent
    finally:
        enough.set()
        sender.join()


def _as_flow(peer: FlowqPeer, nodes: int, timeout_s: float) -> None:
    shape = Independent(nodes, "spin")
    found = flow_of(shape).submit(context=peer.context).result(timeout=timeout_s).output
    if found != shape.expected:
        raise WrongResult(f"a flow of {nodes} nodes beside other tasks: {str(found)[:200]}")


def _as_tasks(peer: FlowqPeer, nodes: int, timeout_s: float) -> None:
    app, queue = peer.context.celery_app, peer.context.settings.queue
    expected = sum(range(1, nodes + 1))
    with app.producer_or_acquire() as producer:
        for number in range(1, nodes + 1):
            app.send_task("bench.node", args=[number], queue=queue, ignore_result=True, producer=producer)

    def done() -> int:
        return int(peer.redis.get(tasks.DONE) or 0)

    _until(lambda: done() >= expected, timeout_s, f"{nodes} nodes to run as tasks")
    if done() != expected:
        raise WrongResult(f"{nodes} nodes as tasks sum up to {done()}, not {expected}")


def _all(client: redis.Redis, key: str) -> list[bytes]:
    found: list[bytes] = client.lrange(key, 0, -1)  # type: ignore[assignment]
    return found


def _until(there: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not there():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {timeout_s:g} s for {what}")
        _pause(0.01)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
