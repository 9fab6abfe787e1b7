"""The plan: a graph as compiled. Immutable, plain JSON, named by the hash of its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from flowq.core import garbage
from flowq.core.args import Arg, from_json
from flowq.core.config import RetryPolicy
from flowq.core.errors import PlanError
from flowq.core.types import FlowType

PLAN_VERSION = 1
"""Grows when a plan of the old form could be misread; workers refuse other versions."""

_DEFAULT_RETRY = RetryPolicy(max_attempts=1)

FEW_FOLLOWERS = 4
"""So many nodes that follow from one another worker hardly misses, if they are short."""

FEW_UPSTREAMS = 16
"""A node with more will hardly find them all done by one worker at once."""


@dataclass(frozen=True, slots=True)
class Edge:
    """What a node demands of one upstream."""

    upstream: int
    required: bool
    name: str = ""
    """The name under which the node sees the upstream's value; empty: the edge only orders."""


@dataclass(frozen=True, slots=True)
class Node:
    """One place in a plan."""

    path: str
    processor: str
    """``module:qualname``"""
    config: str = ""
    """The processor's fields, as canonical JSON."""
    args: tuple[tuple[str, Arg], ...] = ()
    edges: tuple[Edge, ...] = ()
    """By upstream; a node has at most one edge from each."""
    placement: FlowType = FlowType.PROCESS
    """INLINE, THREAD or PROCESS."""
    queue: str = ""
    """Empty: the context's default queue."""
    timeout_s: float | None = None
    retry: RetryPolicy = _DEFAULT_RETRY
    max_crashes: int = 3
    over: Arg | None = None
    """For a map: the items."""
    item_parameter: str = ""
    fused: bool = False
    """INLINE with a single upstream: it runs right after that one, in the same claim."""

    @property
    def is_map(self) -> bool:
        return self.over is not None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Plan:
    """Nodes in topological order, so that every edge points backwards.

    Two graphs of the same steps have the same plan, in whatever order or form they were written.
    """

    nodes: tuple[Node, ...]
    output: int | None = None
    """The node whose output is the flow's."""

    @cached_property
    def downstream(self) -> tuple[tuple[tuple[int, bool], ...], ...]:
        """Per node, its downstream nodes as (node, required)."""
        found: list[list[tuple[int, bool]]] = [[] for _ in self.nodes]
        for index, node in enumerate(self.nodes):
            for edge in node.edges:
                found[edge.upstream].append((index, edge.required))
        return tuple(tuple(edges) for edges in found)

    @cached_property
    def sinks(self) -> tuple[int, ...]:
        """The nodes that nothing waits for; they decide how the run ends."""
        return tuple(index for index, edges in enumerate(self.downstream) if not edges)

    @cached_property
    def has_threads(self) -> bool:
        """Some node is placed in a thread."""
        return any(node.placement is FlowType.THREAD for node in self.nodes)

    @cached_property
    def fused(self) -> dict[int, tuple[int, ...]]:
        """Per node, those that are fused to it."""
        found: dict[int, list[int]] = {}
        for index, node in enumerate(self.nodes):
            if node.fused:
                found.setdefault(node.edges[0].upstream, []).append(index)
        return {host: tuple(followers) for host, followers in found.items()}

    @cached_property
    def ahead(self) -> dict[int, tuple[int, ...]]:
        """Per node, those that the worker that has run it may go on with at once, should it have run all else that they
        wait for as well: those that are fused to it, and of short ones so few that nobody else misses them.
        """
        found: dict[int, tuple[int, ...]] = {}
        for index, edges in enumerate(self.downstream):
            few = edges if len(edges) <= FEW_FOLLOWERS else ()
            short = (follower for follower, _ in few if self._may_come_at_once(follower))
            if followers := tuple(dict.fromkeys((*self.fused.get(index, ()), *short))):
                found[index] = followers
        return found

    def _may_come_at_once(self, index: int) -> bool:
        node = self.nodes[index]
        if node.is_map or node.timeout_s is not None:  # if it is stopped, those before must stand as recorded
            return False
        if len(node.edges) > FEW_UPSTREAMS or node.placement is FlowType.THREAD:
            return False
        upstreams = [self.nodes[edge.upstream] for edge in node.edges]
        if any(upstream.is_map for upstream in upstreams):
            return False
        if node.placement is FlowType.INLINE:
            return True
        alike = all((other.placement, other.queue) == (node.placement, node.queue) for other in upstreams)
        return alike and all(
            one.max_crashes > 1 for one in (node, *upstreams)
        )  # what ends its process takes others along

    @cached_property
    def index(self) -> dict[str, int]:
        """Node by path."""
        return {node.path: index for index, node in enumerate(self.nodes)}

    @cached_property
    def document(self) -> str:
        """The plan as JSON; ``Plan.from_json`` reads it back."""
        content = {"version": PLAN_VERSION, "output": self.output, "nodes": [_to_json(node) for node in self.nodes]}
        return json.dumps(content, sort_keys=True, separators=(",", ":"))

    @cached_property
    def hash(self) -> str:
        """32 hexadecimal digits of the document's SHA-256."""
        return hashlib.sha256(self.document.encode()).hexdigest()[:32]

    @staticmethod
    @garbage.left_alone()
    def from_json(document: str | bytes) -> Plan:
        """Read a plan back.

        Raises:
            PlanError: the document is no plan, or one of another version.
        """
        try:
            content = json.loads(document)
            if content["version"] != PLAN_VERSION:
                raise PlanError(
                    f"plan version {content['version']} cannot be run by this flowq, which runs version {PLAN_VERSION};"
                    " run producers and workers of the same flowq release"
                )
            return Plan(tuple(_from_json(node) for node in content["nodes"]), content["output"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise PlanError(f"this is no plan: {error!r}") from error

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)


def _to_json(node: Node) -> dict[str, Any]:
    """Leave defaults out: most nodes set little, and a plan may have 100,000."""
    content: dict[str, Any] = {"path": node.path, "processor": node.processor}
    if node.config:
        content["config"] = node.config
    if node.args:
        content["args"] = dict(node.args)
    if node.edges:
        content["edges"] = [[edge.upstream, int(edge.required), edge.name] for edge in node.edges]
    if node.placement is not FlowType.PROCESS:
        content["placement"] = node.placement.value
    if node.queue:
        content["queue"] = node.queue
    if node.timeout_s is not None:
        content["timeout_s"] = node.timeout_s
    if node.retry is not _DEFAULT_RETRY and node.retry != _DEFAULT_RETRY:
        content["retry"] = node.retry.model_dump(mode="json")
    if node.max_crashes != 3:
        content["max_crashes"] = node.max_crashes
    if node.over is not None:
        content["over"] = node.over
        content["item_parameter"] = node.item_parameter
    if node.fused:
        content["fused"] = True
    return content


def _from_json(content: dict[str, Any]) -> Node:
    return Node(
        path=content["path"],
        processor=content["processor"],
        config=content.get("config", ""),
        args=tuple((name, from_json(arg)) for name, arg in content.get("args", {}).items()),
        edges=tuple(Edge(upstream, bool(required), name) for upstream, required, name in content.get("edges", ())),
        placement=FlowType(content.get("placement", FlowType.PROCESS)),
        queue=content.get("queue", ""),
        timeout_s=content.get("timeout_s"),
        retry=RetryPolicy.model_validate(content["retry"]) if "retry" in content else _DEFAULT_RETRY,
        max_crashes=content.get("max_crashes", 3),
        over=from_json(content["over"]) if "over" in content else None,
        item_parameter=content.get("item_parameter", ""),
        fused=content.get("fused", False),
    )
