"""Moving messages back to their queue: those of a consumer that has died, and those that a living one gives back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowq.runtime.transport.wire import BEAT, BURY, GIVE_BACK, Wire

logger = logging.getLogger("flowq.transport")

LATE_S = 600
"""So long after its death, a consumer is looked at once more: what it had sent to Redis may arrive late, too."""
_BATCH = 50  # messages of one call: they travel there and back
_DEAD_AT_ONCE = 10  # consumers whose messages one beat moves; the next one is near


class Books(NamedTuple):
    """Where it is written down which consumers there are."""

    consumers: str
    lists: str
    dead_ms: int
    """A consumer that was silent for so long is dead."""

    @classmethod
    def under(cls, prefix: str, dead_s: float) -> Books:
        return cls(f"{prefix}_flowq.consumers", f"{prefix}_flowq.consumers.lists", int(dead_s * 1000))


def held(source: str, consumer: str) -> str:
    """Name the list of what a consumer has taken from a list."""
    return f"{source}:taken:{consumer}"


def beat(wire: Wire, books: Books, consumer: str, sources: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Say that a consumer lives; gives those that do not, with their lists."""
    lists = json.dumps(sorted(sources))
    told = wire.script(BEAT, [books.consumers, books.lists], consumer, lists, books.dead_ms, _DEAD_AT_ONCE)
    return [(dead.decode(), json.loads(lists or b"[]")) for dead, lists in zip(told[::2], told[1::2], strict=True)]


def recover(wire: Wire, books: Books, dead: str, sources: Sequence[str]) -> None:
    """Move all that a dead consumer had taken back to the queues, each message once whoever else does the same."""
    moved = give_back_all(wire, books, dead, sources, must_be_dead=True)
    if moved:
        logger.warning("%d messages that a consumer had taken when it died (%s) are back in their queues", moved, dead)
    forget(wire, books, dead, sources, LATE_S)


def give_back_all(wire: Wire, books: Books, consumer: str, sources: Sequence[str], *, must_be_dead: bool) -> int:
    """Move all that a consumer has taken back, the oldest first in its queue; gives how many those were."""
    total = 0
    for source in sources:
        key = held(source, consumer)
        while messages := wire.call("LRANGE", key, 0, _BATCH - 1):
            pairs = [part for raw in messages for part in (raw, redelivered(raw))]
            guard = consumer if must_be_dead else ""
            moved = wire.script(GIVE_BACK, [books.consumers, key, source], "RPUSH", guard, books.dead_ms, *pairs)
            total += max(moved, 0)
            if moved <= 0:  # it lives after all, or somebody else was faster
                break
    return total


def give_back(wire: Wire, books: Books, key: str, source: str, raw: bytes, *, first: bool) -> None:
    """Move one message back: to where the next one is taken, or behind all others."""
    side = "RPUSH" if first else "LPUSH"
    wire.script(GIVE_BACK, [books.consumers, key, source], side, "", books.dead_ms, raw, redelivered(raw))


def forget(wire: Wire, books: Books, consumer: str, sources: Iterable[str], late_s: float = 0) -> None:
    """Strike a consumer off; a dead one only after a second look."""
    keys = [books.consumers, books.lists, *(held(source, consumer) for source in sources)]
    wire.script(BURY, keys, consumer, books.dead_ms, int(late_s * 1000))


def redelivered(raw: bytes) -> bytes:
    """Mark a message as kombu does; what is no message stays as it is."""
    try:
        envelope = json.loads(raw)
        envelope["headers"]["redelivered"] = True
        envelope["properties"]["delivery_info"]["redelivered"] = True
        return json.dumps(envelope).encode()
    except Exception:  # anything may lie in a queue; whoever takes it next will say what is wrong with it
        return raw
