"""The scripts on a real server, in the hands of a test that loses replies, moves the clock and changes their text."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple, TypeAlias
from unittest.mock import patch

import redis

from flowq.core.config import Settings
from flowq.runtime import scripts as production
from flowq.runtime.keys import Keys
from flowq.runtime.library import LIBRARY, Installed, Library
from flowq.runtime.scripts import Scripts

DEAD = "dead"
"""Processes that are gone begin with this."""

LONG_S = 3600.0
"""Leases and wake-ups do not run out by themselves within a test: it says when."""

Changes: TypeAlias = Mapping[str, Sequence[tuple[str, str]]]
"""By script (``lib`` for what they share): pieces of its text and what stands there instead."""

_prefixes = itertools.count()


class Sent(NamedTuple):
    """A call, as it was sent."""

    number: int
    name: str
    given: dict[str, Any]
    holder: str
    """The process that called."""


class Calls:
    """The scripts under a prefix of its own. Every call can be sent again, word for word, as redis-py does."""

    def __init__(self, client: Any, changes: Changes | None = None) -> None:
        self.client: Any = client
        self.settings = Settings(prefix=f"t{next(_prefixes)}", queue="main", lease_s=LONG_S)
        self.keys = Keys(self.settings.prefix)
        self._scripts = Scripts(client, self.settings)
        self._scripts._installed = load(client, changes or {})
        self.holder = self._scripts.holder
        """The process that calls now."""
        self._numbers = itertools.count()

    def send(self, name: str, /, **given: Any) -> tuple[Sent, Any]:
        """Call a script by name."""
        sent = Sent(next(self._numbers), name, given, self.holder)
        return sent, self.again(sent)

    def again(self, sent: Sent) -> Any:
        """Send a call once more: its first reply was lost."""
        # As if each call came from a thread of its own: others may have called since the first reply was lost.
        self._scripts._callers.next = lambda: f"{sent.number}.1"  # type: ignore[method-assign]
        self._scripts.holder = sent.holder
        with patch.object(production, "WAKE_S", LONG_S):
            return getattr(self._scripts, sent.name)(**sent.given)

    def lose(self, *leases: str, to: str = DEAD, expiry: float = 1) -> None:
        """Have a dead process hold these claims: the next sweep takes them away."""
        for lease in leases:
            assert self.client.zrem(self.keys.leases(self.holder), lease) == 1, f"nobody holds {lease}"
            self.client.zadd(self.keys.leases(to), {lease: 1})
        self.client.zadd(self.keys.holders, {to: expiry})

    def left(self) -> dict[str, int]:
        """Give every key under the prefix, with what is left of its life in ms; -1: it lives for ever."""
        found = [key.decode() for key in self.client.scan_iter(f"{self.settings.prefix}:*", count=1000)]
        with self.client.pipeline(transaction=False) as pipe:
            for key in found:
                pipe.pttl(key)
            return dict(zip(found, pipe.execute(), strict=True))

    def clear(self) -> None:
        """Leave nothing behind."""
        for key in self.left():
            self.client.unlink(key)


def load(client: redis.Redis, changes: Changes) -> Installed:
    """Give the scripts with pieces of their text changed; a piece that is not there exactly once is an error."""
    assert changes.keys() <= production._SOURCES.keys() | {"lib"}, changes.keys()
    shared = changed(LIBRARY.shared, changes.get("lib", ()))
    sources = {name: changed(source, changes.get(name, ())) for name, source in LIBRARY.sources.items()}
    return Installed(client, Library(shared, sources))


def put_ready(client: redis.Redis, library: Library) -> None:
    """Give a server a library before it is called for: else the first call does nothing but find it absent."""
    try:
        Installed(client, library).load()
    except redis.ResponseError:  # it keeps no functions
        for name in library.sources:
            client.script_load(library.script(name))


def forget(client: redis.Redis) -> None:
    """Have a server forget all scripts and functions."""
    client.script_flush()
    with suppress(redis.ResponseError):  # it keeps no functions
        client.execute_command("FUNCTION", "FLUSH")


def called(client: redis.Redis) -> int:
    """How many scripts a server was asked for so far, in either way."""
    stats: Any = client.info("commandstats")
    return sum(stats[name]["calls"] for name in ("cmdstat_fcall", "cmdstat_evalsha") if name in stats)


def changed(text: str, pieces: Sequence[tuple[str, str]]) -> str:
    for old, new in pieces:
        assert text.count(old) == 1, f"{text.count(old)} times in the text: {old!r}"
        text = text.replace(old, new)
    return text


def sized(budget: int = 500, inline: int = 32, batch: int = 500) -> dict[str, list[tuple[str, str]]]:
    """Give the changes that make the scripts' limits small, so that small runs reach them."""
    return {
        "lib": [
            ("local BUDGET = 500 ", f"local BUDGET = {budget} "),
            ("local INLINE = 32 ", f"local INLINE = {inline} "),
        ],
        "sweep": [("local BATCH = 500 ", f"local BATCH = {batch} ")],
    }


def taking(most: int) -> dict[str, list[tuple[str, str]]]:
    """Give the change by which a call takes fewer claims away from processes that are gone."""
    return {"lib": [("local TAKEN = 500 ", f"local TAKEN = {most} ")]}


def merged(first: Changes, second: Changes) -> Changes:
    return {name: [*first.get(name, ()), *second.get(name, ())] for name in first.keys() | second.keys()}
