"""What will run when a flow is submitted, as facts: worked out from its plan, and for a canvas from its lowering."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import Any, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from flowq.cli.expression import express
from flowq.client.critical_path import CriticalPath
from flowq.core.config import Dispatch
from flowq.core.context import FlowContext
from flowq.core.types import FlowType
from flowq.plan import JOIN, RESOLVED, Edge, EdgeKind, Lowering, Plan, Region, Series, lower
from flowq.plan.cutting import ENVELOPE
from flowq.plan.regions import fold, parts_of
from flowq.runtime.canvas.signatures import Signatures, can_join, task_name
from flowq.runtime.imported import UNLIMITED

WAKE_UP_BYTES = 1024
"""No wake-up is larger, whatever the flow."""

IRREDUCIBLE = "irreducible: no chain, group or chord says it without a further barrier"
UNKNOWN_NUMBER = "map: how many items it has is known only at run time"
BEHIND_INLINE = "inline: Celery would deliver it only after inline nodes that it does not wait for"

Runs: TypeAlias = Literal["own", "claim", "handed", "task"]
"""How a node comes to run: with a claim or task of its own; in the claim of another node; claimed by itself, but by the
worker that settled its last upstream; in the task of another node."""


class _Facts(BaseModel):
    model_config = ConfigDict(frozen=True)


class NodeFacts(_Facts):
    """One node, and how it comes to run."""

    path: str
    processor: str
    placement: str
    queue: str
    timeout_s: float | None
    retries: int | None
    """None: any number."""
    is_map: bool
    runs: Runs
    runs_with: tuple[str, ...]
    """The nodes in one of whose claims or tasks it runs: of several, in that of the one that ends last."""
    task: str | None
    """The name of its Celery task; None if it has none."""


class EdgeFacts(_Facts):
    """One edge, and how it is delivered in a canvas."""

    upstream: str
    node: str
    required: bool
    delivery: str | None
    """A value of ``flowq.plan.EdgeKind``; None: the run's state delivers it, as all edges in a pull."""
    why: str | None
    """Of one that Celery's primitives cannot express: what hinders them."""


class SegmentFacts(_Facts):
    """What is published together."""

    expression: str
    begins: bool
    """A run begins with it; else it is published when the last upstream of its heads is settled."""
    heads: tuple[str, ...]
    messages: int
    bytes: int
    largest_bytes: int
    region: Any = Field(exclude=True)


class CanvasFacts(_Facts):
    """How Celery runs the flow."""

    segments: tuple[SegmentFacts, ...]
    deliveries: dict[str, int]
    """How many edges of each kind there are."""
    resolver_edges: int
    continuations: int
    extra_barriers: tuple[tuple[str, str], ...]
    """What Celery would have a node wait for though the plan does not."""
    has_chords: bool
    """The app has a result backend, in which Celery counts chords."""


class MessageFacts(_Facts):
    """The messages of one run, about. None: that depends on how many slots are free."""

    number: int | None
    bytes: int | None
    largest_bytes: int
    map_item_bytes: int | None
    """Every item of a map is one more message of about so many bytes; None: there is none."""


class Explanation(_Facts):
    """All that is known before a run; of the latest run that completed, what it showed."""

    flow: str
    plan: str
    dispatch: Dispatch
    nodes: tuple[NodeFacts, ...]
    edges: tuple[EdgeFacts, ...]
    canvas: CanvasFacts | None
    messages: MessageFacts
    past_run: str | None = None
    past: str = "no past run"
    """In words."""
    critical_path: CriticalPath | None = None


def explain_plan(name: str, plan: Plan, dispatch: Dispatch, context: FlowContext) -> Explanation:
    """Work out what will run. Nothing is started, and nobody is asked."""
    lowering = lower(plan, chords=can_join(context.celery_app)) if dispatch == "canvas" else None
    places = _Places(plan, context, lowering)
    return Explanation(
        flow=name,
        plan=plan.hash,
        dispatch=dispatch,
        nodes=tuple(map(places.node, range(len(plan)))),
        edges=tuple(places.edge(edge, index) for index, node in enumerate(plan) for edge in node.edges),
        canvas=None if lowering is None else _canvas(plan, lowering, can_join(context.celery_app)),
        messages=_messages(plan, lowering),
    )


