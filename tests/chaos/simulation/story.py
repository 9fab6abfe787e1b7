"""A seed's story, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from flowq.core.types import FlowStatus, NodeStatus
from flowq.runtime.events import Ref
from tests.chaos.simulation import history as word
from tests.chaos.simulation.history import Event

QUIET = (word.CONTACT,)


def lines_of(history: Iterable[Event]) -> Iterator[str]:
    """Give one line for each thing that happened: seconds, what, of what."""
    for kind, at, *rest in history:
        if kind not in QUIET:
            yield f"{at / 1_000_000:11.6f}  {kind:9} {' '.join(_told(part) for part in rest)}"


def _told(part: Any) -> str:
    if isinstance(part, Ref):
        return part.key
    if isinstance(part, (FlowStatus, NodeStatus)):
        return part.value
    return str(part)
