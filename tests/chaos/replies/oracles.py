"""What holds of a run that has ended, whatever was lost on its way."""

from __future__ import annotations

from collections import Counter

from flowq import FlowHandle, NodeStatus
from flowq.core.types import FINAL
from flowq.runtime.events import Ref
from flowq.runtime.missing import label
from tests.chaos.replies.flows import Case
from tests.conformance.engines.effects import by_node


def check(handle: FlowHandle, case: Case, log: str | None = None, *, timeout_s: float = 60.0) -> int:
    """Raise AssertionError unless the run ends as it must, each outcome recorded once; give how often nodes ran.

    ``log``: where the nodes noted that they ran; None: it does not matter how often.
    """
    result = handle.result(timeout_s)
    assert result.status is case.status, (result.status, result.failures)
    assert result.output == case.output
    recorded = recorded_ends(handle)
    ended = {name: node for name, node in result.nodes.items() if node.status in FINAL}
    twice = {name: count for name, count in recorded.items() if count != 1}
    assert twice == {}, "recorded more than once"
    assert ended.keys() <= recorded.keys(), "ended without a record"
    progress = handle.progress()
    assert progress.settled == progress.total == len(recorded), progress
    by_status = Counter(node.status for node in ended.values())
    assert progress.completed >= by_status[NodeStatus.COMPLETED]
    if log is None:
        return 0
    starts = by_node(log, handle.run_id, "start")
    ran = {name for name, node in ended.items() if node.status is NodeStatus.COMPLETED and noting(name)}
    assert {name for name in ran if name not in starts and f"{name}[0]" not in recorded} == set(), "never ran"
    return sum(len(found) for found in starts.values())


def noting(name: str) -> bool:
    """Tell whether a node notes that it ran: the end of a flow in the class form has no processor of its own."""
    return name != "end"


def recorded_ends(handle: FlowHandle) -> Counter[str]:
    """Count, by node, how often its end was recorded: as ``handle.events()`` tells, but without waiting for more."""
    state, plan = handle._state, handle._reader().plan
    ends = (key for key, status, *_ in state.told(handle.run_id) if key != "run" and status in FINAL)
    return Counter(label(plan, Ref.parse(key)) for key in ends)
