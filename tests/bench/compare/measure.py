"""Runs the rounds: every workload on every peer in turn, so that a noisy minute is everybody's."""

from __future__ import annotations

import gc
import signal
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
    seconds: list[float] = []
    cpu_s = 0.0
    is_late = False
    peer.resume()
    try:
        with _at_most(timeout_s):
            peer.warm_up()
        for _ in range(workload.times):
            job = peer.prepare(workload.shape)
            with _no_old_garbage(), _at_most(timeout_s):
                cpu, began = peer.cpu_s(), time.perf_counter()
                result = job()
                seconds.append(time.perf_counter() - began)
                cpu_s += peer.cpu_s() - cpu
            if result != workload.shape.expected:
                raise WrongResult(f"{peer.name}, {workload.title}: {str(result)[:200]}")
    except _OutOfTime:
        is_late = True
    if is_late:  # not in the except: until it has ended, all that the run has made is still there
        peer.restart()
    peer.pause()
    return Measurement(number, workload, peer.name, seconds, cpu_s, f"failed ({timeout_s:g} s)" if is_late else "")


class _OutOfTime(BaseException):
    """Of no kind that a client takes for a lost connection, and tries again."""


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Interrupt what does not end, wherever that hangs: waiting for results, or for a connection to publish with."""

    def give_up(*_: object) -> None:
        raise _OutOfTime

    handler = signal.getsignal(signal.SIGALRM)
    left_s, _ = signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, left_s)  # a test's own limit


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