class _Places:
    """Where the nodes of a plan run, and how they are reached."""

    def __init__(self, plan: Plan, context: FlowContext, lowering: Lowering | None) -> None:
        self._plan, self._context, self._lowering = plan, context, lowering
        self._hosts = {} if lowering is None else hosts_of(plan, lowering)
        self._closed = set() if lowering is None else _closed(lowering)
        self._routes: dict[str, str] = {}

    def node(self, index: int) -> NodeFacts:
        node = self._plan.nodes[index]
        runs, hosts = self._runs(index)
        task = task_name(node) if self._lowering is not None and runs == "own" else None
        return NodeFacts(
            path=node.path,
            processor=node.processor,
            placement=node.placement.value,
            queue=node.queue or self._queue(task, index),
            timeout_s=node.timeout_s,
            retries=None if node.retry.max_attempts == UNLIMITED else node.retry.max_attempts - 1,
            is_map=node.is_map,
            runs=runs,
            runs_with=tuple(self._plan.nodes[host].path for host in sorted(hosts)),
            task=task,
        )

    def edge(self, edge: Edge, index: int) -> EdgeFacts:
        kind = None if self._lowering is None else self._lowering.edges[edge.upstream, index]
        return EdgeFacts(
            upstream=self._plan.nodes[edge.upstream].path,
            node=self._plan.nodes[index].path,
            required=edge.required,
            delivery=kind and kind.value,
            why=self._why(edge.upstream) if kind in RESOLVED else None,
        )

    def _runs(self, index: int) -> tuple[Runs, frozenset[int]]:
        node = self._plan.nodes[index]
        if self._lowering is not None:
            return ("task", self._hosts[index]) if index in self._hosts else ("own", frozenset())
        if node.placement is FlowType.INLINE and node.edges:
            return "claim" if node.fused else "handed", frozenset(edge.upstream for edge in node.edges)
        return "own", frozenset()

    def _queue(self, task: str | None, index: int) -> str:
        """Give the queue of a node that names none: a task of its own goes by the routes of the Celery app."""
        if task is None:
            return self._context.settings.queue
        if task not in self._routes:
            app = self._context.celery_app
            signature = Signatures(self._context, app, "", self._plan).node(str(index))
            queue = app.amqp.router.route(dict(signature.options), task).get("queue")
            self._routes[task] = str(getattr(queue, "name", queue))
        return self._routes[task]

    def _why(self, upstream: int) -> str:
        if any(self._plan.nodes[host].is_map for host in self._hosts.get(upstream, {upstream})):
            return UNKNOWN_NUMBER
        return BEHIND_INLINE if upstream in self._closed else IRREDUCIBLE


def hosts_of(plan: Plan, lowering: Lowering) -> dict[int, frozenset[int]]:
    """Give, per node without a task of its own, the nodes in one of whose tasks it runs."""
    hosts: dict[int, frozenset[int]] = {}
    for index in sorted(lowering.inline):
        before = (edge.upstream for edge in plan.nodes[index].edges)
        last = [upstream for upstream in before if lowering.edges[upstream, index] is EdgeKind.INLINE]
        hosts[index] = frozenset(host for upstream in last for host in hosts.get(upstream, {upstream}))
    return hosts


def _closed(lowering: Lowering) -> set[int]:
    """Give the nodes that Celery could follow up only when inline nodes have run, for which not all there waits."""
    after: dict[int, set[bool]] = {}
    for (upstream, _), kind in lowering.edges.items():
        if kind is not EdgeKind.IMPLIED:
            after.setdefault(upstream, set()).add(kind is EdgeKind.INLINE)
    closed = {upstream for upstream, found in after.items() if len(found) > 1}
    for (upstream, node), kind in sorted(lowering.edges.items(), key=lambda edge: edge[0][1]):
        if kind is EdgeKind.INLINE and upstream in closed:
            closed.add(node)
    return closed


def _canvas(plan: Plan, lowering: Lowering, has_chords: bool) -> CanvasFacts:
    count = Counter(lowering.edges.values())
    segments = (
        SegmentFacts(
            expression=express(plan, segment.region, short=False, width=inf)[0],
            begins=number in lowering.sources,
            heads=tuple(plan.nodes[head].path for head in segment.heads),
            messages=segment.messages,
            bytes=segment.bytes,
            largest_bytes=segment.largest,
            region=segment.region,
        )
        for number, segment in enumerate(lowering.segments)
    )
    return CanvasFacts(
        segments=tuple(segments),
        deliveries={kind.value: count[kind] for kind in EdgeKind},
        resolver_edges=sum(count[kind] for kind in RESOLVED),
        continuations=count[EdgeKind.CONTINUATION],
        extra_barriers=tuple((plan.nodes[one].path, plan.nodes[other].path) for one, other in barriers(plan, lowering)),
        has_chords=has_chords,
    )


def barriers(plan: Plan, lowering: Lowering) -> list[tuple[int, int]]:
    """Give what Celery would have a node wait for though the plan does not: there must be nothing."""
    hosts = hosts_of(plan, lowering)
    found: list[tuple[int, int]] = []

    def combine(region: Region, inner: list[_Ends]) -> _Ends:
        if isinstance(region, int):
            return _Ends([], []) if region == JOIN else _Ends([region], [region])
        if not isinstance(region, Series):
            return _Ends([head for part in inner for head in part.heads], [end for part in inner for end in part.ends])
        whole = inner[0]
        for part in inner[1:]:
            for head in part.heads:
                edges = (edge.upstream for edge in plan.nodes[head].edges)
                wanted = {host for upstream in edges for host in hosts.get(upstream, {upstream})}
                found.extend((end, head) for end in whole.ends if end not in wanted)
            whole = _Ends(whole.heads, part.ends or whole.ends)  # a join ends with what it waits for
        return whole

    for segment in lowering.segments:
        fold(segment.region, parts_of, combine)
    return found


class _Ends(NamedTuple):
    """The nodes that a region begins and ends with."""

    heads: list[int]
    ends: list[int]


def _messages(plan: Plan, lowering: Lowering | None) -> MessageFacts:
    if lowering is None:
        return MessageFacts(number=None, bytes=None, largest_bytes=WAKE_UP_BYTES, map_item_bytes=None)
    segments = lowering.segments
    return MessageFacts(
        number=sum(segment.messages for segment in segments),
        bytes=sum(segment.bytes for segment in segments),
        largest_bytes=max((segment.largest for segment in segments), default=0),
        map_item_bytes=ENVELOPE if any(node.is_map for node in plan) else None,
    )
