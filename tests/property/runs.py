"""A run as a test knows it: the state machine's side of it, how its attempts will end, and who holds what."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from flowq.core.types import FlowStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import RunState
from flowq.runtime.replies import Claimed
from flowq.runtime.scripts import OutcomeEntry
from tests.property.calls import LONG_S
from tests.property.reference import Ending, Fates

DELAY_MS = int(LONG_S * 1000)
"""Before a retry: until the test says that it is over."""


class Limits(NamedTuple):
    """What the scripts' limits are; small ones are reached by small runs."""

    budget: int = 500
    inline: int = 32
    batch: int = 500

    @property
    def is_large(self) -> bool:
        return self.budget >= 100


@dataclass(slots=True)
class Run:
    """One run, as the test knows it."""

    id: str
    plan: Plan
    state: RunState
    fates: Fates
    ended: dict[Ref, int] = field(default_factory=dict)
    """How many attempts have ended."""
    held: dict[Ref, Claimed] = field(default_factory=dict)
    """The last claim of each node that was ever claimed."""
    holder: dict[Ref, str] = field(default_factory=dict)
    """The process that made it."""
    chunks: dict[Ref, int] = field(default_factory=dict)
    """Of a map's attempt: the items that it still opens before it ends."""
    inputs: dict[Ref, bytes] = field(default_factory=dict)
    outputs: dict[Ref, bytes] = field(default_factory=dict)
    cut: FlowStatus | None = None
    """How the run was ended before its time."""
    kept: set[Ref] = field(default_factory=set)
    """What an end before its time has cancelled, and no retry has begun anew."""
    letters: set[Ref] = field(default_factory=set)
    """What was given up."""
    lives: int = 1

    def ending(self, ref: Ref) -> Ending:
        return self.fates.of(ref).endings[self.ended.get(ref, 0)]

    def is_map(self, ref: Ref) -> bool:
        return ref.item < 0 and ref.node < len(self.plan) and self.plan.nodes[ref.node].is_map

    def opens(self, ref: Ref) -> int:
        """Give how many items an attempt may open now; -1: it does not open items, or is about to end."""
        if not self.is_map(ref):
            return -1
        left = self.fates.of(ref).items - self.state.nodes[ref].opened
        if self.ending(ref) is Ending.COMPLETED:
            return left
        return min(left - 1, self.chunks[ref]) or -1

    def holds(self, ref: Ref, fence: int) -> bool:
        node = self.state.nodes.get(ref)
        return not self.state.status.is_final and node is not None and node.fence == fence != 0


ENDING_OF = {
    ("completed", False, False): Ending.COMPLETED,
    ("failed", True, False): Ending.FAILED,
    ("failed", True, True): Ending.TIMED_OUT,
    ("failed", False, False): Ending.FATAL,
    ("skipped", False, False): Ending.SKIPPED,
    ("released", False, False): Ending.RELEASED,
    ("lost", False, False): Ending.LOST,
}


def outcome_of(
    run: str, ref: Ref, fence: int, ending: Ending, value: bytes | None = None, *, fused: bool = False
) -> OutcomeEntry:
    """Give an attempt's ending as ``settle`` takes it."""
    kind, retry, timed_out = next(told for told, known in ENDING_OF.items() if known is ending)
    failure = '{"kind":"error"}' if kind == "failed" else ""
    return OutcomeEntry(ref.key, value, run, fence, kind, failure, retry, DELAY_MS, timed_out, fused)


def ending_of(outcome: OutcomeEntry) -> Ending:
    return ENDING_OF[outcome.kind, outcome.retry, outcome.timed_out]
