"""What the store keeps of a run, and how all of it is copied to what would be its disk."""

from __future__ import annotations

from collections import deque
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import RunState


@dataclass(slots=True)
class Stored:
    """A run."""

    id: str
    plan: Plan
    hash: str
    state: RunState
    submitted: int
    values: dict[Ref, Any] = field(default_factory=dict)
    items: dict[Ref, Any] = field(default_factory=dict)
    aside: dict[Ref, None] = field(default_factory=dict)
    """What is ready of a paused run."""
    paused: bool = False
    ended: int = -1
    """When it has, in milliseconds."""


KEPT = (
    *("runs", "lists", "drains", "idle", "slots", "workers", "holders", "leases", "unnamed"),
    *("timers", "said", "lock", "swept", "epoch"),
)
"""Of the store's attributes: what is on its disk."""


def copied(value: Any) -> Any:
    """Copy containers, runs and their states; what is in them never changes."""
    kind = type(value)
    if kind is dict:
        return {name: copied(part) for name, part in value.items()}
    if kind is set or kind is deque:
        return kind(value)
    if kind is Stored:
        made = copy(value)
        made.values, made.items, made.aside = dict(value.values), dict(value.items), dict(value.aside)
        made.state = copied_state(value.state)
        return made
    return value


def copied_state(state: RunState) -> RunState:
    made = copy(state)
    made.nodes = {ref: copy(node) for ref, node in state.nodes.items()}
    return made
