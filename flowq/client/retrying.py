"""Opens an ended run again: what is made anew is worked out here, staged, and put in place by one script."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from flowq.core.errors import RunNotFound, RunStatusError
from flowq.core.types import FINAL, FlowStatus, MissingReason, NodeStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import NodeState, RunState
from flowq.runtime.missing import label
from flowq.runtime.reopening import Reopened, blockers, reopen
from flowq.runtime.replies import Changed
from flowq.runtime.state import Record, State

CHUNK = 1000
"""Entries that one call stages."""


def retry(state: State, run: str, roots: list[Ref]) -> Changed:
    """Open a run again; ``roots`` as in ``reopen``.

    Raises:
        RunNotFound: there is no such run.
        RunStatusError: it has not ended, somebody else has opened it, there is nothing to be done again, or what is
            chosen could not start.
    """
    head = state.head(run)
    status = FlowStatus(head["status"])
    if not status.is_final:
        raise RunStatusError(f"run {run} is {status}: only an ended run is retried; wait for its end, or cancel it")
    plan = state.plan(head["plan"])
    records = state.all_records(run)
    loaded = load(plan, status, records)
    if found := blockers(loaded, roots):
        names = ", ".join(repr(label(plan, ref)) for ref in found)
        raise RunStatusError(
            f"run {run} cannot be retried from {label(plan, roots[0])!r}: {names} did not complete; retry from there"
        )
    opened = reopen(loaded, roots)
    if not opened.anew:
        raise RunStatusError(f"run {run} has no failed or cancelled node; name the node to retry from")
    staged = state.keys.staged(run, uuid.uuid4().hex)
    entries = entries_of(loaded, records, opened)
    for first in range(0, len(entries), CHUNK):
        state.scripts.stage(staged=staged, offset=first, values=entries[first : first + CHUNK])
    changed = state.scripts.retry(run=run, ended=head["ended"], staged=staged, counters=counters_of(loaded))
    if changed is None:
        raise RunNotFound(f"there is no run {run!r}")
    if changed.said != "ok":
        state.client.delete(staged)
        raise RunStatusError(f"run {run} was changed by somebody else meanwhile; look at it again")
    return changed


def entries_of(state: RunState, records: dict[Ref, Record], opened: Reopened) -> list[str]:
    """Give what the script puts in place, in such an order that a run which is cancelled meanwhile makes sense."""
    put = {ref: _record(state.nodes[ref], records.get(ref)) for ref in opened.anew}
    # What the run's end cancelled stands there as if it were still to come; also items of a map that is open again.
    open_maps = {ref.node for ref in put if state.nodes[ref].status is NodeStatus.RUNNING}
    for ref, node in state.nodes.items():
        if ref not in put and node.status is NodeStatus.CANCELLED and (ref.item < 0 or ref.node in open_maps):
            put[ref] = _cancelled(records.get(ref) or Record(NodeStatus.PENDING))
    # Items of a map that begins from nothing; also those that an earlier retry, which was cut short, has left.
    items = {ref for ref in records if ref.item >= 0 and state.nodes[Ref(ref.node)].opened == 0} | {*opened.dropped}
    entries = [f"put {ref.key} {record}" for ref, record in sorted(put.items())]
    entries += [f"drop {ref.key}" for ref in sorted(items)]
    return entries + [f"ready {ref.key}" for ref in opened.ready]


def load(plan: Plan, status: FlowStatus, records: dict[Ref, Record]) -> RunState:
    """Give an ended run as the state machine knows it. What had not ended was cancelled with the run."""
    state = RunState(plan, status)
    for index in range(len(plan)):
        state.nodes[Ref(index)] = node = _node(records.get(Ref(index)))
        for item in range(node.opened):
            state.nodes[Ref(index, item)] = _node(records.get(Ref(index, item)))
    state.fence = max((record.fence for record in records.values()), default=0)
    return state


def _node(record: Record | None) -> NodeState:
    if record is None:
        return NodeState(NodeStatus.CANCELLED, reason=MissingReason.CANCELLED)
    node = NodeState(record.status, 0, record.attempt, record.crashes)
    if "," in record.more:
        total, opened, settled, broken = record.more.split(",")
        node.total, node.opened, node.settled = int(total), int(opened), int(settled)
        node.broken = NodeStatus(broken) if broken in FINAL else None
    if node.status not in FINAL:
        node.status, node.reason = NodeStatus.CANCELLED, MissingReason.CANCELLED
    return node


def _record(node: NodeState, before: Record | None) -> Record:
    if node.total >= 0 and before is not None:
        more = f"{node.total},{node.opened},{node.settled},{node.broken or ''}"
        return before._replace(status=node.status, fence=0, ended=None, more=more)
    return Record(node.status, more=str(node.waiting) if node.waiting else "")


def _cancelled(before: Record) -> Record:
    ended = before.ended or datetime.now(UTC)
    more = MissingReason.CANCELLED.value
    if "," in before.more:
        more = f"{before.more.rpartition(',')[0]},{more}"
    return before._replace(status=NodeStatus.CANCELLED, fence=0, ended=ended, more=more)


def counters_of(state: RunState) -> dict[str, int]:
    """Give the counters of a run's head, as the scripts keep them. Items that their map took along count nowhere."""
    taken = {ref for ref in state.nodes if ref.item >= 0 and state.nodes[ref].status is NodeStatus.CANCELLED}
    taken = {ref for ref in taken if state.nodes[Ref(ref.node)].status in FINAL}
    ends = [node.status for ref, node in state.nodes.items() if node.status in FINAL and ref not in taken]
    items = sum(node.settled if node.status in FINAL else max(0, node.total) for node in state.nodes.values())
    counted = ("completed", "failed", "skipped", "upstream_failed", "cancelled")
    return {
        "remaining": state.remaining,
        "bad_sinks": state.bad_sinks,
        "total": len(state.plan) + items,
        "settled": len(ends),
    } | {status: ends.count(NodeStatus(status)) for status in counted}
