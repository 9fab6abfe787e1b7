"""What can become of a request on its way to the server, or of its reply on the way back."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Protocol


class Fault(StrEnum):
    """Each ends the connection, but for TWICE and DELAY."""

    DROP = "drop"
    """The server carries the request out; its reply is lost."""
    CUT = "cut"
    """The request does not reach the server."""
    TWICE = "twice"
    """The server carries it out twice; one reply comes."""
    DELAY = "delay"
    """The reply takes its time."""
    TORN = "torn"
    """The connection breaks in the middle of the reply."""
    LATE = "late"
    """The connection breaks, and the request reaches the server later: after its repetition, and what followed it."""


Rates = Mapping[Fault, float]

EVEN: Rates = {
    Fault.DROP: 0.05,
    Fault.CUT: 0.02,
    Fault.TWICE: 0.03,
    Fault.DELAY: 0.02,
    Fault.TORN: 0.02,
    Fault.LATE: 0.02,
}
"""All of them; every sixth request meets one."""

OF_SESSIONS = frozenset({"AUTH", "CLIENT", "DISCARD", "EXEC", "HELLO", "MULTI", "SELECT", "UNWATCH", "WATCH"})
"""They mean their connection, so they cannot come twice, or by another one."""

BLOCKING = frozenset({"BLMOVE", "BLMPOP", "BLPOP", "BRPOP", "BRPOPLPUSH", "BZPOPMIN", "XREAD"})
"""Their replies come when there is something: who repeats them takes more of it."""

SUBSCRIBING = frozenset({"PSUBSCRIBE", "PUNSUBSCRIBE", "SSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"})
"""After one of these, what comes back is no reply."""

_BOUND = {Fault.TWICE, Fault.LATE}


class Chooses(Protocol):
    """Says what becomes of a request. Called by the proxy's thread."""

    def __call__(self, command: str, *, in_transaction: bool) -> Fault | None: ...


class ByRate:
    """Faults at random, the same for the same seed and order of requests."""

    def __init__(self, seed: int, rates: Rates) -> None:
        self._random = random.Random(seed)
        self._faults, self._weights = list(rates), list(rates.values())
        self._share = sum(self._weights)

    def __call__(self, command: str, *, in_transaction: bool) -> Fault | None:
        if self._random.random() >= self._share:
            return None
        (fault,) = self._random.choices(self._faults, self._weights)
        bound = in_transaction or command in OF_SESSIONS or command in BLOCKING or command in SUBSCRIBING
        return Fault.CUT if bound and fault in _BOUND else fault


class Armed:
    """No fault, until a test arms one for the next scripts; what reads and connects is spared."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._next: list[Fault] = []
        self._was_lost = False
        self.on_repetition: Callable[[], None] = lambda: None
        """Called before a request whose reply (or first try) was lost comes again."""

    def arm(self, *faults: Fault) -> None:
        """Let these happen to the next scripts, one each."""
        with self._lock:
            self._next = list(faults)

    @property
    def left(self) -> int:
        """How many are still to happen."""
        return len(self._next)

    def __call__(self, command: str, *, in_transaction: bool) -> Fault | None:
        if command not in ("FCALL", "EVAL", "EVALSHA"):
            return None
        if self._was_lost:
            self.on_repetition()
        with self._lock:
            fault = self._next.pop(0) if self._next else None
            self._was_lost = fault not in (None, Fault.DELAY, Fault.TWICE)
            return fault


class Happened(Counter[Fault]):
    """How often each fault has happened."""

    @property
    def lost_replies(self) -> int:
        """Requests that the server has carried out, and whose callers have not learnt it."""
        return self[Fault.DROP] + self[Fault.TORN] + self[Fault.LATE]

    def __str__(self) -> str:
        return ", ".join(f"{fault} {self[fault]}" for fault in Fault if self[fault]) or "none"
