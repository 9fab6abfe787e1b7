"""What a drain does on a wake-up, as steps: claim, run, settle, until nothing is ready or its time slice ends.

::

    claim ──▶ hold ──▶ run ──▶ settle ──▶ hold ──▶ run ──▶ …      every settle brings the next claims along
                 └──▶ start a thread:  run ──▶ settle ──▶ …       a THREAD node, and then the next one

A drain holds one Celery slot. Its own steps run PROCESS and INLINE nodes one after the other, several short ones to a
settle; of many, some run while what came of those before is on its way to the store, so that neither waits for the
other. Beside them, THREAD nodes run in threads. It ends in the very call that finds nothing while nothing of it is
busy: so no wake-up is missed.

When its process is to close, it asks for nothing more, stores what it has run, and hands back what it has not begun.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from flowq.runtime.keeping import SPLIT, Asked, Keeping, follow_up
from flowq.runtime.replies import Claimed, Next
from flowq.runtime.steps import (
    AWAY,
    BATCH_S,
    MOST,
    AwaitThread,
    Claim,
    FindThreads,
    Listen,
    Now,
    StartThread,
    Steps,
)
from flowq.runtime.work import Work

logger = logging.getLogger("flowq.worker")

LOOK_S = 0.05
"""While only threads are busy, the drain's own steps look for work this often: a wake-up could not reach it."""


class DrainSteps:
    """One answer to one wake-up.

    Args:
        slice_s: how long it goes on asking for more.
        linger_s: how long it listens for more after it has found nothing.
        threads: how many THREAD nodes it may run at once.
        patience_s: how long it tries to store what it has when it is to close.
        closing: tells whether its process is to close.
        split: of so many claims, some are stored while the others run.
        pace_s: what claims probably take.
    """

    def __init__(
        self,
        slice_s: float,
        linger_s: float,
        threads: int,
        patience_s: float,
        closing: Callable[[], bool],
        split: int = SPLIT,
        pace_s: float = BATCH_S,
    ) -> None:
        self._slice_s, self._linger_s, self._most = slice_s, linger_s, threads
        self._closing = closing
        self._keeping = Keeping(closing, patience_s, split, pace_s)
        self._ends = 0.0
        self._busy = 0
        """What was busy in this drain, beside what the last call was about."""
        self._over = False
        """The last call found nothing while nothing was busy: the drain has ended in the store."""
        self._listens_s = 0.0
        """It has not ended then, but listens for its bell for so long."""
        self._idle_since: float | None = None
        """When it found nothing first, since it last found something."""
        self.threads = 0
        """Those at work. Whoever drives the steps counts them: up at StartThread, down when one's steps have ended."""

    @property
    def quickest_s(self) -> float | None:
        """What the quickest batch took, for each of its claims; None: none was run."""
        return self._keeping.quickest_s

    def main(self, work: Work) -> Steps[None]:
        """Work until nothing is ready or the time slice is over; ``work`` holds what is claimed and not stored."""
        self._ends = (yield Now()) + self._slice_s
        following = yield from self._claim()
        while True:
            work.todo.extend(following.claims)
            yield from follow_up(following)
            yield from self._start_threads(following.claims, work)
            if work:
                following = yield from self._work(work)
            elif self._over and not self._listens_s:
                return
            elif self._over:
                following = yield from self._listen()
            else:
                following = yield from self._look()

    def beside(self, work: Work) -> Steps[None]:
        """Run a THREAD node, the inline ones that follow from it, and then the next THREAD node."""
        while work:
            _, following = yield from self._keeping.run(work, self._ask_beside)
            work.todo.extend(following.claims)
            yield from follow_up(following)

    def relieve(self, work: Work) -> Steps[None]:
        """Let nothing wait behind an attempt that takes long. These are steps of a thread of their own."""
        yield from self._keeping.relieve(work)

    def _start_threads(self, claims: list[Claimed], work: Work) -> Steps[None]:
        """Start threads for the claims that are for them; the others stay."""
        if not claims:
            return
        for claim in (yield FindThreads(claims)):
            try:
                yield StartThread(claim)
                work.todo.remove(claim)
            except Exception as error:  # then it is run here
                logger.warning("no thread can be started for the claim %s (%s)", claim.lease, error)

    def _work(self, work: Work) -> Steps[Next]:
        """Run the first of the claims, and short ones after it, and settle them; the others wait."""
        following = yield from self._keeping.run_on(work, self._ask, self._ask_on)
        yield from self._found(following, is_busy=bool(work))
        return following

    def _look(self) -> Steps[Next]:
        """Look for more beside the threads; once there is no more time for that, wait for them."""
        while self.threads:
            yield AwaitThread(LOOK_S)
            if (yield from self._open()):
                break
        return (yield from self._claim())

    def _listen(self) -> Steps[Next]:
        """Wait for the bell, and take what it rings for.

        That call is on its way before it is known when it is made, and by whom its reply is read: so it takes nothing
        that must be alone, and does not end the drain.
        """
        seconds = self._listens_s
        asked = yield from self._ask(0, goes_on=True)
        try:
            following: Next = yield Listen(seconds, Claim(*asked._replace(busy=1, listens_ms=0)))
        except AWAY:  # the next call will say so
            following = Next([], [])
        if not following.claims:
            yield from follow_up(following)
            return (yield from self._claim())
        yield from self._found(following)
        return following

    def _claim(self) -> Steps[Next]:
        asked = yield from self._ask(0)
        try:
            following: Next = yield Claim(*asked)
        except AWAY as error:  # no threads left: another wake-up comes when the store is back
            logger.warning("the store does not answer (%s): no nodes can be claimed now", error)
            following, self._listens_s = Next([], []), 0.0
        yield from self._found(following)
        return following

    def _found(self, following: Next, *, is_busy: bool = False) -> Steps[None]:
        self._over = not is_busy and not self._busy and not following.claims
        if following.claims:
            self._idle_since = None
        elif self._over and self._idle_since is None:
            self._idle_since = yield Now()

    def _ask(self, waiting: int, *, goes_on: bool = False) -> Steps[Asked]:
        is_open = yield from self._open()
        self._busy = waiting + self.threads
        free = max(0, self._most - self.threads)
        listens_ms = (yield from self._linger()) if is_open and not self._busy else 0
        self._listens_s = listens_ms / 1000
        most = max(1, min(MOST, int(BATCH_S / max(self._keeping.pace_s, BATCH_S / MOST))))
        process = 0 if waiting and not goes_on else is_open * most
        return Asked(process, free * is_open, self._busy, batch=True, listens_ms=listens_ms, goes_on=goes_on)

    def _linger(self) -> Steps[int]:
        """Give for how many milliseconds it would listen, should it find nothing."""
        now: float = yield Now()
        idle_s = 0.0 if self._idle_since is None else now - self._idle_since
        return max(0, int(1000 * min(self._linger_s - idle_s, self._ends - now)))

    def _ask_on(self, waiting: int) -> Steps[Asked]:
        """Ask for more while the claims that wait run."""
        return (yield from self._ask(waiting, goes_on=True))

    def _ask_beside(self, waiting: int) -> Steps[Asked]:
        return Asked(thread=0 if waiting else (yield from self._open()), busy=1)

    def _open(self) -> Steps[int]:
        """Give 1 while it may ask for more, else 0: also once it has met what others may know and this worker does not,
        as it would get it again before them."""
        return 0 if self._closing() or self._keeping.is_puzzled else int((yield Now()) < self._ends)
