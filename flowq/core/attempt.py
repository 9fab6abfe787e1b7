"""What a running processor may ask about itself."""

from __future__ import annotations

from contextvars import ContextVar
from typing import NamedTuple


class AttemptInfo(NamedTuple):
    """The attempt that is running here."""

    run_id: str
    node: str
    """The node's path, with the item's number if it is one of a map."""
    attempt: int
    """From 1."""

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this node in this run, and nowhere else: for what must not happen twice."""
        return f"{self.run_id}:{self.node}"


CURRENT: ContextVar[AttemptInfo | None] = ContextVar("flowq_attempt", default=None)


def current_attempt() -> AttemptInfo:
    """Give the attempt that the caller is part of; RuntimeError outside of one."""
    info = CURRENT.get()
    if info is None:
        raise RuntimeError("current_attempt() is for processors: no attempt is running here")
    return info
