"""Moving messages back to their queue: those of a consumer that has died, and those that a living one gives back."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flowq.runtime.transport.envelope import DEATH
from flowq.runtime.transport.quarantine import Quarantine, task_of
from flowq.runtime.transport.wire import BEAT, BURY, GIVE_BACK, RECOVER, Wire

logger = logging.getLogger("flowq.transport")

LATE_S = 600
"""So long after its death, a consumer is looked at once more: what it had sent to Redis may arrive late, too."""
_BATCH = 50  # messages of one call: those that are given back travel there and back
_BATCH_BYTES = (
    4_000_000  # of one call that moves a dead one's: Redis hashes and copies each, and nobody else has a turn
)
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


class Limit(NamedTuple):
    """How many deaths of its consumers a message may see, and what becomes of one that has seen more.

    It is counted only when it is recovered from a dead consumer, and not for one that leaves in order.
    """

    quarantine: Quarantine = Quarantine()
    deaths: int = 5
    within_s: float = 3600.0
    """A death is forgotten unless another one follows within this time: what ends a worker each hour is no loop, and a
    task that waits all day for its time may see many deaths that are none of its fault."""
    message_bytes: int = 16 * 1024 * 1024
    """So much is kept of a message that was set aside: all of it, since it can be put back."""

    @property
    def reason(self) -> str:
        return f"{self.deaths} consumers have died one after the other with it in their hands"


def held(source: str, consumer: str) -> str:
    """Name the list of what a consumer has taken from a list."""
    return f"{source}:taken:{consumer}"


def beat(wire: Wire, books: Books, consumer: str, sources: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Say that a consumer lives; gives those that do not, with their lists."""
    lists = json.dumps(sorted(sources))
    told = wire.script(BEAT, [books.consumers, books.lists], consumer, lists, books.dead_ms, _DEAD_AT_ONCE)
    return [(dead.decode(), json.loads(lists or b"[]")) for dead, lists in zip(told[::2], told[1::2], strict=True)]


def recover(wire: Wire, books: Books, limit: Limit, dead: str, sources: Sequence[str]) -> None:
    """Move all that a dead consumer had taken back to the queues, each message once whoever else does the same."""
    give_back_of_dead(wire, books, limit, dead, sources, must_be_dead=True)
    forget(wire, books, dead, sources, LATE_S)


def give_back_of_dead(
    wire: Wire, books: Books, limit: Limit, dead: str, sources: Sequence[str], *, must_be_dead: bool
) -> None:
    """Move all that a consumer had taken when it died back to the queues; what has seen too many deaths, aside."""
    total = 0
    for source in sources:
        key = limit.quarantine.key(source)
        keys = [books.consumers, held(source, dead), source, key]
        about = [dead if must_be_dead else "", books.dead_ms, limit.deaths, int(limit.within_s * 1000)]
        kept = [limit.message_bytes, limit.quarantine.items, int(limit.quarantine.ttl_s * 1000)]
        moved = 1
        while moved > 0:
            moved, *aside = wire.script(RECOVER, keys, *about, _BATCH, _BATCH_BYTES, limit.reason, *kept)
            total += max(moved, 0) - len(aside)
            for raw in aside:
                logger.error("a message in %r (task %s): %s; it is in %r", source, task_of(raw), limit.reason, key)
    if total:
        logger.warning("%d messages that a consumer had taken when it died (%s) are back in their queues", total, dead)


def give_back_all(wire: Wire, consumer: str, sources: Sequence[str]) -> None:
    """Move all that a consumer has taken back as it leaves in order, the oldest first in its queue."""
    for source in sources:
        key = held(source, consumer)
        while messages := wire.call("LRANGE", key, 0, _BATCH - 1):
            pairs = [part for raw in messages for part in (raw, redelivered(raw))]
            if wire.script(GIVE_BACK, [key, source], "RPUSH", *pairs) == 0:  # somebody else was faster
                break


def give_back(wire: Wire, key: str, source: str, raw: bytes, *, first: bool) -> None:
    """Move one message back: to where the next one is taken, or behind all others."""
    side = "RPUSH" if first else "LPUSH"
    wire.script(GIVE_BACK, [key, source], side, raw, redelivered(raw))


def forget(wire: Wire, books: Books, consumer: str, sources: Iterable[str], late_s: float = 0) -> None:
    """Strike a consumer off; a dead one only after a second look."""
    keys = [books.consumers, books.lists, *(held(source, consumer) for source in sources)]
    wire.script(BURY, keys, consumer, books.dead_ms, int(late_s * 1000))


def redelivered(raw: bytes) -> bytes:
    """Mark a message as kombu does; what is no message stays as it is."""
    try:
        plain = raw.lstrip(DEATH)
        envelope = json.loads(plain)
        envelope["headers"]["redelivered"] = True
        envelope["properties"]["delivery_info"]["redelivered"] = True
        return raw[: len(raw) - len(plain)] + json.dumps(envelope).encode()
    except Exception:  # anything may lie in a queue; whoever takes it next will say what is wrong with it
        return raw
