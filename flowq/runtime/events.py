"""What the state machine of a run is told, and what it asks for: events and commands, plain data both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from flowq.core.types import FlowStatus, NodeStatus


class Ref(NamedTuple):
    """A node of a run; for an item of a map, with the item's position."""

    node: int
    item: int = -1

    @property
    def key(self) -> str:
        """As Redis keys and scripts write it: ``12``, ``12.3``."""
        return str(self.node) if self.item < 0 else f"{self.node}.{self.item}"

    @staticmethod
    def parse(key: str) -> Ref:
        node, _, item = key.partition(".")
        return Ref(int(node), int(item) if item else -1)


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker takes a ready node."""

    ref: Ref
    fence: int = 0
    """The claim's, not less than the last one; what is claimed in one call may share it. 0: one more."""


@dataclass(frozen=True, slots=True)
class Fenced:
    """What only the holder of the claim may say."""

    ref: Ref
    fence: int


class Complete(Fenced):
    """An attempt gave its value."""


@dataclass(frozen=True, slots=True)
class Fail(Fenced):
    """An attempt failed."""

    retry: bool = True
    """The failure is of a kind that another attempt may mend."""
    timed_out: bool = False


class Skip(Fenced):
    """An attempt ended by the condition that it need not run."""


@dataclass(frozen=True, slots=True)
class Extend(Fenced):
    """A claimed map opens the items from ``offset`` on, of ``total``."""

    offset: int
    count: int
    total: int


class Expire(Fenced):
    """The claim's lease ran out: its worker is taken for dead."""


class Release(Fenced):
    """The worker hands a claim back unstarted."""


@dataclass(frozen=True, slots=True)
class Due:
    """The wait before the attempt after this one is over."""

    ref: Ref
    attempt: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody cancels the run."""


@dataclass(frozen=True, slots=True)
class Overrun:
    """The run's deadline has passed."""


NodeEvent: TypeAlias = Claim | Fenced | Due
Event: TypeAlias = NodeEvent | Cancel | Overrun


# ── commands ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Enqueue:
    """The node is ready: put it where it will be claimed."""

    ref: Ref


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Send ``Due`` when the policy's wait after this many failures is over."""

    ref: Ref
    attempt: int
    failures: int


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop the attempt that holds this fence."""

    ref: Ref
    fence: int


@dataclass(frozen=True, slots=True)
class Announce:
    """The node is settled."""

    ref: Ref
    status: NodeStatus


@dataclass(frozen=True, slots=True)
class End:
    """The run has ended; nothing follows."""

    status: FlowStatus


Command: TypeAlias = Enqueue | SetTimer | Stop | Announce | End
