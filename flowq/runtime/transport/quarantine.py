"""Where messages go that nobody can use: a capped list beside the queue, for a person to look at."""

from __future__ import annotations

import json
import logging
import time
from typing import Any, NamedTuple

from flowq.runtime.transport.envelope import Taken
from flowq.runtime.transport.wire import QUARANTINE, Wire

logger = logging.getLogger("flowq.transport")


class Entry(NamedTuple):
    """Something in quarantine."""

    reason: str
    at: float
    """Seconds since 1970, by the worker's clock."""
    size: int
    """Bytes of the message; more than ``raw`` has if that was cut."""
    raw: bytes


class Quarantine(NamedTuple):
    """The limits of a quarantine."""

    items: int
    item_bytes: int
    ttl_s: float

    def put(self, wire: Wire, key: str, taken: Taken, reason: str) -> None:
        """Move a message there that this consumer has taken, and say so in one line."""
        reason = reason.encode("utf-8", "replace").decode()[:300]
        logger.error("a message of %d bytes in %r cannot be used (%s); it is in %r", *_shown(taken, reason, key))
        entry = json.dumps({"reason": reason, "at": time.time(), "size": len(taken.raw)}).encode()
        kept = entry + b"\n" + taken.raw[: self.item_bytes]
        wire.script(QUARANTINE, [taken.held, key], taken.raw, kept, self.items, int(self.ttl_s * 1000))


def read(client: Any, key: str) -> list[Entry]:
    """Give what lies in a quarantine, newest first."""
    found = []
    for item in client.lrange(key, 0, -1):
        head, _, raw = item.partition(b"\n")
        about = json.loads(head)
        found.append(Entry(about["reason"], about["at"], about["size"], raw))
    return found


def _shown(taken: Taken, reason: str, key: str) -> tuple[int, str, str, str]:
    return len(taken.raw), taken.source, " ".join(reason.split()), key
