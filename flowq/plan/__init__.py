"""The compiler: graph in, plan out."""

from flowq.plan.compiler import compile_graph
from flowq.plan.lowering import RESOLVED, EdgeKind, Lowering, Segment, lower
from flowq.plan.model import PLAN_VERSION, Edge, Node, Plan
from flowq.plan.regions import JOIN, Parallel, Region, Series
from flowq.plan.regions import from_json as region_from_json

__all__ = [
    "JOIN",
    "PLAN_VERSION",
    "RESOLVED",
    "Edge",
    "EdgeKind",
    "Lowering",
    "Node",
    "Parallel",
    "Plan",
    "Region",
    "Segment",
    "Series",
    "compile_graph",
    "lower",
    "region_from_json",
]
