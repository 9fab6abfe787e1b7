"""How long it takes from the end of a node to the begin of the next: in a worker, and from one worker to another."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from typing import Any, TypeAlias

from flowq import FunctionFlow, flow, task
from flowq.core.types import FlowStatus
from flowq.testing.fleet import use
from tests.bench.compare.flowq_peer import FlowqPeer

Mark: TypeAlias = tuple[float, float, int]
"""When a node's body began and ended, by the clock that all processes of a machine share, and in which process."""

NAP_MS = 10
"""Of two nodes side by side: so long that the worker of the first is not free for the second too soon."""

IDLE_S = 0.5
"""After so long with nothing to do, a worker has settled down."""


@task
def mark(before: list[Mark], nap_ms: int = 0) -> Mark:
    began = time.monotonic()
    time.sleep(nap_ms / 1000)
    return began, time.monotonic(), os.getpid()


@dataclass(frozen=True)
class Hops:
    """Latencies of one kind."""

    what: str
    seconds: list[float]
    missed: int = 0
    """How often there was none to measure: one worker did it all."""

    @property
    def p50_ms(self) -> float:
        return median(self.seconds) * 1000 if self.seconds else float("nan")

    @property
    def p99_ms(self) -> float:
        return quantiles(self.seconds, n=100, method="inclusive")[98] * 1000 if len(self.seconds) > 1 else self.p50_ms


def measure_hops(length: int, times: int) -> list[Hops]:
    """Measure on two workers of flowq."""
    peer = FlowqPeer("pull", include=[__name__])
    peer.start()
    try:
        chain, fork, forks = chain_of(length), forks_of(1), forks_of(times)
        _run(peer, forks_of(4))  # connections stand, and workers know what to do
        in_chain = along(_run(peer, chain)[1])
        across, missed = between(_run(peer, forks)[1])
        first, from_idle, missed_idle = [], list[float](), 0
        for _ in range(times):
            threading.Event().wait(IDLE_S)
            submitted, marks = _run(peer, fork)
            first.append(marks[0][0] - submitted)
            found, none = between(marks)
            from_idle, missed_idle = from_idle + found, missed_idle + none
        return [
            Hops("in a chain", in_chain),
            Hops("to another worker that has just been busy", across, missed),
            Hops("to another worker, all idle before the run", from_idle, missed_idle),
            Hops("from the submission to the first node, all idle", first),
        ]
    finally:
        peer.stop()


def idle_cores(seconds: float) -> dict[str, float]:
    """Give which part of a core the server and each worker use with nothing to do; on Linux only."""
    peer = FlowqPeer("pull")
    peer.start()
    try:
        peer.warm_up()
        threading.Event().wait(IDLE_S)
        peer.resume()
        before, began = peer.cpu_s_each(), time.monotonic()
        threading.Event().wait(seconds)
        took = time.monotonic() - began
        used = [(after - then) / took for after, then in zip(peer.cpu_s_each(), before, strict=True)]
        return {"the server": used[0], "each worker": sum(used[1:]) / 2} if sys.platform == "linux" else {}
    finally:
        peer.stop()


def chain_of(length: int) -> FunctionFlow[..., Any]:
    """Marks one after the other."""

    @flow(name="marks")
    def made() -> list[Mark]:
        marks: list[Mark] = []
        for _ in range(length):
            marks.append(mark(marks[-1:]))
        return marks

    return made


def forks_of(count: int) -> FunctionFlow[..., Any]:
    """One mark, then two side by side, then one after both, and so on: two workers are busy in turn."""

    @flow(name="forks")
    def made() -> list[Mark]:
        marks: list[Mark] = []
        for _ in range(count):
            fork = mark(marks[-2:])
            marks += [fork, mark([fork], NAP_MS), mark([fork], NAP_MS)]
        return marks

    return made


def along(marks: Sequence[Mark]) -> list[float]:
    """Give the seconds between each mark and the next."""
    return [after[0] - before[1] for before, after in itertools.pairwise(marks)]


def between(marks: Sequence[Mark]) -> tuple[list[float], int]:
    """Give for each fork after how long its second node began, elsewhere; and how many forks stayed in one process."""
    found, missed = [], 0
    for i in range(0, len(marks), 3):
        fork, left, right = marks[i : i + 3]
        elsewhere = [node for node in (left, right) if node[2] != fork[2]]
        if left[2] == right[2] or not elsewhere:
            missed += 1
        else:
            found.append(max(node[0] for node in elsewhere) - fork[1])
    return found, missed


def _run(peer: FlowqPeer, made: FunctionFlow[..., Any]) -> tuple[float, list[Mark]]:
    """Give when a run was submitted, and its marks."""
    with use(peer.context):
        made.plan()
    submitted = time.monotonic()
    result = made.submit(context=peer.context).result()
    if result.status is not FlowStatus.COMPLETED:
        raise RuntimeError(f"{made.name}: {result.status}: {result.error}")
    return submitted, [(mark[0], mark[1], mark[2]) for mark in result.output]
