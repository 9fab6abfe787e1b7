"""The steps of whoever runs claims: what it asks for, one thing at a time, and how an outcome is stored.

A drain, a thread beside it and a node's own task are generators that yield these requests and are sent what came of
them. They know no clock, connection or thread: a worker drives them with real ones (``driver``), a simulation with
virtual ones. A request that fails raises in the generator.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from flowq.core.errors import StoreFullError, StoreUnavailableError
from flowq.runtime.attempt import Outcome
from flowq.runtime.scripts import Claimed, Message, Next, OutcomeEntry, outcome_entry

logger = logging.getLogger("flowq.worker")

T = TypeVar("T")

AWAY = (StoreUnavailableError, StoreFullError)
"""What is raised while the store cannot be used, after the connection's own retries: a while later it may go."""

FRESH_S = 0.05
"""Claims that have waited for longer are handed back: their run may have been cancelled or paused meanwhile, which
nobody else tells of before the next renewal; and others may have time for them."""

AGAIN_S = 0.5
"""The pause before a call on a store that is away is made again. The connection's own retries have waited already,
unless the store is full: then it answers at once."""


class Ended(NamedTuple):
    """What came of a claim."""

    entries: list[OutcomeEntry]
    """Of the attempt, and of the nodes that were fused to it; none if it opened a map."""
    values: list[bytes]
    outcome: Outcome | None = None
    """Of the attempt; None if it opened a map, or lost its lease."""
    is_lost: bool = False
    """It was stopped, or never began, as its lease is not its own any more."""


# ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class Claim(NamedTuple):
    """Call ``claim``, which gives Next."""

    process: int
    thread: int
    busy: int


class Settle(NamedTuple):
    """Call ``settle``, which gives Next."""

    outcomes: Sequence[OutcomeEntry]
    values: Sequence[bytes] = ()
    inline: bool = True
    process: int = 0
    thread: int = 0
    busy: int = 0


class Advance(NamedTuple):
    """Call ``advance``, which gives whether something is left, and messages."""

    run: str


class Run(NamedTuple):
    """Run a claim, which gives Ended."""

    claim: Claimed
    alone: bool = False
    returns: bool = False


class Send(NamedTuple):
    """Send messages."""

    messages: Sequence[Message]


class Hold(NamedTuple):
    """Keep these claims' leases from now on."""

    claims: Sequence[Claimed]


class Drop(NamedTuple):
    """Keep this claim's lease no longer."""

    claim: Claimed


class Remind(NamedTuple):
    """Sweep after so many seconds: a retry is due then."""

    seconds: float


class Now(NamedTuple):
    """Read this process's clock: seconds, from any moment on."""


class Pause(NamedTuple):
    """Wait so long."""

    seconds: float


class IsThreads(NamedTuple):
    """Find out whether a claim's node is placed in a thread."""

    claim: Claimed


class StartThread(NamedTuple):
    """Start a thread beside the drain that begins with this claim."""

    claim: Claimed


class AwaitThread(NamedTuple):
    """Wait until one of the drain's threads has ended, at most so long."""

    seconds: float


Request: TypeAlias = (
    Claim | Settle | Advance | Run | Send | Hold | Drop | Remind | Now | Pause | IsThreads | StartThread | AwaitThread
)

Steps: TypeAlias = Generator[Request, Any, T]


# ── what all of them do ───────────────────────────────────────────────────────────────────────────────────────────────


class Asked(NamedTuple):
    """The claims that a settle asks for, and what goes on beside it."""

    process: int = 0
    thread: int = 0
    busy: int = 0


Ask: TypeAlias = Callable[[int], Steps[Asked]]


class Stored(NamedTuple):
    """A claim that is done with."""

    ended: Ended
    following: Next


class Keeping:
    """Stores what claims came to. One per drain or node task; shared by the threads beside it.

    Args:
        closing: tells whether this process is to end: then it begins nothing more.
        patience_s: how long a process that is to end goes on trying to store what it has. After a lease, what it
            holds is given to others anyway.
    """

    def __init__(self, closing: Callable[[], bool], patience_s: float) -> None:
        self.closing = closing
        self._patience_s = patience_s
        self._closed: float | None = None
        """When it was first seen that the process is to end."""

    def run(self, todo: deque[Claimed], ask: Ask, *, alone: bool = False, returns: bool = False) -> Steps[Stored]:
        """Run the first of the claims and store what came of it; hand all of them back if the process is to end.

        ``ask`` finds out, anew for every try, what is asked for besides, given how many claims wait then.
        """
        if self.closing():
            claims, ended = list(todo), Ended([released(claim) for claim in todo], [])
        else:
            began = yield Now()
            claims, ended = [todo[0]], (yield Run(todo[0], alone, returns))
            if len(todo) > 1 and (yield Now()) - began > FRESH_S:
                claims = list(todo)
                ended = ended._replace(entries=[*ended.entries, *(released(claim) for claim in claims[1:])])
        following = yield from self._store(ended, ask, len(todo) - len(claims))
        for claim in claims:
            todo.popleft()
            yield Drop(claim)
        for entry in ended.entries:
            if entry["retry"] and not entry["returns"]:
                yield Remind(entry["delay_ms"] / 1000)
        return Stored(ended, following)

    def _store(self, ended: Ended, ask: Ask, waiting: int) -> Steps[Next]:
        """Settle until it is stored, or counts no longer: until then the leases are held.

        Raises:
            Exception: one of AWAY, if the process is to end and its patience has.
        """
        entries = ended.entries
        needs_inline = any(entry["fused"] for entry in entries)  # else what was run already would be given to others
        while True:
            asked = yield from ask(waiting)
            inline = needs_inline or not self.closing()
            try:
                following: Next = yield Settle(entries, ended.values, inline, *asked)
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
    return ", ".join(f"{entry['run']} {entry['key']}" for entry in entries)


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


def released(claim: Claimed) -> OutcomeEntry:
    """Give the outcome of a claim that is handed back unstarted."""
    return outcome_entry(claim.run, claim.key, claim.fence, "released")
