"""The scripts on a clock that the test sets: a key in the place of the server's ``TIME``."""

from __future__ import annotations

from typing import Any

from flowq.runtime.scripts import Scripts
from tests.property.calls import Changes, load, merged

_READS = (
    "(function() local t = tonumber(call('GET', prefix .. ':clock')); "
    "return {string.format('%d', t / 1000000), string.format('%d', t % 1000000)} end)()"
)


def clocked(scripts: Scripts, client: Any, prefix: str, changes: Changes | None = None) -> Clock:
    """Have the scripts go by a clock of the prefix's own, which begins at the server's time."""
    scripts._installed = load(client, merged({"lib": [("call('TIME')", _READS)]}, changes or {}))
    return Clock(client, prefix)


class Clock:
    """Goes on when it is told to."""

    def __init__(self, client: Any, prefix: str) -> None:
        seconds, microseconds = client.time()
        self._client, self._key = client, f"{prefix}:clock"
        self.at_us = seconds * 1_000_000 + microseconds
        self._set()

    def go(self, seconds: float) -> None:
        """Let time pass."""
        self.at_us += int(seconds * 1_000_000)
        self._set()

    def follow(self, other: Clock) -> None:
        """Show what another clock shows, if that is later."""
        self.at_us = max(self.at_us, other.at_us)
        self._set()

    def show(self) -> None:
        """Show the time again: the server has lost it."""
        self._set()

    def _set(self) -> None:
        self._client.set(self._key, self.at_us, ex=86400)
