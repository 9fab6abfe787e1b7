"""How long it takes from the end of a node to the begin of the next: in a worker, and from one worker to another."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from tests.bench.compare.bodies import Mark
from tests.bench.compare.measure import WrongResult
from tests.bench.compare.peer import Laps, Peer
from tests.bench.compare.shapes import Chains, Diamonds

CHAIN = Chains(10, work="mark")
"""Short, as every node hands on the marks of all before."""
FORK = Diamonds(1, work="mark")
IDLE_S = 0.5
"""After so long with nothing to do, a worker has settled down."""

IN_CHAIN = "a hop in a chain"
BUSY = "a hop to another worker that has just been busy"
IDLE = "a hop to another worker, all idle before the run"
FIRST = "from the submission to the first node, all idle"
DIAMOND = "a diamond of five nodes, one at a time"
SUBMIT = "submitting a flow that is known"
KINDS = (IN_CHAIN, BUSY, IDLE, FIRST, DIAMOND, SUBMIT)


@dataclass
class Latency:
    """Latencies of one kind on one peer, of all rounds."""

    seconds: list[float] = field(default_factory=list)
    missed: int = 0
    """How often there was none to measure: one worker did it all."""

    @property
    def p50_ms(self) -> float:
        return median(self.seconds) * 1000 if self.seconds else float("nan")

    @property
    def p99_ms(self) -> float:
        return quantiles(self.seconds, n=100, method="inclusive")[98] * 1000 if len(self.seconds) > 1 else self.p50_ms


def measure(
    peers: Sequence[Peer], *, times: int, rounds: int, say: Callable[[str], None] = lambda _: None
) -> dict[str, dict[str, Latency]]:
    """Measure each kind so often on each peer in turn; gives the latencies by peer and kind."""
    found = {peer.name: {kind: Latency() for kind in KINDS} for peer in peers}
    started: list[Peer] = []
    try:
        for peer in peers:
            peer.start()
            started.append(peer)
            peer.pause()
        for number in range(rounds):
            shift = number % len(peers)
            for peer in (*peers[shift:], *peers[:shift]):
                peer.resume()
                peer.warm_up()
                _round(peer, found[peer.name], times)
                peer.tidy()
                peer.pause()
                say(f"round {number + 1}, {peer.name}: {found[peer.name][IN_CHAIN].p50_ms:.3f} ms a hop in a chain")
    finally:
        for peer in started:
            peer.stop()
    return found


def _round(peer: Peer, found: dict[str, Latency], times: int) -> None:
    for _ in range(times):
        found[IN_CHAIN].seconds += along(_marks(peer, CHAIN, Laps()))
    for _ in range(times):
        _note(found[BUSY], between(_marks(peer, FORK, Laps())))
    for _ in range(times):
        laps = Laps()
        result = peer.prepare(Diamonds(1))(laps)
        if result != Diamonds(1).expected:
            raise WrongResult(f"{peer.name}, a diamond: {str(result)[:200]}")
        found[DIAMOND].seconds += laps.seconds
        found[SUBMIT].seconds += laps.submits
    for _ in range(times):
        threading.Event().wait(IDLE_S)
        laps = Laps()
        marks = _marks(peer, FORK, laps)
        found[FIRST].seconds.append(marks[0][0] - laps.begun[0])
        _note(found[IDLE], between(marks))


def _note(latency: Latency, hop: float | None) -> None:
    if hop is None:
        latency.missed += 1
    else:
        latency.seconds.append(hop)


def _marks(peer: Peer, shape: Chains | Diamonds, laps: Laps) -> list[Mark]:
    result: list[Any] = peer.prepare(shape)(laps)
    marks: list[Mark] = result[0]
    if not in_order(marks, shape):
        raise WrongResult(f"{peer.name}, marks of {shape}: {str(marks)[:200]}")
    return marks


def in_order(marks: Sequence[Mark], shape: Chains | Diamonds) -> bool:
    """Tell whether each node has left a mark, and has begun after its upstreams had ended."""
    if len(marks) != shape.nodes or any(began > ended for began, ended, _ in marks):
        return False
    if isinstance(shape, Chains):
        return min(along(marks), default=0) >= 0
    first, *middle, last = marks
    return all(first[1] <= mark[0] and mark[1] <= last[0] for mark in middle)


def along(marks: Sequence[Mark]) -> list[float]:
    """Give the seconds between each mark and the next."""
    return [after[0] - before[1] for before, after in itertools.pairwise(marks)]


def between(marks: Sequence[Mark]) -> float | None:
    """Give after how long the first node of a diamond's middle began in another process; none did: nothing."""
    first, *middle, _ = marks
    elsewhere = [mark[0] for mark in middle if mark[2] != first[2]]
    return min(elsewhere) - first[1] if elsewhere else None
