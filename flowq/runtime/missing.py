"""Which optional upstreams a node has to do without, and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flowq.core.types import MissingReason, NodeStatus
from flowq.plan import Node, Plan
from flowq.runtime.events import Ref


class Ending(NamedTuple):
    """How a node (or item) stands, as far as its downstream cares."""

    status: NodeStatus
    reason: MissingReason | None
    total: int = -1
    """A map's items; -1: no map, or one that was never opened."""


def label(plan: Plan, ref: Ref) -> str:
    """Give the name under which people see a node: its path, with the item's position if it is one of a map."""
    path = plan.nodes[ref.node].path
    return path if ref.item < 0 else f"{path}[{ref.item}]"


def missing_of(plan: Plan, node: Node, ending: Callable[[Ref], Ending]) -> dict[str, MissingReason]:
    """Give the missing upstreams by name; of a map, each missing item: ``measure[3]``."""
    missing: dict[str, MissingReason] = {}
    for edge in node.edges:
        if edge.required or not edge.name:
            continue
        upstream = ending(Ref(edge.upstream))
        if upstream.status is NodeStatus.COMPLETED:
            continue
        if not plan.nodes[edge.upstream].is_map or upstream.total < 0:
            missing[edge.name] = upstream.reason or MissingReason.FAILED
            continue
        for item in range(upstream.total):
            one = ending(Ref(edge.upstream, item))
            if one.status is not NodeStatus.COMPLETED:
                missing[f"{edge.name}[{item}]"] = one.reason or MissingReason.FAILED
    return missing
