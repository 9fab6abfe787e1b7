"""What Redis held of a run's nodes when it was read: kept as it came, parsed when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flowq.core import garbage
from flowq.core.result import Failure, NodeResult
from flowq.core.types import MissingReason, NodeStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.missing import Ending, label, missing_of
from flowq.runtime.outcome import BAD, culprits
from flowq.runtime.state import Record, failures_of, records_of

FAILED = f"{NodeStatus.FAILED}|".encode()
"""How the record of a failed node begins."""


def is_any_failed(records: Mapping[bytes, bytes]) -> bool:
    """Tell whether a node failed. The head's counter may not: a retry sets it at once, and the records bit by bit."""
    return any(text.startswith(FAILED) for text in records.values())


class Recorded:
    """The nodes of a run at one time. It reads nothing more, so what is made of it later is the same.

    Args:
        plan: the run's.
        has_ended: the run had; what had not ended was cancelled with it.
        records: of all nodes that are asked for and of their upstreams, by key, as Redis holds them.
        failures: of the nodes that failed (others count for nothing), by key, as Redis holds them.
    """

    def __init__(
        self, plan: Plan, has_ended: bool, records: Mapping[bytes, bytes], failures: Mapping[bytes, bytes]
    ) -> None:
        self._plan, self._has_ended = plan, has_ended
        self._records, self._failures = records, failures

    def total(self, node: int) -> int:
        """Give how many items a map has; -1: that is not known (yet)."""
        text = self._records.get(Ref(node).key.encode())
        return -1 if text is None else Record.parse(text).ending.total

    @garbage.left_alone()
    def nodes(self) -> dict[str, NodeResult]:
        """Give all nodes by label, in the plan's order; after a map its items."""
        records, failures = records_of(self._records), failures_of(self._failures)
        return {node.name: node for node in (self._node(ref, records, failures) for ref in self._refs(records))}

    def node(self, ref: Ref) -> NodeResult:
        """Give one node."""
        return self._node(ref, records_of(self._records), failures_of(self._failures))

    def culprits(self) -> dict[Ref, Failure]:
        """Give the failures of the nodes and items that made the run fail."""
        bad = tuple(f"{status}|".encode() for status in BAD)
        texts = {key: text for key, text in self._records.items() if text.startswith(bad)}
        refs = {Ref.parse(key.decode()): key for key in texts}
        failed = [ref for ref, key in refs.items() if texts[key].startswith(FAILED) and key in self._failures]
        found = culprits(self._plan, failed, [ref.node for ref in refs if ref.item < 0])
        return {ref: Failure.model_validate_json(self._failures[refs[ref]]) for ref in found}

    def _refs(self, records: Mapping[Ref, Record]) -> Iterator[Ref]:
        for index, node in enumerate(self._plan):
            ref = Ref(index)
            yield ref
            if node.is_map and ref in records:
                for item in range(records[ref].ending.total):
                    yield Ref(index, item)

    def _node(self, ref: Ref, records: Mapping[Ref, Record], failures: Mapping[str, Failure]) -> NodeResult:
        record = records.get(ref) or self._untouched(ref)
        status = record.status
        if self._has_ended and not status.is_final:
            status = NodeStatus.CANCELLED
        missing: dict[str, MissingReason] = {}
        if record.attempt:
            missing = missing_of(self._plan, self._plan.nodes[ref.node], lambda up: _ending(records, up))
        return NodeResult(
            name=label(self._plan, ref),
            status=status,
            attempt=record.attempt,
            worker=record.worker,
            started_at=record.started,
            ended_at=record.ended,
            failure=failures.get(ref.key) if status is NodeStatus.FAILED else None,
            missing=missing,
        )

    def _untouched(self, ref: Ref) -> Record:
        """Nothing has been written of a node that is as it began."""
        waits = ref.item < 0 and bool(self._plan.nodes[ref.node].edges)
        return Record(NodeStatus.PENDING if waits else NodeStatus.READY)


def _ending(records: Mapping[Ref, Record], ref: Ref) -> Ending:
    return records[ref].ending if ref in records else Ending(NodeStatus.PENDING, MissingReason.CANCELLED)
