"""The vocabulary of flowq: every state and kind that appears in plans, in Redis, in metrics and on the command line."""

from __future__ import annotations

from enum import StrEnum


class FlowType(StrEnum):
    """How a flow is placed (leaf) or how its children are ordered (parent)."""

    INLINE = "inline"
    """Leaf: fused into whatever settled its last upstream; never leaves that worker."""
    THREAD = "thread"
    """Leaf: a worker's thread pool, for code that waits for I/O."""
    PROCESS = "process"
    """Leaf: any worker process that consumes the queue; the default."""
    PARALLEL = "parallel"
    """Parent: children are ordered by their declared dependencies alone."""
    SEQUENTIAL = "sequential"
    """Parent: each child also requires the one registered before it."""


class FlowStatus(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    """Submitted; no node has been claimed yet."""
    RUNNING = "running"
    """At least one node has been claimed."""
    COMPLETED = "completed"
    """Every sink is COMPLETED, or SKIPPED by condition."""
    FAILED = "failed"
    """Every node is settled and some sink did not complete."""
    CANCELLED = "cancelled"
    """Somebody cancelled it; nothing of it starts any more."""

    @property
    def is_final(self) -> bool:
        return self in (FlowStatus.COMPLETED, FlowStatus.FAILED, FlowStatus.CANCELLED)


class NodeStatus(StrEnum):
    """Where a node of a run stands. The last five are final: a node enters one of them once and never leaves it."""

    PENDING = "pending"
    """Waits for upstreams, or for its next attempt's time."""
    READY = "ready"
    """All upstreams settled; the next claim may take it."""
    RUNNING = "running"
    """An attempt holds a lease on it (a map: its items are open)."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    """Its run was cancelled, or a required upstream was."""
    SKIPPED = "skipped"
    """It raised Skip, or a required upstream was skipped."""
    UPSTREAM_FAILED = "upstream_failed"
    """A required upstream failed; this node never ran."""

    @property
    def is_final(self) -> bool:
        return self in FINAL


FINAL = frozenset(
    {
        NodeStatus.COMPLETED,
        NodeStatus.FAILED,
        NodeStatus.CANCELLED,
        NodeStatus.SKIPPED,
        NodeStatus.UPSTREAM_FAILED,
    }
)


class DependencyType(StrEnum):
    """What an edge demands of its upstream."""

    REQUIRED = "required"
    """The upstream must complete, else the downstream node cannot run."""
    OPTIONAL = "optional"
    """The upstream must settle; if it did not complete, it is bypassed."""


class MissingReason(StrEnum):
    """Why an optional upstream was bypassed."""

    FAILED = "failed"
    UPSTREAM_FAILED = "upstream_failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"


class FailureKind(StrEnum):
    """What made an attempt fail."""

    ERROR = "error"
    """The processor raised."""
    TIMEOUT = "timeout"
    """The attempt ran longer than its timeout and was stopped."""
    LOST = "lost"
    """Workers died under the node until its crash budget was spent."""
    INPUT = "input"
    """What its upstreams gave does not fit the processor's parameters."""
    OUTPUT = "output"
    """What the processor returned breaks its model, cannot be encoded, or is too large."""
    UNKNOWN_PROCESSOR = "unknown_processor"
    """The worker does not know the processor: its module is not included."""


class StorageType(StrEnum):
    """Where values that are too large for the run's own state lie."""

    MEMORY = "memory"
    DISK = "disk"
    SQLITE = "sqlite"
    REDIS = "redis"
