"""Where messages go that nobody can use, or that nobody survives: a capped list beside the queue, for a person to see.

A person reads it (``read``), and puts back what shall be tried again (``put_back``) once the cause is mended.
"""

from __future__ import annotations

import json
import logging
import re
import time
from typing import Any, NamedTuple

from flowq.core.errors import FlowqError
from flowq.runtime.transport.envelope import DEATH, Taken
from flowq.runtime.transport.wire import PUT_BACK, QUARANTINE, Wire

logger = logging.getLogger("flowq.transport")


class Incomplete(FlowqError):
    """An item of a quarantine cannot be put back: only its beginning was kept, as it was too large."""


class Entry(NamedTuple):
    """Something in quarantine."""

    reason: str
    at: float
    """Seconds since 1970, by the worker's clock, or that of Redis."""
    size: int
    """Bytes of the message; more than ``raw`` has if that was cut."""
    raw: bytes
    source: str
    """The list that it was taken from: a queue, or a queue and a priority."""
    item: bytes
    """As it lies there."""

    @property
    def task(self) -> str:
        """The name and the id of the task, as far as the message tells."""
        return task_of(self.raw)


class Quarantine(NamedTuple):
    """The limits of the quarantines, each of which lies beside its queue."""

    items: int = 1000
    item_bytes: int = 64 * 1024
    ttl_s: float = 7 * 24 * 3600.0
    sep: str = "\x06\x16"
    """What stands between a queue's name and a priority."""

    def key(self, source: str) -> str:
        """Name the quarantine of what is taken from a list."""
        return source.rsplit(self.sep, 1)[0] + ":quarantine"

    def put(self, wire: Wire, taken: Taken, reason: str) -> None:
        """Move a message there that this consumer has taken, and say so in one line."""
        key, raw = self.key(taken.source), taken.raw.lstrip(DEATH)
        reason = reason.encode("utf-8", "replace").decode()[:300]
        shown = " ".join(reason.split())
        logger.error("a message of %d bytes in %r cannot be used (%s); it is in %r", len(raw), taken.source, shown, key)
        about = {"reason": reason, "at": time.time(), "size": len(raw), "source": taken.source}
        kept = json.dumps(about).encode() + b"\n" + raw[: self.item_bytes]
        wire.script(QUARANTINE, [taken.held, key], taken.raw, kept, self.items, int(self.ttl_s * 1000))


def read(client: Any, key: str) -> list[Entry]:
    """Give what lies in a quarantine, newest first."""
    found = []
    for item in client.lrange(key, 0, -1):
        head, _, raw = item.partition(b"\n")
        about = json.loads(head)
        source = about.get("source", key.removesuffix(":quarantine"))
        found.append(Entry(about["reason"], about["at"], about["size"], raw, source, item))
    return found


def put_back(client: Any, key: str, entry: Entry) -> bool:
    """Put a message back into its queue, behind all others, as if it had just been sent; False: it is gone from here.

    Raises:
        Incomplete: only a part of it is there.
    """
    if entry.size > len(entry.raw):
        raise Incomplete(
            f"the message ({entry.task}) in {key!r} had {entry.size} bytes, of which {len(entry.raw)} were kept: "
            "send its task anew instead"
        )
    return bool(client.eval(PUT_BACK.source, 2, key, entry.source, entry.item, entry.raw))


def task_of(raw: bytes) -> str:
    """Tell the name and the id of a task without decoding its message, which may be what nobody survives."""
    found = [_HEADERS[name].search(raw) for name in ("task", "id")]
    name, id_ = (match.group(1).decode("utf-8", "replace") if match else "?" for match in found)
    return f"{name} {id_}"


_HEADERS = {name: re.compile(rb'"%s":\s*"([^"\\]{1,200})"' % name.encode()) for name in ("task", "id")}
