"""What must hold before and after the passes. A violation is flowq's bug or a forged plan, never a user's mistake."""

from __future__ import annotations

from flowq.core.args import sources
from flowq.core.errors import PlanError
from flowq.core.graph import Graph, value_sources
from flowq.core.types import FlowType
from flowq.plan.model import Node, Plan

PLACEMENTS = (FlowType.INLINE, FlowType.THREAD, FlowType.PROCESS)


def verify_graph(graph: Graph) -> None:
    """Check that the graph is closed: every path it names is one of its steps, and parents come first."""
    seen: set[str] = set()
    for path, step in graph.steps.items():
        if step.path != path or (step.parent is not None and step.parent not in seen):
            raise PlanError(f"step {path!r} is out of place")
        seen.add(path)
    for path, step in graph.steps.items():
        if not step.deps.keys() <= seen:
            raise PlanError(f"step {path!r} waits for what is not in the graph")
        if not value_sources(step) <= step.deps.keys():
            raise PlanError(f"step {path!r} reads what it does not wait for")
    if graph.output is not None and graph.output not in seen:
        raise PlanError(f"the output {graph.output!r} is no step of the graph")


def verify_plan(plan: Plan) -> None:
    """Check that every edge points backwards, values are waited for, and maps and fused nodes are what they claim."""
    for index, node in enumerate(plan.nodes):
        upstreams = [edge.upstream for edge in node.edges]
        if upstreams != sorted(set(upstreams)) or any(not 0 <= upstream < index for upstream in upstreams):
            raise PlanError(f"node {node.path!r}: its edges are not in order")
        valued = {edge.upstream for edge in node.edges if edge.name}
        read = {source for _, arg in node.args for source in sources(arg)} | set(sources(node.over or ("const",)))
        if not read <= valued:
            raise PlanError(f"node {node.path!r} reads what it does not wait for")
        _verify_kind(plan, node)
    if len(plan.index) != len(plan.nodes):
        raise PlanError("two nodes have one path")
    if plan.output is not None and not 0 <= plan.output < len(plan.nodes):
        raise PlanError("the output is no node of the plan")


def _verify_kind(plan: Plan, node: Node) -> None:
    if node.placement not in PLACEMENTS:
        raise PlanError(f"node {node.path!r} is placed as {node.placement}")
    if node.is_map and not node.item_parameter:
        raise PlanError(f"node {node.path!r} is a map without a parameter for the item")
    if node.fused and (node.placement is not FlowType.INLINE or len(node.edges) != 1 or node.is_map):
        raise PlanError(f"node {node.path!r} cannot be fused")
    if node.fused and plan.nodes[node.edges[0].upstream].is_map:
        raise PlanError(f"node {node.path!r} cannot be fused to a map")
