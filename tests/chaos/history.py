"""What is known of a run when all is over: what can be read of it, what its nodes wrote down, and what was done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from tests.chaos.designs import COMPLETED, FAILED, SKIPPED, Design
from tests.chaos.effects import Effect

CANCELLED, PENDING, RUNNING = "cancelled", "pending", "running"
FINAL = {COMPLETED, FAILED, SKIPPED, CANCELLED, "upstream_failed"}
ENDS = {"end": COMPLETED, "fail": FAILED, "skip": SKIPPED}

MS = 1_000_000
"""Nanoseconds."""

REWOUND_MS = 3_000
"""A server that syncs every second holds writes back for up to two."""

ACCEPTED_MS = 500
"""A client may notice so late that its submission was accepted."""

CLOCK_MS = 20
"""Two looks at the clock, one of them rounded."""


class Record(NamedTuple):
    """A node, as the run's result has it; milliseconds of the server's clock."""

    status: str
    attempt: int = 0
    started: int | None = None
    ended: int | None = None


class Output(NamedTuple):
    """A node's recorded output."""

    digest: str
    core: str = ""
    attempt: int = 0
    nonce: str = ""
    parts: Mapping[str, str | None] = {}
    """Of a list by positions, of a gathered dict by names: the digests of its values, None for nothing."""


class Change(NamedTuple):
    """An entry of the run's stream of events."""

    node: str
    status: str
    attempt: int


@dataclass(frozen=True)
class History:
    """All that can be read of a run at the end."""

    run: str
    status: str
    """Empty: the run is gone."""
    submitted: int
    """Milliseconds: when the client began to submit it."""
    ended: int | None = None
    nodes: Mapping[str, Record] = field(default_factory=dict)
    outputs: Mapping[str, Output] = field(default_factory=dict)
    events: Sequence[Change] = ()
    was_cancelled: bool = False
    """Somebody was told that it is cancelled."""
    first: Mapping[str, Record] = field(default_factory=dict)
    """The records as they were read when the run had just ended."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why nodes failed, for whoever reads the story."""
    errors: Sequence[str] = ()
    """What its client was told, besides that the server is away."""
    vanished: Sequence[int] = ()
    """When it was accepted, each time that it was gone afterwards; milliseconds."""


class Pause(NamedTuple):
    """Processes that were stopped for a while; milliseconds."""

    began: int
    ended: int


@dataclass(frozen=True)
class Faults:
    """What was done, as far as it excuses anything."""

    kills: Sequence[int] = ()
    """When the server was killed; milliseconds."""
    pauses: Sequence[Pause] = ()
    ended: int = 0
    """When the last one was over: everything is back."""


class Limits(NamedTuple):
    """What is asked."""

    end_s: float = 30.0
    """From the last fault to the end of every run,"""
    again_s: float = 20.0
    """or so much longer than its nodes take: the last fault may have struck one of them just before its end."""
    executions: float = 1.10
    """Times those that it takes without faults."""
    stop_s: float = 4.0
    """From a cancel until nothing of the run starts any more: a claim that was made just before may need so long."""


class Violation(NamedTuple):
    """Something that does not hold."""

    kind: str
    run: str
    node: str
    text: str


@dataclass(frozen=True)
class Case:
    """One run, and all that is known of it."""

    design: Design
    history: History
    effects: Sequence[Effect]
    faults: Faults
    limits: Limits

    @cached_property
    def starts(self) -> dict[str, list[Effect]]:
        return self._by_node({"start"})

    @cached_property
    def ends(self) -> dict[str, list[Effect]]:
        return self._by_node(set(ENDS))

    @cached_property
    def is_struck(self) -> bool:
        """Whether the server may have forgotten something of this run."""
        last = self.history.ended or self.faults.ended
        return any(self.history.submitted <= kill <= last + REWOUND_MS for kill in self.faults.kills)

    @cached_property
    def changes(self) -> dict[str, list[tuple[int, Change]]]:
        found: dict[str, list[tuple[int, Change]]] = defaultdict(list)
        for position, change in enumerate(self.history.events):
            found[change.node].append((position, change))
        return dict(found)

    def status(self, node: str) -> str:
        return self.history.nodes[node].status if node in self.history.nodes else ""

    def is_recorded(self, start: Effect) -> bool:
        """Whether this is the execution that the record is of."""
        output = self.history.outputs.get(start.node)
        if output is not None and output.nonce:
            return output.nonce == start.nonce
        record = self.history.nodes.get(start.node)
        return record is not None and record.attempt == start.attempt

    def bad(self, kind: str, node: str, text: str) -> Violation:
        return Violation(kind, self.design.run, node, text)

    def _by_node(self, kinds: set[str]) -> dict[str, list[Effect]]:
        found: dict[str, list[Effect]] = defaultdict(list)
        for effect in self.effects:
            if effect.what in kinds:
                found[effect.node].append(effect)
        return dict(found)
