"""What the design says must become of a run, worked out naively from how each node's attempts end.

Nothing here knows the state machine, its events or its counters: only the plan's edges, and these sentences. A node
runs when every upstream is settled and every required one completed. A required upstream that ends otherwise makes it
UPSTREAM_FAILED, or SKIPPED if the upstream was skipped. A map's required downstream goes by its first item that did not
complete; its optional downstream waits for all; a map that fails before all its items are open takes those along that
are. Failures are tried again as the policy says, crashes up to their own budget. A run is COMPLETED when every sink is
COMPLETED or SKIPPED; CANCELLED if cancelled; else FAILED.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from flowq.core.types import FlowStatus, MissingReason, NodeStatus
from flowq.plan import Node, Plan
from flowq.runtime.events import Ref
from tests.property.choices import Choose, one_of


class Ending(StrEnum):
    """How one attempt ends."""

    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    FATAL = "fatal"
    """Failed in a way that no other attempt can mend."""
    SKIPPED = "skipped"
    LOST = "lost"
    """Its worker died."""
    RELEASED = "released"
    """Given back unstarted."""


class Stand(NamedTuple):
    """How a node stands at the end."""

    status: NodeStatus
    reason: MissingReason | None
    attempts: int
    crashes: int


ENDINGS = (*[Ending.COMPLETED] * 6, *Ending)
"""To draw from: most of them complete, so that there is something to run behind them."""

LONGEST = 6
"""Drawn endings of a node; then it completes."""

BAD = (NodeStatus.FAILED, NodeStatus.UPSTREAM_FAILED)


@dataclass
class Fate:
    """The endings of all attempts of a node or item, the last of which settles it; and a map's number of items."""

    endings: list[Ending]
    settled: Stand
    items: int = 0
    opened: list[int] = field(default_factory=list)
    """Per attempt of a map: how many more items it opens, if it does not complete, before it ends."""


class Fates:
    """Decides how every attempt of a run ends, before any of them begins."""

    def __init__(self, plan: Plan, choose: Choose, endings: Sequence[Ending] = ENDINGS) -> None:
        self._plan = plan
        self._choose = choose
        self._endings = endings
        self._drawn: dict[Ref, Fate] = {}

    def of(self, ref: Ref) -> Fate:
        if ref not in self._drawn:
            self._drawn[ref] = self._draw(self._plan.nodes[ref.node], ref)
        return self._drawn[ref]

    def release(self, ref: Ref, attempt: int) -> None:
        """Let a node be handed back before this attempt: that decides nothing."""
        fate = self.of(ref)
        fate.endings.insert(attempt, Ending.RELEASED)
        if fate.opened:
            fate.opened.insert(attempt, 0)

    def renew(self, ref: Ref) -> None:
        """Let a node have another fate: it begins from nothing."""
        self._drawn.pop(ref, None)

    def _draw(self, node: Node, ref: Ref) -> Fate:
        endings: list[Ending] = []
        settled = None
        while settled is None:
            drawn = one_of(self._choose, self._endings) if len(endings) < LONGEST else Ending.COMPLETED
            endings.append(drawn)
            settled = settle(endings, node.retry.max_attempts, node.max_crashes)
        fate = Fate(endings, settled)
        if node.over is not None and ref.item < 0:
            fate.items = len(node.over[1]) if node.over[0] == "const" else self._choose(5)
            fate.opened = [self._choose(3) for _ in endings]
        return fate


def settle(endings: list[Ending], max_attempts: int, max_crashes: int) -> Stand | None:
    """Give how these attempts settle a node; None: another one follows."""
    crashes = endings.count(Ending.LOST)
    failures = sum(ending in (Ending.FAILED, Ending.TIMED_OUT, Ending.FATAL) for ending in endings)
    attempts = len(endings) - endings.count(Ending.RELEASED)
    match endings[-1]:
        case Ending.COMPLETED:
            return Stand(NodeStatus.COMPLETED, None, attempts, crashes)
        case Ending.SKIPPED:
            return Stand(NodeStatus.SKIPPED, MissingReason.SKIPPED, attempts, crashes)
        case Ending.LOST if crashes == max_crashes:
            return Stand(NodeStatus.FAILED, MissingReason.FAILED, attempts, crashes)
        case Ending.TIMED_OUT if failures == max_attempts:
            return Stand(NodeStatus.FAILED, MissingReason.TIMED_OUT, attempts, crashes)
        case Ending.FATAL:
            return Stand(NodeStatus.FAILED, MissingReason.FAILED, attempts, crashes)
        case Ending.FAILED if failures == max_attempts:
            return Stand(NodeStatus.FAILED, MissingReason.FAILED, attempts, crashes)
    return None


