"""The read model of a run: what handles, the command line and pages show of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from flowq.client.recorded import Recorded, is_any_failed
from flowq.core import garbage
from flowq.core.result import FlowResult, NodeResult, with_nodes_later
from flowq.core.types import FlowStatus
from flowq.plan import Plan
from flowq.results import ResultsManager
from flowq.results.codec import list_of
from flowq.runtime.events import Ref
from flowq.runtime.outcome import RunHead, result_of
from flowq.runtime.state import State

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
    def result(
        self, returns: Any, records: Mapping[bytes, bytes] | None = None, output: bytes | None = None
    ) -> FlowResult:
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
        recorded = self._recorded(self._state.record_texts(self._run) if records is None else records)
        data = None
        if self.status is FlowStatus.COMPLETED and self.plan.output is not None:
            known = self._unpacked(output)
            data = self.output(Ref(self.plan.output), recorded) if known is None else known
        failures = recorded.culprits() if self.status is FlowStatus.FAILED else {}
        return with_nodes_later(result_of(self.plan, head, {}, failures, data, returns), recorded.nodes)

    def output(self, ref: Ref, recorded: Recorded | None = None) -> bytes | None:
        """Give a node's encoded output; of a map, the list of its items'; None: it has none (yet)."""
        if self.plan.nodes[ref.node].is_map and ref.item < 0:
            total = self._total(ref) if recorded is None else recorded.total(ref.node)
            if total < 0:
                return None
            key, unpack = ref.key, self._results.unpack
            values = self._state.values(self._run, [f"{key}.{item}" for item in range(total)])
            return list_of([None if data is None else unpack(self._run, data) for data in values])
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
        total = max(self._total(ref), 0) if self.plan.nodes[ref.node].is_map else 0
        if item >= total:
            raise KeyError(f"{name!r} names no nodes; {path!r} has {total} items")
        return Ref(ref.node, item)

    def node(self, name: str) -> NodeResult:
        """Give one node as it stands now."""
        ref = self.ref_of(name)
        asked = None if self.plan.nodes[ref.node].edges else [ref.key]
        return self._recorded(self._state.record_texts(self._run, asked)).node(ref)

    def _unpacked(self, data: bytes | None) -> bytes | None:
        return None if data is None else self._results.unpack(self._run, data)

    def _recorded(self, records: Mapping[bytes, bytes]) -> Recorded:
        failures = self._state.failure_texts(self._run) if is_any_failed(records) else {}
        return Recorded(self.plan, self.status.is_final, records, failures)

    def _total(self, ref: Ref) -> int:
        """Give how many items a map has; -1: that is not known (yet)."""
        (record,) = self._state.records(self._run, [ref.key])
        return -1 if record is None else record.ending.total


def _time(milliseconds: str) -> datetime:
    return datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
