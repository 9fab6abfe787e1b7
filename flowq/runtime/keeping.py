"""What all who run claims do: begin them, store what came of them, and give back what would have to wait.

A drain, a thread beside it and a node's own task share it; these are steps, as theirs are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from flowq.runtime.replies import Claimed, Next
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.steps import (
    AGAIN_S,
    AWAY,
    BATCH_S,
    Advance,
    Drop,
    Expect,
    Hold,
    Now,
    Pause,
    Post,
    Receive,
    Remind,
    Run,
    Send,
    Settle,
    Steps,
)
from flowq.runtime.work import Ended, Outputs, Posted, Work, joined

logger = logging.getLogger("flowq.worker")

FRESH_S = 0.05
"""Claims that have waited for longer are handed back: their run may have been cancelled or paused meanwhile, which
nobody else tells of before the next renewal; and others may have time for them."""

SPLIT = 8
"""Claims. Of fewer, it would not be worth another call to store some while the others run."""

RELIEVED_S = 0.002
"""How often a thread looks whether another one has stored what waited behind its attempt."""


class Asked(NamedTuple):
    """The claims that a settle asks for, and what goes on beside it."""

    process: int = 0
    thread: int = 0
    busy: int = 0
    batch: bool = False
    """The PROCESS nodes are run one after the other, and stored together if they are short."""
    listens_ms: int = 0
    """With nothing to take, the drain does not end, but listens for its bell for so long."""
    goes_on: bool = False
    """Other claims run meanwhile: so it gets none that must be alone."""


Ask: TypeAlias = Callable[[int], Steps[Asked]]


class Stored(NamedTuple):
    """Claims that are done with."""

    ended: Ended
    following: Next


class Keeping:
    """Stores what claims came to. One per drain or node task; shared by the threads beside it.

    Args:
        closing: tells whether this process is to end: then it begins nothing more.
        patience_s: how long a process that is to end goes on trying to store what it has. After a lease, what it
            holds is given to others anyway.
        split: of so many claims, some are stored while the others run.
        pace_s: what claims probably take.
    """

    def __init__(
        self, closing: Callable[[], bool], patience_s: float, split: int = SPLIT, pace_s: float = BATCH_S
    ) -> None:
        self.closing = closing
        self._split = split
        self.pace_s = pace_s
        """What claims take of late."""
        self.quickest_s: float | None = None
        """What the quickest batch took, for each of its claims; None: none was run."""
        self.is_puzzled = False
        """Something was claimed that this worker does not know."""
        self._patience_s = patience_s
        self._closed: float | None = None
        """When it was first seen that the process is to end."""

    def run(self, work: Work, ask: Ask, *, alone: bool = False, returns: bool = False) -> Steps[Stored]:
        """Run the first of the claims, and short ones after it, and store what came of them.

        Claims that would have to wait are handed back, all of them if the process is to end.
        ``ask`` finds out, anew for every try, what is asked for besides, given how many claims wait then.
        """
        yield from self._run(work, len(work.todo), alone, returns)
        return (yield from self._store_done(work, ask))

    def run_on(self, work: Work, ask: Ask, ask_on: Ask) -> Steps[Next]:
        """As ``run``; but of many claims, some run while what came of those before is being stored.

        Gives what has come of that by now, perhaps nothing. ``ask_on`` finds out what is asked for while others run.
        """
        if work.has_done and self._goes_on(work) and not work.is_posted:
            if (yield Expect(work.todo[0])) > BATCH_S:  # it is not to begin while others wait for it
                return (yield from self._store_done(work, ask)).following
            yield from self._post(work, ask_on)
        if self._goes_on(work):
            waiting = len(work.todo)
            yield from self._run(work, waiting if work.is_posted or waiting < self._split else waiting // 2)
        posted = work.take_posted()
        if posted is not None:
            return (yield from self._receive(work, posted, ask))
        if self._goes_on(work):
            return Next([], [])
        return (yield from self._store_done(work, ask)).following

    def _goes_on(self, work: Work) -> bool:
        return bool(work.todo) and not work.is_stale and not self.closing()

    def _run(self, work: Work, most: int, alone: bool = False, returns: bool = False) -> Steps[None]:
        """Run the first of the claims, and short ones after it, so many at most."""
        began = now = yield Now()
        begun = 0
        outputs: Outputs = {}
        while work.todo and begun < most and not self.closing():
            expected = yield Expect(work.todo[0])
            if begun and now - began + expected > BATCH_S:
                break
            if expected > BATCH_S and work.is_posted:
                break  # what else is to be handed back comes first
            if expected > BATCH_S and len(work.todo) > 1:
                yield from self._hand_back(work)
            claim = work.begin(now)
            if claim is None:
                break
            ended, now = yield Run(claim, outputs, alone, returns)
            work.end(ended)
            begun += 1
            if expected > BATCH_S:  # perhaps only as it was not known; it is now
                expected = yield Expect(claim)
            self.pace_s = max((now - began) / begun, expected)
            self.quickest_s = self.pace_s if self.quickest_s is None else min(self.quickest_s, self.pace_s)
        while work.is_relieved:
            yield Pause(RELIEVED_S)
        work.is_stale = (bool(work.todo) or work.is_posted) and now - began > FRESH_S

    def _post(self, work: Work, ask: Ask) -> Steps[None]:
        claims, ended = work.take_done()
        asked = yield from ask(len(work.todo))
        work.post(Posted(claims, ended, (yield Post(Settle(ended.entries, True, *asked)))))

    def _receive(self, work: Work, posted: Posted, ask: Ask) -> Steps[Next]:
        try:
            following: Next = yield Receive(posted.call)
        except AWAY as error:
            logger.warning(
                "outcomes were not stored (%s); that is tried again: %s", error, _names(posted.ended.entries)
            )
            following = yield from self._store(posted.ended, ask, len(work.todo))
        yield from self._stored(work, posted.claims, posted.ended)
        return following

    def _store_done(self, work: Work, ask: Ask) -> Steps[Stored]:
        claims, ended = work.take_done()
        if work.todo and not self._goes_on(work):
            waiting, back = work.take_waiting()
            claims, ended = [*claims, *waiting], joined([ended, back])
        work.is_stale = False
        following = yield from self._store(ended, ask, len(work.todo))
        yield from self._stored(work, claims, ended)
        return Stored(ended, following)

    def _hand_back(self, work: Work) -> Steps[None]:
        """Hand back all claims but the first one, which will take long."""
        first = work.todo.popleft()
        yield from self._relieve(work, *work.take_waiting())
        work.todo.appendleft(first)

    def relieve(self, work: Work) -> Steps[None]:
        """Store what waits behind an attempt that takes long, and hand back what it keeps from being begun.

        These are steps of another thread than the one that runs the attempt.
        """
        try:
            if work.be_relieved():
                yield from self._receive_late(work)
                yield from self._relieve(work, *work.take_late())
        finally:
            work.is_relieved = False

    def _receive_late(self, work: Work) -> Steps[None]:
        """Receive what is on its way, so that it is handed back, too."""
        posted = work.take_posted()
        if posted is not None:
            yield from self._store_once(work, posted.claims, posted.ended, Receive(posted.call))

    def _relieve(self, work: Work, claims: list[Claimed], ended: Ended) -> Steps[None]:
        if claims:
            settle = Settle(ended.entries, inline=False, busy=1)
            yield from self._store_once(work, claims, ended, settle)

    def _store_once(self, work: Work, claims: list[Claimed], ended: Ended, call: Settle | Receive) -> Steps[None]:
        """Store what claims came to, if the store can be used now; else it is kept."""
        try:
            following: Next = yield call
        except BaseException as error:
            work.put_back(claims, ended)
            if not isinstance(error, AWAY):
                raise
            logger.warning("outcomes cannot be stored now (%s); they are kept: %s", error, _names(ended.entries))
            return
        yield from self._stored(work, claims, ended)
        yield from follow_up(following)
        work.todo.extend(following.claims)

    def _stored(self, work: Work, claims: list[Claimed], ended: Ended) -> Steps[None]:
        work.stored(claims)
        yield Drop(claims)
        for entry in ended.entries:
            self.is_puzzled = self.is_puzzled or entry.kind == "unknown"
            if entry.retry and not entry.returns:
                yield Remind(entry.delay_ms / 1000)

    def _store(self, ended: Ended, ask: Ask, waiting: int) -> Steps[Next]:
        """Settle until it is stored, or counts no longer: until then the leases are held.

        Raises:
            Exception: one of AWAY, if the process is to end and its patience has.
        """
        entries = ended.entries
        while True:
            asked = yield from ask(waiting)
            try:
                following: Next = yield Settle(entries, not self.closing(), *asked)
            except AWAY as error:
                if not entries:  # nothing is lost: it only asked for more
                    return Next([], [])
                if (yield from self._gives_up()):
                    raise
                logger.warning("outcomes cannot be stored now (%s); they are kept: %s", error, _names(entries))
                yield Pause(AGAIN_S)
            else:
                return following

    def _gives_up(self) -> Steps[bool]:
        if not self.closing():
            return False
        now: float = yield Now()
        self._closed = now if self._closed is None else self._closed
        return now - self._closed >= self._patience_s


def _names(entries: Sequence[OutcomeEntry]) -> str:
    return ", ".join(f"{entry.run} {entry.key}" for entry in entries)


def follow_up(following: Next) -> Steps[None]:
    """Do what a reply asks for besides running its claims."""
    if following.claims:
        yield Hold(following.claims)  # first: a broker that is away may keep us for long
    try:
        if following.messages:
            yield Send(following.messages)
        for run in following.unfinished:
            left = True
            while left:
                left, messages = yield Advance(run)
                yield Send(messages)
    except Exception as error:  # messages are hints, and the sweep goes on with consequences: claims are not to suffer
        logger.warning("what follows from a settle is left to the sweep (%s)", error)
