"""How what is ready reaches a worker in the simulated store: lists by queue and lane, drains, and wake-ups."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

from flowq.core.types import FlowType
from flowq.runtime.events import Ref
from flowq.runtime.replies import Message, WakeUp
from tests.chaos.simulation.history import Event
from tests.chaos.simulation.kept import Stored

US = 1_000_000
"""Microseconds of a second: the clock's unit."""

WAKE_US = 3 * US

THREAD = FlowType.THREAD

Call: TypeAlias = tuple[str, int]
"""The thread that makes a call, and the call's number; a thread's calls come one after the other."""


class Delivery:
    """Ready lists, and the drains that work them off."""

    now: int
    history: list[Event]

    def clear(self) -> None:
        """Hold nothing."""
        self.runs: dict[str, Stored] = {}
        self.lists: dict[tuple[str, str], deque[tuple[str, Ref]]] = {}
        """What is ready, by queue and lane."""
        self.drains: dict[str, dict[str, int]] = {}
        """By queue and token: drains at work or about to start, with when they are taken for lost."""
        self.idle: dict[str, dict[str, int]] = {}
        """By queue and token: drains that listen for their bells, and until when."""
        self.rung: list[str] = []
        """Bells that this call has rung, by token."""
        self.slots: dict[str, dict[str, int]] = {}
        """By queue and worker."""
        self._touched: set[str] = set()

    def _enqueue(self, stored: Stored, ref: Ref) -> None:
        if stored.paused:
            stored.aside[ref] = None
            return
        node = stored.plan.nodes[ref.node]
        queue = node.queue or "main"
        lane = "thread" if node.placement is THREAD else "process"
        self.lists.setdefault((queue, lane), deque()).append((stored.id, ref))
        self._touched.add(queue)

    def _ring(self, queue: str, most: int) -> int:
        """Ring for up to so many drains that listen; gives how many there were."""
        idle = {token: until for token, until in self.idle.get(queue, {}).items() if until > self.now}
        rung = sorted(idle, key=lambda token: (idle[token], token), reverse=True)[:most]
        for token in rung:
            del idle[token]
            self.drains[queue][token] = self.now + WAKE_US
        self.idle[queue] = idle
        self.rung += rung
        return len(rung)

    def _wake_ups(self, call: Call) -> list[Message]:
        """As many as there are ready nodes and free slots; each is noted as a drain that is about to start."""
        wakes: list[Message] = []
        for queue in sorted(self._touched):
            drains = self.drains.setdefault(queue, {})
            for token in [token for token, expires in drains.items() if expires <= self.now]:
                del drains[token]
            waiting = len(self.lists.get((queue, "process"), ())) + len(self.lists.get((queue, "thread"), ()))
            rung = self._ring(queue, waiting)
            free = max(1, sum(self.slots.get(queue, {}).values())) - len(drains)
            for number in range(rung, waiting):
                token = f"{call[0]}.{call[1]}-{queue}-{number}"
                if token not in drains:
                    if free <= 0:
                        break
                    free -= 1
                    drains[token] = self.now + WAKE_US
                wakes.append(WakeUp(queue, token))
        return wakes
