"""Runs the rounds: every workload on every peer in turn, so that a noisy minute is everybody's."""

from __future__ import annotations

import gc
import math
import signal
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.bench.compare.bodies import number_of
from tests.bench.compare.peer import Laps, NotExpressible, Peer
from tests.bench.compare.workloads import Workload


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
    latencies_s: list[float]
    """Of every run: from its submission until the producer had its result."""
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
    enough_s: float = math.inf,
    always: Collection[str] = (),
    say: Callable[[Measurement], None] = lambda _: None,
) -> list[Measurement]:
    """Measure everything; a workload that has taken a peer ``enough_s`` in all is left out of its further rounds.

    That holds for all but the peers that ``always`` names.

    What has failed once is not tried again: it would only fail once more.

    Raises:
        WrongResult: a peer has computed something else.
    """
    found: list[Measurement] = []
    done: set[tuple[str, Workload]] = set()
    spent_s: dict[tuple[str, Workload], float] = defaultdict(float)
    with _started(peers), _all_looked_at_again():
        for number in range(rounds):
            for workload in workloads:
                gc.unfreeze()
                shift = number % len(peers)  # nobody is always the first, or always after the same one
                for peer in (*peers[shift:], *peers[:shift]):
                    cell = (peer.name, workload)
                    if cell in done:
                        continue
                    found.append(_run(peer, workload, number, timeout_s))
                    say(found[-1])
                    spent_s[cell] += sum(found[-1].seconds)
                    if found[-1].failed or (spent_s[cell] > enough_s and peer.name not in always):
                        done.add(cell)
    return found


def _run(peer: Peer, workload: Workload, number: int, timeout_s: float) -> Measurement:
    seconds: list[float] = []
    laps, cpu_s, failed = Laps(), 0.0, ""
    peer.resume()
    try:
        with _at_most(timeout_s):
            peer.warm_up()
        for _ in range(workload.times):
            job = peer.prepare(workload.shape)
            _set_aside()
            with _at_most(timeout_s):
                cpu, began = peer.cpu_s(), time.perf_counter()
                result = job(laps)
                seconds.append(time.perf_counter() - began)
                cpu_s += peer.cpu_s() - cpu
            _check(peer, workload, result)
        peer.tidy()
    except NotExpressible:
        peer.pause()
        return Measurement(number, workload, peer.name, [], 0, [], "–")
    except WrongResult:
        raise
    except _OutOfTime:
        failed = f"failed ({timeout_s:g} s)"
    except Exception as error:
        failed = f"failed ({type(error).__name__})"
    if failed:  # not in the except: until it has ended, all that the run has made is still there
        peer.restart()
    peer.pause()
    return Measurement(number, workload, peer.name, seconds, cpu_s, [] if failed else laps.seconds, failed)


def _check(peer: Peer, workload: Workload, result: list[Any]) -> None:
    """Compare what the runs gave, one after the other, with what must come of them."""
    values: list[Any] = result[0] if isinstance(result[0], list) else result
    numbers = [number_of(value) for value in values]
    if numbers != workload.shape.expected:
        raise WrongResult(f"{peer.name}, {workload.title}: {str(numbers)[:200]}")


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


def _set_aside() -> None:
    """Have the collector look only at what is made from here on: nobody is to pay for what others left."""
    gc.collect()
    gc.freeze()


@contextmanager
def _all_looked_at_again() -> Iterator[None]:
    try:
        yield
    finally:
        gc.unfreeze()
