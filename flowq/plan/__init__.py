"""The compiler: graph in, plan out."""

from flowq.plan.compiler import compile_graph
from flowq.plan.model import PLAN_VERSION, Edge, Node, Plan

__all__ = ["PLAN_VERSION", "Edge", "Node", "Plan", "compile_graph"]
