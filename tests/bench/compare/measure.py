"""Runs the rounds: every workload on every peer in turn, so that a noisy minute is everybody's."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from tests.bench.compare.peer import Peer
from tests.bench.compare.shapes import Workload


class WrongResult(Exception):
    """A peer gave something else than the shape says."""


@dataclass(frozen=True)
class Measurement:
    """A workload on a peer in one round."""

    round: int
    workload: Workload
    peer: str
    seconds: list[float]
    """Of each time that it was run."""
    cpu_s: float
    """Of the producer, the server and the workers, for all times together."""
    failed: str = ""
    """Why there are no figures."""

    @property
    def nodes(self) -> int:
        return self.workload.shape.nodes


def measure(
    peers: Sequence[Peer],
    workloads: Sequence[Workload],
    *,
    rounds: int,
    timeout_s: float,
    say: Callable[[Measurement], None] = lambda _: None,
) -> list[Measurement]:
    """Measure everything. What has failed once is not tried again: it would only fail once more.

    Raises:
        WrongResult: a peer has computed something else.
    """
    found: list[Measurement] = []
    failed: set[tuple[str, Workload]] = set()
    with _started(peers):
        for number in range(rounds):
            for workload in workloads:
                shift = number % len(peers)  # nobody is always the first, or always after the same one
                for peer in (*peers[shift:], *peers[:shift]):
                    if (peer.name, workload) in failed:
                        continue
                    found.append(_run(peer, workload, number, timeout_s))
                    say(found[-1])
                    if found[-1].failed:
                        failed.add((peer.name, workload))
    return found


def _run(peer: Peer, workload: Workload, number: int, timeout_s: float) -> Measurement:
    peer.resume()
    try:
        peer.warm_up()
        seconds: list[float] = []
        cpu_s = 0.0
        for _ in range(workload.times):
            job = peer.prepare(workload.shape)
            with _no_old_garbage():
                cpu, began = peer.cpu_s(), time.perf_counter()
                result = job(timeout_s)
                seconds.append(time.perf_counter() - began)
                cpu_s += peer.cpu_s() - cpu
            if result != workload.shape.expected:
                raise WrongResult(f"{peer.name}, {workload.title}: {str(result)[:200]}")
    except TimeoutError:
        peer.restart()  # what is left undone must not disturb the next run
        return Measurement(number, workload, peer.name, [], 0.0, f"failed ({timeout_s:g} s)")
    finally:
        peer.pause()
    return Measurement(number, workload, peer.name, seconds, cpu_s)


@contextmanager
def _started(peers: Sequence[Peer]) -> Iterator[None]:
    with ExitStack() as started:
        for peer in peers:
            peer.start()
            started.callback(peer.stop)
            peer.pause()
        yield


@contextmanager
def _no_old_garbage() -> Iterator[None]:
    """Have the collector look only at what is made from here on: it is not to pay for what others left."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
