"""Cancelling a run stops what runs, and nothing of it starts any more."""

import asyncio
import os
import threading

import pytest

from flowq import FailureKind, Flow, FlowConfig, FlowStatus, FlowType, NodeStatus, RunNotFound
from flowq.testing import wait_until
from tests.conformance.engines.effects import by_node, effects
from tests.conformance.engines.flows import cancelling as flows

PLACEMENTS = [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]
ENDLESS = [(placement, False) for placement in PLACEMENTS[:2]] + [(placement, True) for placement in PLACEMENTS]
"""Not (INLINE, sync): such code blocks the loop of the local engine, and with it whoever would cancel."""


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def started(log):
    return {effect.node: effect.more for effect in effects(log) if effect.what == "start"}


def stopped(log):
    return [effect.node for effect in effects(log) if effect.what == "stopped"]


async def until_running(log, node):
    await asyncio.to_thread(wait_until, lambda: node in started(log), 20)


@pytest.mark.parametrize(("placement", "is_async"), ENDLESS)
async def test_cancelling_the_caller_of_the_local_engine(local_engine, log, placement, is_async):
    running = asyncio.create_task(
        flows.endless(placement, is_async=is_async).execute({"log": log}, context=local_engine)
    )
    await until_running(log, "endless")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    if placement is FlowType.PROCESS:
        assert is_gone(started(log)["endless"])  # it was killed, and noticed nothing
    else:
        await asyncio.to_thread(wait_until, lambda: stopped(log) == ["endless"])
    assert set(started(log)) == {"quick", "endless"}
    await asyncio.to_thread(wait_until, lambda: "flowq-node" not in {thread.name for thread in threading.enumerate()})
    result = await flows.endless(placement).children[0].execute({"log": log}, context=local_engine)
    assert result.status is FlowStatus.COMPLETED


@pytest.mark.parametrize(("placement", "is_async"), [*ENDLESS, (FlowType.INLINE, False)])
def test_cancelling_a_submitted_run(flowq_context, log, placement, is_async):
    handle = flows.endless(placement, is_async=is_async).submit({"log": log})
    wait_until(lambda: "endless" in started(log), 20)
    assert handle.status() is FlowStatus.RUNNING
    assert handle.cancel() is FlowStatus.CANCELLED
    result = handle.result(5)
    assert result.status is FlowStatus.CANCELLED
    fused = placement is FlowType.INLINE  # it is recorded together with the inline node that follows it
    assert {name: node.status for name, node in result.nodes.items()} == {
        "quick": NodeStatus.CANCELLED if fused else NodeStatus.COMPLETED,
        "endless": NodeStatus.CANCELLED,
        "late": NodeStatus.CANCELLED,
        "end": NodeStatus.CANCELLED,
    }
    assert result.output is None
    wait_until(lambda: stopped(log) == ["endless"], 10)
    # The process that ran it takes the next run: it was not killed, and nothing of the old one starts.
    for _ in range(4):
        other = flows.endless(placement).children[0]
        assert other.submit({"log": log + "2"}).result(20).status is FlowStatus.COMPLETED
    assert not is_gone(started(log)["endless"])
    assert set(started(log)) == {"quick", "endless"}
    assert handle.status() is FlowStatus.CANCELLED


def test_cancelling_in_the_middle_of_a_map(flowq_context, log):
    handle = flows.many_slow_items.submit(400, log)
    wait_until(lambda: len(effects(log)) >= 4, 20)
    handle.cancel()
    wait_until(lambda: not flowq_context.service("state").client.zcard("flowq:leases"), 10)
    count = len(effects(log))
    assert count < 100
    flows.many_slow_items.submit(2, log + "2").result(20)
    assert len(effects(log)) == count
    assert len(by_node(log, handle.run_id, "start")) == count
    assert handle.result(5).status is FlowStatus.CANCELLED


def test_cancelling_what_has_ended_changes_nothing(flowq_context, log):
    handle = flows.many_slow_items.submit(1, log)
    assert handle.result(20).status is FlowStatus.COMPLETED
    assert handle.cancel() is FlowStatus.COMPLETED
    assert handle.result(5).output == [0]


def test_cancelling_twice(flowq_context, log):
    handle = flows.many_slow_items.submit(50, log)
    assert handle.cancel() is FlowStatus.CANCELLED
    assert handle.cancel() is FlowStatus.CANCELLED
    flowq_context.client.forget(handle.run_id)
    with pytest.raises(RunNotFound):
        handle.cancel()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_processor_that_cancels_something_of_its_own(run, placement):
    result = run(Flow(flows.CancelsItself(), FlowConfig(name="node", flow_type=placement)), {})
    assert result.status is FlowStatus.FAILED
    assert result.nodes["node"].failure.kind is FailureKind.ERROR
    assert result.nodes["node"].failure.type == "asyncio.exceptions.CancelledError"


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_processor_that_calls_exit(run, placement):
    result = run(Flow(flows.Leaves(), FlowConfig(name="node", flow_type=placement)), {})
    assert result.status is FlowStatus.FAILED
    assert result.nodes["node"].failure.type == "SystemExit"
