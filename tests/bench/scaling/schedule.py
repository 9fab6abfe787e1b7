"""How soon a graph can be done on so many slots, if nothing but its own nodes takes time.

List scheduling (Graham, 1966): whenever a slot is free, it takes a ready node; here the one from which the longest path
leads to the end (the critical path first). No order is always the best one, and finding that is hard; this one is at
most twice as long as the best, and in practice a few per cent.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence


def list_schedule(upstreams: Sequence[Sequence[int]], durations: Sequence[float], slots: int) -> float:
    """Give the makespan of the list schedule, in the unit of the durations; each node comes after its upstreams."""
    tails = _tails(upstreams, durations)
    downstreams = _downstreams(upstreams)
    waiting = [len({*before}) for before in upstreams]
    ready = [(-tails[number], number) for number, left in enumerate(waiting) if not left]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            _, number = heapq.heappop(ready)
            heapq.heappush(running, (now + durations[number], number))
        now, ended = heapq.heappop(running)
        for number in downstreams[ended]:
            waiting[number] -= 1
            if not waiting[number]:
                heapq.heappush(ready, (-tails[number], number))
    return now


def lower_bound(upstreams: Sequence[Sequence[int]], durations: Sequence[float], slots: int) -> float:
    """Give what no schedule can beat: the longest path, or all work spread evenly."""
    return max(max(_tails(upstreams, durations), default=0), sum(durations) / slots)


def _tails(upstreams: Sequence[Sequence[int]], durations: Sequence[float]) -> list[float]:
    """Give the length of the longest path from each node on, itself included."""
    tails = [*durations]
    for number in reversed(range(len(durations))):
        for upstream in upstreams[number]:
            tails[upstream] = max(tails[upstream], durations[upstream] + tails[number])
    return tails


def _downstreams(upstreams: Sequence[Sequence[int]]) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in upstreams]
    for number, before in enumerate(upstreams):
        for upstream in {*before}:
            found[upstream].append(number)
    return found
