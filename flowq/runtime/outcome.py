"""From how a run's nodes ended to the result that callers get. Both engines end here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowq.core.result import FlowResult, NodeResult
from flowq.core.types import FlowStatus, NodeStatus
from flowq.plan import Plan
from flowq.results.codec import decode_as


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
    plan: Plan, head: RunHead, nodes: Mapping[str, NodeResult], output: bytes | None, returns: Any
) -> FlowResult:
    """Give a run's result; ``nodes`` by label, ``output`` encoded, ``returns`` the annotation to decode it with."""
    culprits = _culprits(plan, nodes) if head.status is FlowStatus.FAILED else []
    lines = [f"{node.name}: {node.failure.type}: {node.failure.message}" for node in culprits if node.failure]
    return FlowResult(
        run_id=head.run_id,
        process_id=head.process_id,
        name=head.name,
        status=head.status,
        start_time=head.start_time,
        end_time=head.end_time,
        output=None if output is None else decode_as(output, returns),
        error="\n".join(lines if not head.reason else [head.reason, *lines]) or None,
        traceback=next((node.failure.traceback for node in culprits if node.failure and node.failure.traceback), None),
        nodes=dict(nodes),
    )


def _culprits(plan: Plan, nodes: Mapping[str, NodeResult]) -> list[NodeResult]:
    """Give the failed nodes that a failed sink goes back to along required edges, in the plan's order."""
    bad = (NodeStatus.FAILED, NodeStatus.UPSTREAM_FAILED)
    pending = [sink for sink in plan.sinks if nodes[plan.nodes[sink].path].status in bad]
    reached = set(pending)
    while pending:
        for edge in plan.nodes[pending.pop()].edges:
            if edge.required and edge.upstream not in reached and nodes[plan.nodes[edge.upstream].path].status in bad:
                reached.add(edge.upstream)
                pending.append(edge.upstream)
    paths = {plan.nodes[index].path for index in reached}
    return [node for name, node in nodes.items() if name.split("[", 1)[0] in paths and node.status is NodeStatus.FAILED]
