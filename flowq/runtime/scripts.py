"""The scripts that change runs: one ``.lua`` file, one stub of the same name. Nothing else writes to a run.

A script's first line declares its header, ``-- name: field field …``; a stub's keyword arguments are these fields, and
that both agree is checked when this module is imported. Every header also has ``call`` (unique; the same when a call is
repeated), ``holder`` (the calling process) and the settings ``…_ms``.

redis-py repeats a call whose reply was lost, without a word: every script may be replayed, and gives the same reply
again.
"""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis
from pydantic_core import to_json

from flowq.core.config import Settings
from flowq.core.errors import StateError, StoreUnavailableError
from flowq.runtime.callers import Callers
from flowq.runtime.library import LIBRARY, Installed
from flowq.runtime.replies import (
    Changed,
    Message,
    Next,
    Picked,
    Submitted,
    Swept,
    changed_of,
    claimed,
    claims_of,
    messages_of,
    next_of,
    submitted_of,
    text_or_none,
)

WAKE_S = 3.0
"""A wake-up that nobody has answered after so long is taken for lost, and sent again by the next sweep."""


class OutcomeEntry(NamedTuple):
    """How one attempt ended, as ``settle`` records it. In a batch, most differ in what stands first alone."""

    key: str
    value: bytes | None
    """Packed; None: there is none."""
    run: str
    fence: int
    kind: str
    """``completed``, ``failed``, ``skipped``, ``released``, or ``unknown``: this worker does not know the processor."""
    failure: str = ""
    retry: bool = False
    delay_ms: int = 0
    timed_out: bool = False
    fused: bool = False
    """Run after its only upstream in the same claim; its fence is found by the script."""
    alone: bool = False
    """In a canvas: its message stood outside of its segment, so that Celery does not go on after it."""
    returns: bool = False
    """In a canvas: its message comes again by itself when it is to be retried."""
    kept: str = ""
    """The value lies beside the runs under this name. A server that has come back may have lost it, and what it was
    told last: then the node runs again."""


_HOW = OutcomeEntry._fields[2:]


