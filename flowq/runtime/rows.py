"""A plan as the scripts read it: one small row per node, so that a step costs O(edges touched)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from flowq.core.args import Arg
from flowq.core.types import FlowType
from flowq.plan import Node, Plan
from flowq.results.codec import compress, decompress

FEW_INPUTS = 16
"""A claim brings the inputs of a node with up to so many upstreams; with more, the worker asks for what it needs."""

SOURCES_PER_FIELD = 500
"""Nodes that a run begins with stand so many to a field."""

EDGES_PER_FIELD = 500
"""So many of a node's downstream edges stand in its row, and in each of the fields that hold the others."""


PIECE = 100_000
"""Bytes of a plan's packed document that stand in one field, and that one call stores besides: it takes Redis some
tenths of a millisecond."""

DOCUMENT_PIECES = "documents"
"""The field that says in how many pieces the document is, if it is more than one."""


LARGEST_DOCUMENT = 2**30
"""Bytes. What says that it is larger is no plan."""


def document_piece(number: int) -> str:
    """Give the field that holds a piece of the document."""
    return f"document:{number}" if number else "document"


def plan_from(pieces: Iterable[bytes]) -> Plan:
    """Read a plan back from all pieces of its document."""
    return Plan.from_json(decompress(b"".join(pieces), LARGEST_DOCUMENT))


@dataclass(frozen=True, slots=True)
class PlanRows:
    """A plan as its hash in Redis holds it."""

    fields: list[tuple[str, str | bytes]]
    """The last one says that all are there."""
    queues: list[str]
    """As ``queues_of`` gives them."""

    def pieces(self, size: int) -> Iterator[list[str | bytes]]:
        """Give the fields, up to so many (and up to ``PIECE`` characters) at a time: field, value, field, …"""
        texts: list[str | bytes] = []
        length = 0
        for name, value in self.fields:
            if texts and (len(texts) >= 2 * size or length + len(value) > PIECE):
                yield texts
                texts, length = [], 0
            texts += (name, value)
            length += len(value)
        if texts:
            yield texts


def rows_of(plan: Plan) -> PlanRows:
    """Give the rows of a plan, and the nodes that a run of it begins with.

    A row: [lane (none: process), queue, upstreams, max_attempts, max_crashes, is_map, reads_input, inputs, downstream,
    reads_endings]. ``inputs`` are the upstreams that a claim brings along, with how they ended if one of them may be
    missing (``reads_endings``). ``downstream`` is flat: node, how many upstreams it has (below 0 if it can do without
    this one), node, … If these are many, the row ends with how many parts stand in it and how many there are; the
    others follow in the fields ``downstream:<node>:<piece>``. Nodes are texts, as the scripts compare them with others.
    """
    document = compress(plan.document.encode())
    fields: list[tuple[str, str | bytes]] = [
        (document_piece(number), document[first : first + PIECE])
        for number, first in enumerate(range(0, len(document), PIECE))
    ]
    if len(fields) > 1:
        fields.append((DOCUMENT_PIECES, str(len(fields))))
    sources: dict[tuple[str, str], list[str]] = {}
    for index, node in enumerate(plan.nodes):
        downstream: list[Any] = []
        for follower, is_required in plan.downstream[index]:
            upstreams = len(plan.nodes[follower].edges)
            downstream += (str(follower), upstreams if is_required else -upstreams)
        most = 2 * EDGES_PER_FIELD
        pieces = [downstream[first : first + most] for first in range(0, len(downstream), most)]
        row: list[Any] = [
            "" if node.placement is FlowType.PROCESS else node.placement.value,
            node.queue,
            len(node.edges),
            node.retry.max_attempts,
            node.max_crashes,
            int(node.is_map),
            int(reads_input(node)),
            [str(upstream) for upstream in inputs_of(plan, node)],
            pieces[0] if pieces else [],
            int(bool(optional_of(node))),
        ]
        if len(pieces) > 1:
            row += (most, len(downstream))
            fields += [(f"downstream:{index}:{number}", _dense(piece)) for number, piece in enumerate(pieces[1:], 1)]
        fields.append((str(index), _dense(row)))
        if not node.edges:
            lane = "thread" if node.placement is FlowType.THREAD else "process"
            sources.setdefault((lane, node.queue), []).append(str(index))
    chunks = [
        (lane, queue, nodes[first : first + SOURCES_PER_FIELD])
        for (lane, queue), nodes in sources.items()
        for first in range(0, len(nodes), SOURCES_PER_FIELD)
    ]
    fields += [(f"sources:{number}", json.dumps(chunk)) for number, chunk in enumerate(chunks, 1)]
    fields.append(("sources", str(len(chunks))))
    return PlanRows(fields, queues_of(plan))


def _dense(content: list[Any]) -> str:
    return json.dumps(content, separators=(",", ":"))


def queues_of(plan: Plan) -> list[str]:
    """Give the queues of the nodes that a run begins with; ``""``: the run's own."""
    return sorted({node.queue for node in plan.nodes if not node.edges})


def inputs_of(plan: Plan, node: Node) -> list[int]:
    """Give the upstreams whose values a claim brings along: all, if they are few and none is a map."""
    few = len(node.edges) <= FEW_INPUTS and not any(plan.nodes[edge.upstream].is_map for edge in node.edges)
    return [edge.upstream for edge in node.edges] if few else []


def optional_of(node: Node) -> list[int]:
    """Give the upstreams that the node may have to do without, and is told of."""
    return [edge.upstream for edge in node.edges if edge.name and not edge.required]


def reads_input(node: Node) -> bool:
    """Tell whether the node reads the run's input: a class does unless its arguments say otherwise."""
    expressions: list[Any] = [arg for _, arg in node.args]
    if node.over is not None:
        expressions.append(node.over)
    return not expressions or any(_reads_input(arg) for arg in expressions)


def _reads_input(arg: Arg) -> bool:
    if arg[0] == "list":
        return any(_reads_input(part) for part in arg[1])
    if arg[0] == "dict":
        return any(_reads_input(part) for _, part in arg[1])
    return bool(arg[0] == "input")
