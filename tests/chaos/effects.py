"""What the bodies of nodes did, as they wrote it down themselves: a file that they append to."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Effect(NamedTuple):
    """One line of the log."""

    run: str
    node: str
    attempt: int
    what: str
    """``start``; then ``end``, ``fail`` or ``skip``, unless the process died or the attempt was stopped."""
    at: int
    """The wall clock in nanoseconds: the server's records are on the same one."""
    pid: int
    nonce: str
    """Of this execution of the body, which its output holds too: attempts can share a number, nonces cannot."""
    seen: dict[str, str | None]
    """The inputs by name: digests of what the body got, None for what was bypassed."""
    digest: str = ""
    """Of what the body is about to return."""


def digest_of(value: Any) -> str:
    """Give the digest of a value: equal for equal JSON only."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:24]


def seen_in(upstreams: Mapping[str, Any]) -> dict[str, str | None]:
    return {name: None if value is None else digest_of(value) for name, value in upstreams.items()}


def write(log: str, effect: Effect) -> None:
    """Append one line. O_APPEND makes a short write one piece, whoever else writes."""
    line = json.dumps(effect).encode() + b"\n"
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        assert os.write(file, line) == len(line)
    finally:
        os.close(file)


class Writer:
    """Writes the lines of one execution of a node's body."""

    def __init__(self, log: str, run: str, node: str, attempt: int, upstreams: Mapping[str, Any]) -> None:
        self.nonce = os.urandom(8).hex()
        self._log = log
        self._start = Effect(run, node, attempt, "start", time.time_ns(), os.getpid(), self.nonce, seen_in(upstreams))
        write(log, self._start)

    def ended(self, what: str, digest: str = "") -> None:
        write(self._log, self._start._replace(what=what, at=time.time_ns(), digest=digest))


class Reader:
    """Reads the log as it grows."""

    def __init__(self, log: str | Path) -> None:
        self._path = Path(log)
        self._offset = 0

    def new(self) -> list[Effect]:
        """Give the lines that are new since the last call; an unfinished one is left for the next."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [Effect(*json.loads(line)) for line in whole.splitlines()]


def effects(log: str | Path) -> list[Effect]:
    """Give all lines so far."""
    return Reader(log).new()
