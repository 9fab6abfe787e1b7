"""Writes a flow's graph down as a Mermaid flowchart, the same text for the same graph.

::

    a --> b            required             rectangle     a node, placed in a process
    a -.-> b           optional             rounded       placed in a thread
    a -->|after| b     order only           stadium       inline
                                            double bars   a map: one node per item
    subgraph           a flow inside of the flow; an edge to it holds for all that is in it
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from flowq.core.args import sources
from flowq.core.graph import Graph, Step
from flowq.core.types import DependencyType, FlowType
from flowq.plan import Plan

_SHAPES = {FlowType.PROCESS: ('["', '"]'), FlowType.THREAD: ('("', '")'), FlowType.INLINE: ('(["', '"])')}
_MAP_SHAPE = ('[["', '"]]')
_PLAIN = re.compile(r"[^\w .,:+/=-]")
"""What may mean something to Mermaid or HTML, and so is written as its number."""


def mermaid(graph: Graph, plan: Plan) -> str:
    """Give the flowchart; nodes and edges come in the plan's order, however the flow was written."""
    return "\n".join(_Chart(graph, plan).lines()) + "\n"


class _Chart:
    def __init__(self, graph: Graph, plan: Plan) -> None:
        self._graph, self._plan = graph, plan
        self._parents = {step.parent for step in graph.steps.values() if step.parent is not None}
        # The root of the class form is the join of everything: as a frame it would only say that the flow is the flow.
        root = next((path for path in self._parents if path == graph.output), None)
        self._frames = {path for path in self._parents if path != root}
        self._steps = [graph.steps[node.path] for node in plan]

    def lines(self) -> Iterator[str]:
        yield "flowchart LR"
        yield f"  %% flow {self._graph.name}, plan {self._plan.hash}"
        yield from self._inside(None, "  ")
        for step in self._steps:
            for upstream in sorted(step.deps, key=self._plan.index.__getitem__):
                dependency = step.deps[upstream]
                arrow = "-->" if dependency.type is DependencyType.REQUIRED else "-.->"
                label = "" if dependency.has_value else "|after|"
                yield f"  {self._id(upstream)} {arrow}{label} {self._end(upstream, step.path)}"

    def _inside(self, frame: str | None, indent: str) -> Iterator[str]:
        """Give the nodes directly in a frame (None: in none), and the frames in it."""
        for step in self._steps:
            if self._frame_of(step) != frame:
                continue
            if step.path in self._frames and step.path != frame:
                yield f'{indent}subgraph {self._frame_id(step.path)}["{escaped(step.name)}"]'
                yield from self._inside(step.path, indent + "  ")
                yield f"{indent}  {self._node(step)}"
                yield f"{indent}end"
            else:
                yield indent + self._node(step)

    def _frame_of(self, step: Step) -> str | None:
        return step.parent if step.parent in self._frames else None

    def _node(self, step: Step) -> str:
        node = self._plan.nodes[self._plan.index[step.path]]
        details = [node.placement.value]
        if step.over is not None:
            details.append(f"map over {_source(step)}")
        if node.queue:
            details.append(f"queue {node.queue}")
        before, after = _MAP_SHAPE if node.is_map else _SHAPES[node.placement]
        text = "<br/>".join([escaped(step.name), *(f"<i>{escaped(detail)}</i>" for detail in details)])
        return f"{self._id(step.path)}{before}{text}{after}"

    def _id(self, path: str) -> str:
        return f"n{self._plan.index[path]}"

    def _frame_id(self, path: str) -> str:
        return f"s{self._plan.index[path]}"

    def _end(self, upstream: str, path: str) -> str:
        """Give where an edge ends: what a flow with children waits for from outside, all that is in it waits for."""
        inside: str | None = upstream
        while inside is not None and inside != path:
            inside = self._graph.steps[inside].parent
        return self._frame_id(path) if path in self._frames and inside is None else self._id(path)


def _source(step: Step) -> str:
    over = step.over or ("const", [])
    if over[0] == "const":
        return f"{len(over[1])} items"
    if over[0] == "input":
        return f"input {over[-1]}" if len(over) > 1 else "the input"
    return ", ".join(dict.fromkeys(str(source) for source in sources(over))) or "a list"


def escaped(text: str) -> str:
    """Give the text as Mermaid shows it unchanged: everything that could mean something, as ``#number;``."""
    return _PLAIN.sub(lambda match: f"#{ord(match.group())};", text)
