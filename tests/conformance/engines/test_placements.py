"""Where nodes run: in processes, many at once in one process's threads, or where their upstream ran."""

import os

import pytest

from flowq import Flow, FlowConfig, FlowStatus, FlowType
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import placements as flows
from tests.conformance.engines.flows.dependencies import Step, step


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_threads_hold_many_nodes_at_once(run, engine, log, is_async):
    """Far more than there are slots: two workers of one process each. In a canvas, a task has its slot to itself."""
    if engine == "canvas":
        pytest.skip("Celery runs as many tasks at once as it has slots")
    result = run(flows.meeting(12, FlowType.THREAD, is_async=is_async), {"log": log})
    assert result.status is FlowStatus.COMPLETED
    assert set(result.output.values()) == {"flowq-node"}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_processes_run_beside_each_other(run, log, is_async):
    result = run(flows.meeting(2, FlowType.PROCESS, is_async=is_async), {"log": log})
    assert result.status is FlowStatus.COMPLETED
    pids = {effect.more for effect in effects(log, result.run_id)}
    assert len(pids) == 2
    assert os.getpid() not in pids


def test_inline_nodes_run_where_their_upstream_ran(run):
    end = Flow(Step(), FlowConfig(name="end", flow_type=FlowType.INLINE))
    before = step("first")
    before.register_to(end)
    for i in range(20):
        node = step(f"n{i}", flow_type=FlowType.INLINE)
        node.register_to(end, required_deps=[before])
        before = node
    result = run(end, {})
    assert result.status is FlowStatus.COMPLETED
    assert len({node.worker for node in result.nodes.values()}) == 1
