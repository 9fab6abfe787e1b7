"""The compiler's passes: each a pure function with one job, from a draft to a new draft.

::

    Graph ─▶ from_graph ─▶ open_gates ─▶ place ─▶ name_values ─▶ fuse_inline ─▶ number ─▶ Plan
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter

from flowq.core.args import Arg, rewrite
from flowq.core.graph import Dependency, Graph, Step
from flowq.core.structural import COLLECT
from flowq.core.types import DependencyType, FlowType
from flowq.plan.model import Edge, Node, Plan


@dataclass(frozen=True, slots=True)
class DraftNode:
    """A node on its way from a step to its place in the plan."""

    step: Step
    deps: dict[str, Dependency]
    placement: FlowType = FlowType.PROCESS
    names: dict[str, str] = field(default_factory=dict)
    """Upstream path to the name under which this node sees its value."""
    fused: bool = False


@dataclass(frozen=True, slots=True)
class Draft:
    """A graph between two passes."""

    nodes: dict[str, DraftNode]
    output: str | None

    def mapped(self, nodes: dict[str, DraftNode]) -> Draft:
        return Draft(nodes, self.output)


def from_graph(graph: Graph) -> Draft:
    """Take every step of a checked graph as it stands."""
    return Draft({path: DraftNode(step, step.deps) for path, step in graph.steps.items()}, graph.output)


def open_gates(draft: Draft) -> Draft:
    """Let children wait for what their parent waits for.

    A child that requires a sibling already waits through it (and fails with it), so only the others get the edges.
    """
    gates: dict[str, dict[str, Dependency]] = {}
    nodes: dict[str, DraftNode] = {}
    for path, node in draft.nodes.items():  # parents come before their children
        parent = node.step.parent
        inherited = gates[parent] if parent is not None else {}
        if inherited and not _requires_sibling(draft, node):
            deps = dict(node.deps)
            for upstream, dependency in inherited.items():
                deps[upstream] = dependency if upstream not in deps else deps[upstream].merge(dependency)
        else:
            deps = node.deps
        nodes[path] = replace(node, deps=deps)
        gates[path] = {
            upstream: Dependency(dependency.type, has_value=False)
            for upstream, dependency in deps.items()
            if draft.nodes[upstream].step.parent != path
        }
    return draft.mapped(nodes)


def _requires_sibling(draft: Draft, node: DraftNode) -> bool:
    return any(
        dependency.type is DependencyType.REQUIRED and draft.nodes[upstream].step.parent == node.step.parent
        for upstream, dependency in node.step.deps.items()
    )


def place(draft: Draft) -> Draft:
    """Give every node a placement: what only gathers is INLINE, and what only orders children is PROCESS."""
    return draft.mapped({path: replace(node, placement=_placement(node.step)) for path, node in draft.nodes.items()})


def _placement(step: Step) -> FlowType:
    if step.processor is COLLECT:
        return FlowType.INLINE
    orders_children = step.config.flow_type in (FlowType.PARALLEL, FlowType.SEQUENTIAL)
    return FlowType.PROCESS if orders_children else step.config.flow_type


def name_values(draft: Draft) -> Draft:
    """Name every upstream value as its node will ask for it: by the flow's name, or its path where names collide."""
    nodes = {}
    for path, node in draft.nodes.items():
        upstreams = [upstream for upstream, dependency in node.deps.items() if dependency.has_value]
        count = Counter(draft.nodes[upstream].step.name for upstream in upstreams)
        names = {}
        for upstream in upstreams:
            name = draft.nodes[upstream].step.name
            names[upstream] = name if count[name] == 1 else upstream
        nodes[path] = replace(node, names=names)
    return draft.mapped(nodes)


def fuse_inline(draft: Draft) -> Draft:
    """Mark the INLINE nodes that can run in their upstream's claim: those that wait for nothing else.

    They stay nodes of their own, with their own status, attempts and output.
    """
    return draft.mapped(
        {
            path: replace(
                node,
                fused=node.placement is FlowType.INLINE
                and node.step.over is None
                and node.step.config.timeout is None  # if it is stopped, the one before must stand as recorded
                and len(node.deps) == 1
                and all(draft.nodes[upstream].step.over is None for upstream in node.deps),
            )
            for path, node in draft.nodes.items()
        }
    )


def number(draft: Draft) -> Plan:
    """Put the nodes into their one canonical order: by depth, then by path."""
    depths: dict[str, int] = {}
    for path in TopologicalSorter({path: list(node.deps) for path, node in draft.nodes.items()}).static_order():
        depths[path] = 1 + max((depths[upstream] for upstream in draft.nodes[path].deps), default=-1)
    order = sorted(draft.nodes, key=lambda path: (depths[path], path))
    index = {path: position for position, path in enumerate(order)}

    def numbered(arg: Arg) -> Arg:
        return ("node", index[arg[1]]) if arg[0] == "step" else arg

    nodes = tuple(_node(draft.nodes[path], index, numbered) for path in order)
    return Plan(nodes, None if draft.output is None else index[draft.output])


def _node(node: DraftNode, index: dict[str, int], numbered: Callable[[Arg], Arg]) -> Node:
    step, config = node.step, node.step.config
    edges = sorted(
        (
            Edge(index[upstream], dependency.type is DependencyType.REQUIRED, node.names.get(upstream, ""))
            for upstream, dependency in node.deps.items()
        ),
        key=lambda edge: edge.upstream,
    )
    return Node(
        path=step.path,
        processor=step.processor.key,
        config=step.processor.config,
        args=tuple((name, rewrite(step.args[name], numbered)) for name in sorted(step.args)),
        edges=tuple(edges),
        placement=node.placement,
        queue=config.queue or "",
        timeout_s=config.timeout,
        retry=config.retry_policy,
        max_crashes=config.max_crashes,
        over=None if step.over is None else rewrite(step.over, numbered),
        item_parameter=step.item_parameter,
        fused=node.fused,
    )
