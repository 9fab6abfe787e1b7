"""Draws a run's graph as SVG: columns by depth, required edges solid, optional ones dashed, bypassed ones marked.

The usual way for layered graphs (Sugiyama and others, 1981), as simple as small graphs allow: every node stands in the
last column that its downstream leaves it, an edge over several columns gets a place in each, and the places of a column
are ordered by the mean of what they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import NamedTuple

from flowq.core.result import FlowResult, NodeResult
from flowq.core.types import FlowType
from flowq.plan import Edge, Node, Plan

BOX_WIDTH, BOX_HEIGHT = 176.0, 58.0
COLUMN, ROW = 250.0, 84.0
"""Distances between the left sides of two columns, and the middles of two rows."""


class Place(NamedTuple):
    """A slot in a column: a node's, or an edge's on its way through."""

    node: int
    """Where it comes from."""
    target: int
    """The node that the passing edge leads to; -1: the node itself."""


def drawing(plan: Plan, result: FlowResult, work_s: Mapping[str, float]) -> str:
    """Give the picture; ``work_s`` says how many seconds the nodes of each path took together."""
    columns = _columns(plan)
    points = _points(_places(plan, columns))
    arrows = [
        _arrow(plan, edge, index, points, columns, result)
        for index, node in enumerate(plan.nodes)
        for edge in node.edges
    ]
    boxes = [
        _box(node, points[Place(index, -1)], _facts(node, result, work_s), result.nodes[node.path])
        for index, node in enumerate(plan.nodes)
    ]
    width = max(x for x, _ in points.values()) + BOX_WIDTH
    height = max(y for _, y in points.values()) + BOX_HEIGHT / 2
    return (
        f'<svg class="graph" viewBox="-2 -2 {width + 4:.0f} {height + 4:.0f}" style="max-width:{width + 4:.0f}px"'
        ' role="img" aria-label="The graph of the flow"><defs>'
        '<marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path class="head" d="M0 0 8 4 0 8z"/></marker></defs>'
        f"{''.join([*arrows, *boxes])}</svg>"
    )


def _columns(plan: Plan) -> list[int]:
    """Give each node's column: the last one in which it is still before all its downstream."""
    depths = [0] * len(plan)
    for index, node in enumerate(plan.nodes):
        depths[index] = 1 + max((depths[edge.upstream] for edge in node.edges), default=-1)
    last = max(depths)
    columns = [last] * len(plan)
    for index in reversed(range(len(plan))):
        columns[index] = min((columns[downstream] for downstream, _ in plan.downstream[index]), default=last + 1) - 1
    return columns


def _places(plan: Plan, columns: list[int]) -> list[list[Place]]:
    """Fill the columns from left to right, each in the order of where its places come from."""
    filled: list[list[Place]] = []
    for column in range(max(columns) + 1):
        found: list[tuple[float, Place]] = []
        before = {place: row - len(filled[-1]) / 2 for row, place in enumerate(filled[-1])} if filled else {}
        for index, node in enumerate(plan.nodes):
            for edge in node.edges:
                if columns[edge.upstream] < column < columns[index]:
                    come_from = before[_source(edge, index, columns, column - 1)]
                    found.append((come_from + 0.5, Place(edge.upstream, index)))  # passes below its equals
            if columns[index] == column:
                rows = [before[_source(edge, index, columns, column - 1)] for edge in node.edges]
                found.append((sum(rows) / len(rows) if rows else len(plan), Place(index, -1)))
        filled.append([place for _, place in sorted(found)])
    return filled


def _source(edge: Edge, target: int, columns: list[int], column: int) -> Place:
    return Place(edge.upstream, -1 if columns[edge.upstream] == column else target)


def _points(places: list[list[Place]]) -> dict[Place, tuple[float, float]]:
    """Give the left middle of every place; of an edge's, as it passes the last column that it crosses."""
    tallest = max(map(len, places))
    points: dict[Place, tuple[float, float]] = {}
    for column, rows in enumerate(places):
        top = BOX_HEIGHT / 2 + (tallest - len(rows)) * ROW / 2
        for row, place in enumerate(rows):
            points[place] = (column * COLUMN, top + row * ROW)
    return points


def _arrow(
    plan: Plan,
    edge: Edge,
    target: int,
    points: Mapping[Place, tuple[float, float]],
    columns: list[int],
    result: FlowResult,
) -> str:
    x, y = points[Place(edge.upstream, -1)]
    start = (x + BOX_WIDTH, y)
    steps = [f"M{start[0]:.0f} {start[1]:.0f}"]
    passing = points.get(Place(edge.upstream, target))
    if passing is not None:
        begin = (columns[edge.upstream] + 1) * COLUMN
        steps += [_curve(start, (begin, passing[1])), f"H{passing[0] + BOX_WIDTH:.0f}"]
        start = (passing[0] + BOX_WIDTH, passing[1])
    end = points[Place(target, -1)]
    steps.append(_curve(start, (end[0] - 3, end[1])))
    missing = edge.name in result.nodes[plan.nodes[target].path].missing
    kind = "required" if edge.required else "optional"
    label = ""
    if missing:
        kind += " bypassed"
        x, y = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        label = f'<text class="bypass" x="{x:.0f}" y="{max(start[1], end[1]) + 22:.0f}">bypassed</text>'
    return f'<path class="edge {kind}" d="{" ".join(steps)}" marker-end="url(#head)"/>{label}'


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    middle = (start[0] + end[0]) / 2
    return f"C{middle:.0f} {start[1]:.0f} {middle:.0f} {end[1]:.0f} {end[0]:.0f} {end[1]:.0f}"


def _box(node: Node, point: tuple[float, float], facts: str, ended: NodeResult) -> str:
    x, y = point[0], point[1] - BOX_HEIGHT / 2
    radius = {FlowType.PROCESS: 6, FlowType.THREAD: 16, FlowType.INLINE: 29}[node.placement]
    shape = f'x="{x:.0f}" y="{y:.0f}" width="{BOX_WIDTH:.0f}" height="{BOX_HEIGHT:.0f}" rx="{radius}"'
    behind = ""
    if node.is_map:  # a stack: there are many of it
        behind = "".join(
            f'<rect class="box {ended.status}" x="{x + shift:.0f}" y="{y - shift:.0f}" width="{BOX_WIDTH:.0f}"'
            f' height="{BOX_HEIGHT:.0f}" rx="{radius}"/>'
            for shift in (8, 4)
        )
    middle = x + BOX_WIDTH / 2
    return (
        f'{behind}<rect class="box {ended.status}" {shape}/>'
        f'<text class="name" x="{middle:.0f}" y="{y + 25:.0f}">{escape(node.name)}</text>'
        f'<text class="facts" x="{middle:.0f}" y="{y + 43:.0f}">{escape(facts)}</text>'
    )


def _facts(node: Node, result: FlowResult, work_s: Mapping[str, float]) -> str:
    if node.is_map:
        items = sum(name.startswith(f"{node.path}[") for name in result.nodes)
        return f"{node.placement} × {items:,} · {_time(work_s.get(node.path, 0))}"
    status = result.nodes[node.path].status
    return f"{node.placement} · {_time(work_s.get(node.path, 0))}" + ("" if status == "completed" else f" · {status}")


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
