"""A claimed attempt in a worker: its inputs from Redis, its outcome for ``settle``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from flowq.core.attempt import AttemptInfo
from flowq.core.context import FlowContext
from flowq.core.types import MissingReason, NodeStatus
from flowq.plan import Node, Plan
from flowq.results import ResultsManager
from flowq.results.codec import NONE, list_of
from flowq.runtime.events import Ref
from flowq.runtime.inputs import ABSENT, Inputs
from flowq.runtime.missing import Ending, label, missing_of
from flowq.runtime.replies import Claimed
from flowq.runtime.rows import inputs_of, optional_of, reads_input
from flowq.runtime.state import Record, State
from flowq.runtime.work import Outputs

NODES = 100_000
"""Of so many nodes a process remembers what they read."""


class RemoteAttempt(NamedTuple):
    """A claim with all that is needed to run it."""

    claim: Claimed
    plan: Plan
    ref: Ref
    node: Node
    info: AttemptInfo
    inputs: Inputs

    @property
    def opens_map(self) -> bool:
        return self.node.over is not None and self.ref.item < 0


class Reads(NamedTuple):
    """What an attempt of a node reads, worked out once."""

    brought: list[int]
    """The upstreams that a claim brings along."""
    optional: list[int]
    """Those that it may have to do without."""
    run_input: bool


class Loader:
    """Turns claims into attempts. Values are loaded when a processor asks for them."""

    def __init__(self, context: FlowContext, state: State) -> None:
        self._state = state
        self._results: ResultsManager = context.results
        self._reads: dict[tuple[str, int], Reads] = {}
        self._last_input = "", b"", b""
        """The last one that was read: its run, packed, unpacked. A run's many nodes read it one after the other."""

    def attempt(self, claim: Claimed) -> RemoteAttempt:
        """Prepare a claim."""
        plan = self._state.plan(claim.plan)
        ref = Ref.parse(claim.key)
        node = plan.nodes[ref.node]
        reads = self._reads_of(plan, claim.plan, ref.node)
        values = dict(zip(reads.brought, claim.values, strict=False)) if claim.values else {}
        missing = missing_of(plan, node, self._endings(claim, reads)) if reads.optional else {}
        inputs = Inputs(
            node,
            partial(self._input, claim, reads),
            lambda upstream: self._load(claim.run, plan, node, upstream, values),
            missing,
            ABSENT if claim.item is None else self._results.unpack(claim.run, claim.item),
        )
        return RemoteAttempt(claim, plan, ref, node, AttemptInfo(claim.run, label(plan, ref), claim.attempt), inputs)

    def _reads_of(self, plan: Plan, plan_hash: str, index: int) -> Reads:
        found = self._reads.get((plan_hash, index))
        if found is None:
            if len(self._reads) >= NODES:
                self._reads.clear()
            node = plan.nodes[index]
            found = Reads(inputs_of(plan, node), optional_of(node), reads_input(node))
            self._reads[plan_hash, index] = found
        return found

    def ahead(self, attempt: RemoteAttempt, outputs: Outputs) -> Iterator[RemoteAttempt]:
        """Prepare the nodes that may be run at once after one that has just completed: ``outputs`` has its output, and
        all else that they wait for.

        None after a crash: one of them may have caused it, so that each is now claimed, and counted, by itself.
        """
        if attempt.ref.item >= 0 or attempt.claim.crashes:
            return
        run, plan = attempt.claim.run, attempt.plan
        for index in plan.ahead.get(attempt.ref.node, ()):
            node = plan.nodes[index]
            if all((run, edge.upstream) in outputs for edge in node.edges):
                claim = attempt.claim._replace(key=str(index), attempt=1, crashes=0, fence=0, records=None, values=None)
                reads = self._reads_of(plan, claim.plan, index)
                inputs = Inputs(node, partial(self._input, claim, reads), lambda upstream: outputs[run, upstream])
                yield RemoteAttempt(claim, plan, Ref(index), node, AttemptInfo(run, node.path, 1), inputs)

    def _input(self, claim: Claimed, reads: Reads) -> bytes:
        packed = claim.run_input
        if packed is None and reads.run_input:
            packed = self._state.run_input(claim.run)
        if packed is None:
            return ABSENT
        run, known, unpacked = self._last_input
        if run != claim.run or known != packed:
            unpacked = self._results.unpack(claim.run, packed)
            self._last_input = claim.run, packed, unpacked
        return unpacked

    def _endings(self, claim: Claimed, reads: Reads) -> Callable[[Ref], Ending]:
        """Give a look-up of how the optional upstreams ended, which has asked Redis at most twice."""
        run, optional = claim.run, reads.optional
        brought = dict(zip(reads.brought, claim.records or (), strict=False))
        records = {
            upstream: None if record is None else Record.parse(record)
            for upstream, record in brought.items()
            if upstream in optional
        }
        unknown = [upstream for upstream in optional if upstream not in records]
        if unknown:
            records |= dict(zip(unknown, self._state.records(run, [str(u) for u in unknown]), strict=True))
        known = {Ref(u): record.ending for u, record in records.items() if record is not None}
        broken = [ref for ref, end in known.items() if end.total > 0 and end.status is not NodeStatus.COMPLETED]
        items = [Ref(ref.node, item) for ref in broken for item in range(known[ref].total)]
        for ref, record in zip(items, self._state.records(run, [ref.key for ref in items]), strict=True):
            if record is not None:
                known[ref] = record.ending
        return lambda ref: known.get(ref, Ending(NodeStatus.PENDING, MissingReason.FAILED))

    def _load(self, run: str, plan: Plan, node: Node, upstream: int, at_hand: dict[int, bytes | None]) -> bytes:
        if upstream not in at_hand:
            if plan.nodes[upstream].is_map:
                return self.outputs_of_map(run, upstream)
            # The claim brought none along, as they are many: they come together.
            others = [edge.upstream for edge in node.edges if plan.nodes[edge.upstream].over is None]
            at_hand.update(zip(others, self._state.values(run, [str(other) for other in others]), strict=True))
        data = at_hand[upstream]
        return NONE if data is None else self._results.unpack(run, data)

    def outputs_of_map(self, run: str, node: int) -> bytes:
        """Give the encoded list of a map's outputs, null where an item has none."""
        record = self._state.records(run, [str(node)])[0]
        total = -1 if record is None else record.ending.total
        packed = self._state.values(run, [Ref(node, item).key for item in range(total)])
        return list_of([None if data is None else self._results.unpack(run, data) for data in packed])
