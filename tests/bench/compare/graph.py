"""The shapes as plain graphs, for executors that take any: which body each node has, and what goes into it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.bench.compare.bodies import BODIES, Work, heavy, named
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Sleeping, Tree

INPUT = -1
"""Stands among a node's upstreams for the input of its run."""


@dataclass(frozen=True)
class Node:
    """A place in a graph; its number is its index."""

    body: str
    upstreams: Sequence[int] = ()
    constants: tuple[int, ...] = ()
    """Given to the body after the upstreams' values."""


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which each comes after its upstreams."""

    nodes: Sequence[Node]
    results: Sequence[int]
    """The nodes whose values the producer reads."""


def graph_of(shape: Shape) -> Graph:
    """Write a shape as one graph, to be run once for each of ``inputs_of``."""
    match shape:
        case Chains(length, _, work):
            body = named("inc", work)
            return Graph([Node(body, [number - 1]) for number in range(length)], [length - 1])
        case FanIn(leaves, work):
            ones = _ones(leaves, work)
            return Graph([*ones, Node(named("total", work), range(leaves))], [leaves])
        case Independent(nodes, work):
            return Graph(_ones(nodes, work), range(nodes))
        case Layered():
            made = [Node("value", upstreams, (number,)) for number, upstreams in enumerate(shape.upstreams)]
            return Graph(made, shape.sinks)
        case Tree(leaves):
            made, row = _ones(leaves, ""), list(range(leaves))
            while len(row) > 1:
                pairs = [row[i : i + 2] for i in range(0, len(row), 2)]
                row = list(range(len(made), len(made) + len(pairs)))
                made += [Node("total", pair) for pair in pairs]
            return Graph(made, row)
        case Diamonds(_, work):
            body = named("inc", work)
            middle = [Node(body, [0], (by,)) for by in (1, 2, 3)]
            return Graph([Node(body, [INPUT]), *middle, Node(named("total", work), [1, 2, 3])], [4])
        case Sleeping(upstreams, naps_ms):
            naps = zip(upstreams, naps_ms, strict=True)
            return Graph([Node("depth", before, (ms,)) for before, ms in naps], shape.sinks)


def inputs_of(shape: Shape) -> list[tuple[Any, ...]]:
    """Give the arguments of each run that the shape is."""
    match shape:
        case Chains():
            return [(_first(shape.work),)] * shape.count
        case Diamonds():
            return [([],) if shape.work == "mark" else (number,) for number in range(shape.count)]
        case _:
            return [()]


def call(body: str, values: list[Any], constants: Sequence[int]) -> Any:
    """Run a node's body on its upstreams' values."""
    kind = body.rpartition("_")[2]
    if kind == "one":
        return BODIES[body](*constants)
    return BODIES[body](values[0] if kind == "inc" else values, *constants)


def _first(work: Work) -> Any:
    match work:
        case "heavy":
            return heavy(0)
        case "mark":
            return []
        case _:
            return 0


def _ones(count: int, work: Work) -> list[Node]:
    body = named("one", work)
    return [Node(body, (), (number,)) for number in range(count)]
