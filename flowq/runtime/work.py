"""What a drain, a thread beside it or a node's own task has in hand: claims, and outcomes that are not stored yet."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from flowq.runtime.attempt import Outcome
from flowq.runtime.replies import Claimed
from flowq.runtime.scripts import OutcomeEntry

LATE_S = 0.25
"""What waits behind an attempt for so long is not to wait any longer."""


Outputs: TypeAlias = dict[tuple[str, int], Any]
"""By run and node: what was computed since the last settle, and so is not stored yet."""


class Ended(NamedTuple):
    """What came of a claim, or of several."""

    entries: list[OutcomeEntry]
    """Of the attempt, and of the nodes that were run ahead after it; none if it opened a map."""
    outcome: Outcome | None = None
    """Of the attempt; None if it opened a map, or lost its lease, or there are several."""
    is_lost: bool = False
    """It was stopped, or never began, as its lease is not its own any more."""


class Posted(NamedTuple):
    """Claims that are being stored while others run."""

    claims: list[Claimed]
    ended: Ended
    call: Any
    """Its reply is still to be received."""


def joined(several: Iterable[Ended]) -> Ended:
    """Give several as one, to be stored in one call."""
    return Ended([entry for ended in several for entry in ended.entries])


class Work:
    """Claims on their way: to be begun, running (one at most), and done.

    One thread runs them. Another one may take away what waits, if what runs takes long.
    """

    def __init__(self, claims: Iterable[Claimed] = ()) -> None:
        self.todo = deque(claims)
        self.began = 0.0
        """When the one that runs was begun, by the clock of whoever runs it; 0: none does."""
        self.is_relieved = False
        """Somebody else is storing what was done, just now."""
        self.is_stale = False
        """What is to be begun has waited for too long."""
        self._posted: Posted | None = None
        self._running: Claimed | None = None
        self._done: list[tuple[Claimed, Ended]] = []
        self._stored: list[Claimed] = []
        """Those that are being stored."""
        self._lock = threading.Lock()

    def __bool__(self) -> bool:
        """Tell whether something is to be begun, or to be stored."""
        return bool(self.todo or self._done or self._posted)

    @property
    def has_done(self) -> bool:
        """Something is to be stored that is not on its way."""
        return bool(self._done)

    @property
    def is_posted(self) -> bool:
        """Something is on its way to the store."""
        return self._posted is not None

    @property
    def held(self) -> list[Claimed]:
        """All claims that are not stored."""
        with self._lock:
            running = [] if self._running is None else [self._running]
            return [*self._stored, *(claim for claim, _ in self._done), *running, *self.todo]

    def is_late(self, now: float) -> bool:
        """Tell whether something has been waiting for too long behind what runs."""
        return bool(self.began and now - self.began > LATE_S and self)

    def begin(self, now: float) -> Claimed | None:
        """Give the first of the claims, which is run from now on; None: there is none (any more)."""
        with self._lock:
            if self.todo:
                self._running, self.began = self.todo.popleft(), now
            return self._running

    def end(self, ended: Ended) -> None:
        """It has ended so."""
        with self._lock:
            assert self._running is not None
            self._done.append((self._running, ended))
            self._running, self.began = None, 0.0

    def take_done(self) -> tuple[list[Claimed], Ended]:
        """Take what is done, to be stored; who cannot store it puts it back."""
        with self._lock:
            done, self._done = self._done, []
            claims = [claim for claim, _ in done]
            self._stored.extend(claims)
        return claims, done[0][1] if len(done) == 1 else joined(ended for _, ended in done)

    def post(self, posted: Posted) -> None:
        """What was taken is on its way."""
        self._posted = posted

    def take_posted(self) -> Posted | None:
        """Take what is on its way: whoever does so receives the reply."""
        with self._lock:
            posted, self._posted = self._posted, None
        return posted

    def take_waiting(self) -> tuple[list[Claimed], Ended]:
        """Take what is not begun, to be handed back."""
        with self._lock:
            claims = list(self.todo)
            self.todo.clear()
            self._stored.extend(claims)
        return claims, Ended([released(claim) for claim in claims])

    def be_relieved(self) -> bool:
        """Have another thread take what waits, unless what ran has ended by now. ``is_relieved`` until told."""
        with self._lock:
            self.is_relieved = bool(self.began)
        return self.is_relieved

    def take_late(self) -> tuple[list[Claimed], Ended]:
        """Take what is done, and what is not begun."""
        done, ended = self.take_done()
        waiting, back = self.take_waiting()
        return [*done, *waiting], joined([ended, back])

    def put_back(self, claims: list[Claimed], ended: Ended) -> None:
        """Take what could not be stored for done, and no more than that."""
        with self._lock:
            for claim in claims:
                self._stored.remove(claim)
            self._done[:0] = [(claim, Ended([])) for claim in claims[1:]] + [(claims[0], ended)]

    def stored(self, claims: list[Claimed]) -> None:
        """They are done with."""
        with self._lock:
            self._stored = [] if self._stored == claims else [claim for claim in self._stored if claim not in claims]


def released(claim: Claimed) -> OutcomeEntry:
    """Give the outcome of a claim that is handed back unstarted."""
    return OutcomeEntry(claim.key, None, claim.run, claim.fence, "released")
