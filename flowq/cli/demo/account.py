"""What a run's result tells about the run itself: who ran what, when, and what was done without."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from flowq.core.result import FlowResult, NodeResult
from flowq.core.types import NodeStatus


@dataclass(frozen=True, slots=True)
class Span:
    """One node's last attempt on the run's clock, in seconds since its submission."""

    node: str
    task: str
    """The node's path without the item's number."""
    item: int
    """The item's number; -1: no item of a map."""
    worker: str
    start_s: float
    end_s: float
    status: NodeStatus

    @property
    def duration_s(self) -> float:
        return self.end_s - self.start_s


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker process did."""

    worker: str
    nodes: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class Bypass:
    """An optional upstream that a node did without."""

    node: str
    upstream: str
    reason: str
    message: str
    """The upstream's own failure, if it failed itself."""


@dataclass(frozen=True, slots=True)
class Account:
    """A run in figures."""

    makespan_s: float
    """From its submission to its end."""
    spans: tuple[Span, ...]
    """By start."""
    shares: tuple[Share, ...]
    bypasses: tuple[Bypass, ...]

    @property
    def work_s(self) -> float:
        """What the nodes took together: the time that one worker would have needed at least."""
        return sum(span.duration_s for span in self.spans)

    @property
    def processes(self) -> int:
        return len(self.shares)


def account_of(result: FlowResult, maps: Iterable[str]) -> Account:
    """Give the account of an ended run; ``maps`` are the nodes that only hold items, and take no time themselves."""
    containers = frozenset(maps)
    ran = [node for name, node in result.nodes.items() if node.worker and name not in containers]
    spans = tuple(sorted((_span(node, result.start_time) for node in ran), key=lambda span: (span.start_s, span.node)))
    counts = Counter(span.worker for span in spans)
    busy = Counter[str]()
    for span in spans:
        busy[span.worker] += span.duration_s  # type: ignore[assignment]  # a Counter of seconds
    end = result.end_time or max((node.ended_at for node in ran if node.ended_at), default=result.start_time)
    return Account(
        makespan_s=(end - result.start_time).total_seconds(),
        spans=spans,
        shares=tuple(Share(worker, counts[worker], busy[worker]) for worker in sorted(counts)),
        bypasses=tuple(_bypasses(result)),
    )


def _span(node: NodeResult, start: datetime) -> Span:
    task, _, item = node.name.partition("[")
    begun = node.started_at or start
    ended = node.ended_at or begun
    return Span(
        node=node.name,
        task=task,
        item=int(item.removesuffix("]")) if item else -1,
        worker=node.worker or "",
        start_s=(begun - start).total_seconds(),
        end_s=(ended - start).total_seconds(),
        status=node.status,
    )


def _bypasses(result: FlowResult) -> Iterable[Bypass]:
    for node, missing in result.bypassed.items():
        for upstream, reason in missing.items():
            # The name under which a node sees its upstream is the last part of that one's path.
            paths = [name for name in result.failures if name == upstream or name.endswith(f"/{upstream}")]
            failure = result.failures[paths[0]] if paths else None
            message = "" if failure is None else f"{failure.type}: {failure.message}"
            yield Bypass(node, upstream, reason.replace("_", " "), message)
