"""The read model of a run: what handles, the command line and pages show of it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel, ConfigDict

from flowq.core import garbage
from flowq.core.result import Failure, FlowResult, NodeResult
from flowq.core.types import FlowStatus, MissingReason, NodeStatus
from flowq.plan import Plan
from flowq.results import ResultsManager
from flowq.results.codec import list_of
from flowq.runtime.events import Ref
from flowq.runtime.missing import Ending, label, missing_of
from flowq.runtime.outcome import RunHead, result_of
from flowq.runtime.state import Record, State

ITEM = re.compile(r"(.*)\[(\d+)\]")
"""An item of a map, as labels write it."""


REASONS = {"deadline": "the run had not ended when its deadline passed"}
"""Why a run failed, if no node is to blame."""


class Progress(BaseModel):
    """How far a run is. Items of maps count as nodes, once their number is known."""

    model_config = ConfigDict(frozen=True)

    status: FlowStatus
    is_paused: bool
    total: int
    settled: int
    completed: int
    failed: int
    skipped: int
    upstream_failed: int

    @property
    def share(self) -> float:
        """The settled part of the nodes known so far, 0 to 1."""
        return self.settled / self.total if self.total else 1.0


def progress_of(state: State, run: str) -> Progress:
    """Read a run's progress; O(1) in the size of the flow."""
    head = state.head(run)
    counts = {
        name: int(head.get(name, 0))
        for name in ("total", "settled", "completed", "failed", "skipped", "upstream_failed")
    }
    status = FlowStatus(head["status"])
    return Progress(status=status, is_paused="paused" in head and not status.is_final, **counts)


class RunReader:
    """Reads one run."""

    def __init__(self, state: State, results: ResultsManager, run: str, head: Mapping[str, str] | None = None) -> None:
        self._state, self._results, self._run = state, results, run
        self._head = state.head(run) if head is None else head
        self.plan: Plan = state.plan(self._head["plan"])
        self.status = FlowStatus(self._head["status"])

    @garbage.left_alone()
    def result(self, returns: Any, records: dict[Ref, Record] | None = None, output: bytes | None = None) -> FlowResult:
        """Give the whole result; ``records`` (all of them) and ``output`` (packed) as far as they were read."""
        head = RunHead(
            self._run,
            self._head["process_id"],
            self._head["name"],
            self.status,
            _time(self._head["submitted"]),
            _time(self._head["ended"]) if "ended" in self._head else None,
            REASONS.get(self._head.get("reason", ""), ""),
        )
        if records is None:
            records = self._records()
        nodes = {node.name: node for node in self._nodes(records)}
        data = None
        if self.status is FlowStatus.COMPLETED and self.plan.output is not None:
            known = self._unpacked(output)
            data = self.output(Ref(self.plan.output), records) if known is None else known
        return result_of(self.plan, head, nodes, data, returns)

    def output(self, ref: Ref, records: dict[Ref, Record] | None = None) -> bytes | None:
        """Give a node's encoded output; of a map, the list of its items'; None: it has none (yet)."""
        if self.plan.nodes[ref.node].is_map and ref.item < 0:
            found = self._state.records(self._run, [ref.key])[0] if records is None else records.get(ref)
            if found is None or found.ending.total < 0:
                return None
            keys = [Ref(ref.node, item).key for item in range(found.ending.total)]
            return list_of([self._unpacked(data) for data in self._state.values(self._run, keys)])
        return self._unpacked(self._state.values(self._run, [ref.key])[0])

    def ref_of(self, name: str) -> Ref:
        """Find a node by its path, or by its flow's name if only one has it; KeyError otherwise."""
        match = ITEM.fullmatch(name)
        path, item = (match[1], int(match[2])) if match else (name, -1)
        if path in self.plan.index:
            found = [self.plan.index[path]]
        else:
            found = [index for index, node in enumerate(self.plan.nodes) if node.name == path]
        if len(found) != 1:
            known = ", ".join(sorted(self.plan.index)[:20])
            raise KeyError(f"{name!r} names {len(found) or 'no'} nodes; there are {known}")
        ref = Ref(found[0])
        if item < 0:
            return ref
        map_ = self._records([ref]).get(ref) if self.plan.nodes[ref.node].is_map else None
        total = 0 if map_ is None else max(map_.ending.total, 0)
        if item >= total:
            raise KeyError(f"{name!r} names no nodes; {path!r} has {total} items")
        return Ref(ref.node, item)

    def node(self, name: str) -> NodeResult:
        """Give one node as it stands now."""
        ref = self.ref_of(name)
        records = self._records() if self.plan.nodes[ref.node].edges else self._records([ref])
        return self._node(ref, records)

    def _unpacked(self, data: bytes | None) -> bytes | None:
        return None if data is None else self._results.unpack(self._run, data)

    def _records(self, refs: list[Ref] | None = None) -> dict[Ref, Record]:
        if refs is None:
            return self._state.all_records(self._run)
        some = zip(refs, self._state.records(self._run, [ref.key for ref in refs]), strict=True)
        return {ref: record for ref, record in some if record is not None}

    def _nodes(self, records: dict[Ref, Record]) -> Iterator[NodeResult]:
        for index in range(len(self.plan)):
            ref = Ref(index)
            yield self._node(ref, records)
            if self.plan.nodes[index].is_map and ref in records:
                for item in range(records[ref].ending.total):
                    yield self._node(Ref(index, item), records)

    def _node(self, ref: Ref, records: dict[Ref, Record]) -> NodeResult:
        record = records.get(ref) or self._untouched(ref)
        status = record.status
        if self.status.is_final and not status.is_final:
            status = NodeStatus.CANCELLED
        failure = self._failures.get(ref.key) if status is NodeStatus.FAILED else None
        missing: dict[str, MissingReason] = {}
        if record.attempt:
            missing = missing_of(self.plan, self.plan.nodes[ref.node], lambda up: _ending(records, up))
        return NodeResult(
            name=label(self.plan, ref),
            status=status,
            attempt=record.attempt,
            worker=record.worker,
            started_at=record.started,
            ended_at=record.ended,
            failure=failure,
            missing=missing,
        )

    @cached_property
    def _failures(self) -> dict[str, Failure]:
        return self._state.failures(self._run)

    def _untouched(self, ref: Ref) -> Record:
        """Nothing has been written of a node that is as it began."""
        waits = ref.item < 0 and bool(self.plan.nodes[ref.node].edges)
        return Record(NodeStatus.PENDING if waits else NodeStatus.READY)


def _ending(records: dict[Ref, Record], ref: Ref) -> Ending:
    return records[ref].ending if ref in records else Ending(NodeStatus.PENDING, MissingReason.CANCELLED)


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