def lean(outcomes: Iterable[OutcomeEntry]) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Give outcomes as ``settle`` reads them, and their values: without what says nothing, and those as one that differ
    in nothing but the node and its value."""
    entries: list[dict[str, Any]] = []
    values: list[bytes] = []
    before: tuple[Any, ...] = ()
    for outcome in outcomes:
        key, value = outcome[:2]
        how = value is None, *outcome[2:]
        if how == before:
            entries[-1]["keys"].append(key)
        else:
            entry = {name: said for name, said in zip(_HOW, outcome[2:], strict=True) if said or name == "fence"}
            entries.append({**entry, "keys": [key], **({} if value is None else {"value": len(values) + 2})})
            before = how
        if value is not None:
            values.append(value)
    return entries, values


class Scripts:
    """All changes of runs. One instance serves any number of threads."""

    def __init__(self, client: redis.Redis, settings: Settings) -> None:
        self._settings = settings
        self._prefix = settings.prefix
        self._installed = Installed(client, LIBRARY)
        self._pid, self._callers = os.getpid(), Callers()
        self.unanswered = float("-inf")
        """When the last call was given up without a reply, by ``time.monotonic()``: what it did is not known."""
        # Who lives renews within this time after the server has come back.
        grace_s = min(settings.lease_s, 1.5 * settings.renew_s + 0.5)
        given_s = {"lease_ms": settings.lease_s, "grace_ms": grace_s, "unknown_ms": settings.unknown_s}
        self._settings_ms = {name: int(seconds * 1000) for name, seconds in given_s.items()}
        self.holder = os.urandom(8).hex()
        """This process, as its claims name it."""

    def define(self, *, plan: str, values: Sequence[str | bytes]) -> None:
        """Store a piece of a plan, or of a canvas of it: field, value, field, …"""
        self._run("define", locals(), values)

    def submit(
        self,
        *,
        runs: Sequence[str],
        plan: str,
        name: str,
        process_id: str,
        queue: str,
        queues: Sequence[str],
        retention_ms: int,
        total: int,
        values: Sequence[bytes],
        canvas: str = "",
        held: bool = False,
        parked: str = "",
        asked: Sequence[str] = (),
        deadline_ms: int = 0,
        most_open: int = 0,
    ) -> Submitted:
        """Start runs, if their plan is defined, each if there is room for it; ``values`` are their inputs."""
        return submitted_of(self._run("submit", locals(), values))

    def claim(
        self,
        *,
        worker: str,
        token: str,
        queue: str,
        process: int,
        thread: int,
        busy: int,
        batch: bool = False,
        listens_ms: int = 0,
        goes_on: bool = False,
        rung: bool = False,
    ) -> Next:
        """Take ready nodes; with nothing to take and nothing ``busy``, the drain has ended (or listens for so long)."""
        return claimed(self._run("claim", locals()))

    def pick(self, *, worker: str, run: str, key: str) -> Picked:
        """Claim one node, as its own message asks."""
        claims, messages, status, wait_ms, held, starts = self._run("pick", locals())
        return Picked(
            claims_of(claims), messages_of(messages), status.decode(), wait_ms / 1000, bool(held), bool(starts)
        )

    def settle(
        self,
        *,
        worker: str,
        outcomes: Iterable[OutcomeEntry],
        inline: bool,
        token: str = "",
        queue: str = "",
        process: int = 0,
        thread: int = 0,
        busy: int = 0,
        batch: bool = False,
        listens_ms: int = 0,
        goes_on: bool = False,
    ) -> Next:
        """Record outcomes and take the next nodes; who is no drain (no token) gets inline nodes at most."""
        entries, values = lean(outcomes)
        return next_of(self._run("settle", locals() | {"outcomes": entries}, values))

    def extend(
        self, *, run: str, key: str, fence: int, offset: int, total: int, values: Sequence[bytes]
    ) -> tuple[bool, list[Message]]:
        """Open items of a claimed map; False: the claim is no longer valid."""
        counted, messages = self._run("extend", locals(), values)
        return bool(counted), messages_of(messages)

    def advance(self, *, run: str) -> tuple[bool, list[Message]]:
        """Go on with the consequences of a settle; True: some are left."""
        left, messages = self._run("advance", locals())
        return bool(left), messages_of(messages)

    def renew(self, *, leases: Sequence[str], tokens: Sequence[str]) -> tuple[list[int], list[Message]]:
        """Say that this process lives and holds these leases and drains, and no others.

        Gives the positions of the leases that are lost.
        """
        lost, messages = self._run("renew", locals())
        return lost, messages_of(messages)

    def vouch(self, *, holders: Sequence[str]) -> list[str]:
        """Say for other processes that they live; gives their leases that are lost, ``holder run key fence``."""
        return [lease.decode() for lease in self._run("vouch", locals())]

    def bury(self, *, holders: Sequence[str], tokens: Sequence[str], crashed: bool, running: str = "") -> list[Message]:
        """Say that processes are dead, and which drains (``queue token``) ended with them.

        ``crashed``: that counts against what they ran; else their claims are handed back. ``running``: it counts
        against this lease alone, and what ran in other threads; behind it may stand the key of a node that was fused to
        the claim's own.
        """
        return messages_of(self._run("bury", locals()))

    def register(self, *, worker: str, queues: Sequence[str], slots: int) -> list[Message]:
        """Say that a worker is there (0 slots: that it leaves)."""
        return messages_of(self._run("register", locals()))

    def sweep(self, *, worker: str, every_ms: int) -> Swept:
        """Put right what nobody will report, unless somebody did within ``every_ms``."""
        swept, messages, due = self._run("sweep", locals())
        return Swept(bool(swept), messages_of(messages), due)

    def park(self, *, run: str, message: str, replaces: bool = False) -> str | None:
        """Have a message sent when a run ends, unless there is one already.

        Gives ``parked``; or the status of a run that has ended, and nobody tells of it; or None if it is gone.
        """
        return text_or_none(self._run("park", locals()))

    def told(self, *, run: str) -> None:
        """What was parked has been answered."""
        self._run("told", locals())

    def pause(self, *, run: str) -> str | None:
        """Have nothing more of a run begin; gives its status, None if there is no such run."""
        return text_or_none(self._run("pause", locals()) or None)

    def resume(self, *, run: str) -> Changed | None:
        """Go on with a paused run; None: there is no such run."""
        return changed_of(self._run("resume", locals()))

    def stage(self, *, staged: str, offset: int, values: Sequence[str]) -> bool:
        """Put a piece of what a retry makes anew onto a list of the caller's own; False: the rest of it is gone."""
        return bool(self._run("stage", locals(), values))

    def retry(self, *, run: str, ended: str, staged: str, counters: Mapping[str, int]) -> Changed | None:
        """Open an ended run again; says ``ok``, or ``changed``: it is not as the caller saw it. None: there is none."""
        return changed_of(self._run("retry", locals()))

    def drop(self, *, letters: Sequence[str]) -> int:
        """Keep dead letters (``run node``) no longer; gives how many there were."""
        dropped: int = self._run("drop", locals())
        return dropped

    def cancel(self, *, run: str) -> tuple[str | None, list[Message]]:
        """Cancel a run; gives the status it has now, None if there is no such run."""
        status, messages = self._run("cancel", locals()) or (None, [])
        return text_or_none(status), messages_of(messages)

    def forget(self, *, run: str) -> str | None:
        """Delete an ended run; gives its status, None if there is no such run."""
        return text_or_none(self._run("forget", locals()))

    def _run(self, name: str, given: dict[str, Any], values: Sequence[bytes | str] = ()) -> Any:
        return self._call(name, [self._header(name, given, self._next_call()), *values])

    def _call(self, name: str, args: Sequence[bytes | str]) -> Any:
        try:
            return self._installed.call(name, [self._prefix], args)
        except StoreUnavailableError:
            self.unanswered = time.monotonic()
            raise
        except redis.RedisError as error:
            raise refused(name, error) from error

    def _next_call(self, *, is_posted: bool = False) -> str:
        if self._pid != os.getpid():  # forked: its calls must not be taken for repetitions of its parent's
            self._pid, self._callers, self.holder = os.getpid(), Callers(), os.urandom(8).hex()
        return self._callers.next_posted() if is_posted else self._callers.next()

    def _header(self, name: str, given: Mapping[str, Any], call: str) -> bytes:
        header = {field: given[field] for field in _HEADERS[name]}
        header |= self._settings_ms | {"call": f"{self.holder}.{call}", "holder": self.holder}
        header["wake_ms"] = int(WAKE_S * 1000)
        return to_json(header)


def refused(name: str, error: redis.RedisError) -> StateError:
    return StateError(f"the state store refuses {name}: {error}")


def _header_of(name: str, source: str) -> tuple[str, ...]:
    title, _, fields = source.partition("\n")[0].removeprefix("-- ").partition(":")
    if title != name:
        raise ImportError(f"{name}.lua does not begin with `-- {name}: its header's fields`")
    return tuple(fields.split())


def _check(stubs: type) -> None:
    """Raise ImportError unless every script has its stub, every stub its script, and both the same header."""
    own = {name: member for name, member in vars(stubs).items() if not name.startswith("_") and callable(member)}
    if own.keys() != _SOURCES.keys():
        raise ImportError(f"scripts without stub or stubs without script: {own.keys() ^ _SOURCES.keys()}")
    for name, stub in own.items():
        parameters = set(inspect.signature(stub).parameters) - {"self", "values"}
        if parameters != set(_HEADERS[name]):
            raise ImportError(f"{name}: the stub's parameters and the script's header differ")


_SOURCES = LIBRARY.sources
_HEADERS = {name: _header_of(name, source) for name, source in _SOURCES.items()}
_check(Scripts)
