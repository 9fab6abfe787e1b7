"""From how a run's nodes ended to the result that callers get. Both engines end here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowq.core.result import Failure, FlowResult, NodeResult
from flowq.core.types import FlowStatus, NodeStatus
from flowq.plan import Plan
from flowq.results.codec import decode_as
from flowq.runtime.events import Ref
from flowq.runtime.missing import label

BAD = (NodeStatus.FAILED, NodeStatus.UPSTREAM_FAILED)
"""How the nodes ended that make a run fail."""


@dataclass(frozen=True, slots=True)
class RunHead:
    """What identifies a run and frames it."""

    run_id: str
    process_id: str
    name: str
    status: FlowStatus
    start_time: datetime
    end_time: datetime | None
    reason: str = ""
    """Why it failed, if no node is to blame."""


def result_of(
    plan: Plan,
    head: RunHead,
    nodes: Mapping[str, NodeResult],
    failures: Mapping[Ref, Failure],
    output: bytes | None,
    returns: Any,
) -> FlowResult:
    """Give a run's result.

    Args:
        plan: the run's.
        head: what is known of the run itself.
        nodes: by label.
        failures: of the nodes that made the run fail; see ``culprits``.
        output: encoded.
        returns: the annotation to decode the output with.
    """
    blamed = [(label(plan, ref), failures[ref]) for ref in sorted(failures)]
    lines = [f"{name}: {failure.type}: {failure.message}" for name, failure in blamed]
    return FlowResult(
        run_id=head.run_id,
        process_id=head.process_id,
        name=head.name,
        status=head.status,
        start_time=head.start_time,
        end_time=head.end_time,
        output=None if output is None else decode_as(output, returns),
        error="\n".join(lines if not head.reason else [head.reason, *lines]) or None,
        traceback=next((failure.traceback for _, failure in blamed if failure.traceback), None),
        nodes=dict(nodes),
    )


def culprits(plan: Plan, failed: Iterable[Ref], bad: Iterable[int]) -> list[Ref]:
    """Give those of the failed nodes and items that a failed sink goes back to along required edges.

    ``bad``: the nodes that failed, or could not run since others did.
    """
    bad = {*bad}
    pending = [sink for sink in plan.sinks if sink in bad]
    reached = set(pending)
    while pending:
        for edge in plan.nodes[pending.pop()].edges:
            if edge.required and edge.upstream in bad and edge.upstream not in reached:
                reached.add(edge.upstream)
                pending.append(edge.upstream)
    return [ref for ref in failed if ref.node in reached]
