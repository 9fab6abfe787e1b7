"""From a checked graph to its plan."""

from __future__ import annotations

from collections.abc import Callable

from flowq.core.graph import Graph
from flowq.plan.model import Plan
from flowq.plan.passes import Draft, from_graph, fuse_inline, name_values, number, open_gates, place
from flowq.plan.verify import verify_graph, verify_plan

PASSES: tuple[Callable[[Draft], Draft], ...] = (open_gates, place, name_values, fuse_inline)
"""In this order, between ``from_graph`` and ``number``."""


def compile_graph(graph: Graph) -> Plan:
    """Give the plan of a checked graph; PlanError if a pass broke it."""
    verify_graph(graph)
    draft = from_graph(graph)
    for transform in PASSES:
        draft = transform(draft)
    plan = number(draft)
    verify_plan(plan)
    _ = plan.hash  # it is kept: a submit, which asks for it first, is not to wait for it
    return plan