def check_end(
    plan: Plan,
    fates: Fates,
    seen: Mapping[Ref, Stand],
    status: FlowStatus,
    cut: FlowStatus | None,
    kept: Collection[Ref] = (),
) -> None:
    """Raise AssertionError if an ended run is not as it must be.

    Args:
        cut: how it was ended before its time: CANCELLED, or FAILED by its deadline; None: it was not.
        kept: what was cancelled by an earlier end and has not been retried.
    """
    for index, node in enumerate(plan.nodes):  # upstreams come first
        _check_node(plan, fates, seen, Ref(index), node, kept)
    for ref, one in seen.items():
        assert one.status.is_final, (ref, one)
        gave_up = ref.item >= 0 and fates.of(Ref(ref.node)).settled.status is not NodeStatus.COMPLETED
        is_kept = ref in kept or Ref(ref.node) in kept or (ref.item < 0 and any(item.node == ref.node for item in kept))
        required = (seen[Ref(edge.upstream)] for edge in plan.nodes[ref.node].edges if edge.required)
        follows = any(upstream.status is NodeStatus.CANCELLED for upstream in required)
        assert cut or gave_up or is_kept or follows or one.status is not NodeStatus.CANCELLED, (ref, one)
    sources = {edge.upstream for node in plan.nodes for edge in node.edges}
    sinks = [seen[Ref(index)].status for index in range(len(plan.nodes)) if index not in sources]
    if cut:
        expected = cut
    elif all(sink in (NodeStatus.COMPLETED, NodeStatus.SKIPPED) for sink in sinks):
        expected = FlowStatus.COMPLETED
    else:
        expected = FlowStatus.FAILED
    assert status is expected, (status, sinks)


def _check_node(
    plan: Plan, fates: Fates, seen: Mapping[Ref, Stand], ref: Ref, node: Node, kept: Collection[Ref]
) -> None:
    one = seen[ref]
    if one.status is NodeStatus.CANCELLED:
        assert one.reason is MissingReason.CANCELLED, (ref, one)
        return
    blocked = {status for edge in node.edges if edge.required for status in _blocks(plan, seen, edge.upstream)}
    if blocked:
        assert one.status in blocked, (ref, one, blocked)
        assert one.reason is MissingReason(one.status.value), (ref, one)
        assert one.attempts == 0, f"{ref} ran though a required upstream had not completed"
        return
    fate = fates.of(ref)
    if node.over is not None and fate.settled.status is NodeStatus.COMPLETED:
        _check_map(fates, seen, ref, fate, kept)
    else:
        assert one == fate.settled, (ref, one, fate)


def _check_map(fates: Fates, seen: Mapping[Ref, Stand], ref: Ref, fate: Fate, kept: Collection[Ref]) -> None:
    every = [Ref(ref.node, position) for position in range(fate.items)]
    items = [item for item in every if item not in kept]
    assert all(seen[item].status is NodeStatus.CANCELLED for item in every if item in kept)
    for item in items:
        assert seen[item] == fates.of(item).settled, (item, seen[item], fates.of(item))
    ends = [fates.of(item).settled.status for item in items]
    expected: tuple[NodeStatus, MissingReason | None] = (NodeStatus.COMPLETED, None)
    if NodeStatus.FAILED in ends:
        expected = (NodeStatus.FAILED, MissingReason.FAILED)
    elif NodeStatus.SKIPPED in ends:
        expected = (NodeStatus.SKIPPED, MissingReason.SKIPPED)
    assert seen[ref][:2] == expected, (ref, seen[ref], ends)
    assert len(items) == len(every) or expected[0] is not NodeStatus.COMPLETED, (ref, seen[ref])


def _blocks(plan: Plan, seen: Mapping[Ref, Stand], upstream: int) -> set[NodeStatus]:
    """What a node may become because of a required upstream; empty: it completed.

    Of a map with several items that did not complete, which one was first is not known here.
    """
    items = {one.status for ref, one in seen.items() if ref.node == upstream and ref.item >= 0}
    ends = (items - {NodeStatus.CANCELLED} | {seen[Ref(upstream)].status}) - {NodeStatus.COMPLETED}
    return {NodeStatus.UPSTREAM_FAILED if status in BAD else status for status in ends}
