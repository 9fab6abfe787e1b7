"""Plans that are dispatched as a canvas, and what their tests ask for, in few words."""

from __future__ import annotations

from flowq.core.config import RetryPolicy
from flowq.core.types import FlowType
from flowq.plan import Plan, lower
from flowq.runtime.replies import Delivery
from tests.conformance.scripts.desk import Desk, deliveries, node, plan
from tests.property.calls import LONG_S

INLINE = FlowType.INLINE
TWICE = RetryPolicy(max_attempts=2)
LOST_MS = LONG_S * 1000 / 3
"""After so long a message is taken for lost."""

FORK_JOIN = plan(node("a"), node("b", 0), node("c", 0), node("d", 1, 2))
BY_SEGMENT = plan(
    node("map", over=("input", "items"), item_parameter="item"), node("b", 0), node("c", 0), node("d", 1, 2)
)
"""A map, and a segment that begins with two nodes."""


def asked(of: Plan, *keys: str, run: str = "r") -> list[Delivery]:
    """The messages of nodes."""
    return [Delivery(run, of.hash, key, "") for key in keys]


def released(of: Plan, segment: int, run: str = "r") -> Delivery:
    return Delivery(run, of.hash, f"s{segment}", lower(of).fields[f"s{segment}"])


def complete(desk: Desk, *keys: str, alone: bool = False) -> list[Delivery]:
    """Run nodes to their ends, one after the other; gives what is to be sent then."""
    found = []
    for key in keys:
        found += deliveries(desk.answer(desk.take(key), alone=alone).messages)
    return found


def open_map(desk: Desk, items: int) -> list[Delivery]:
    claim = desk.take("0")
    assert desk.extend(claim, 0, items, total=items)
    return [Delivery("r", claim.plan, f"0.{item}", "") for item in range(items)]
