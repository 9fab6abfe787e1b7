"""Runs under control, with real workers: cancel, pause, resume, deadline, timeout.

What nodes did is read from the log that they write themselves.
"""

from __future__ import annotations

import sys
from collections import Counter
from unittest.mock import patch

import pytest

from flowq import FailureKind, FlowStatus, FlowType, NodeStatus
from flowq.runtime.state import State
from flowq.testing import wait_until
from tests.conformance.engines.effects import by_node, effects
from tests.conformance.engines.flows import cancelling
from tests.integration.gated_flows import forked, gated, is_idle, many, overlong, starts, waiting_for_retry

END_S = 30


# ── cancel ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE])
@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_running_node_is_stopped_softly(context, log, placement, dispatch):
    handle = cancelling.endless(placement).submit({"log": log}, dispatch=dispatch)
    wait_until(lambda: "endless" in by_node(log, handle.run_id, "start"), END_S)
    assert handle.cancel() is FlowStatus.CANCELLED
    result = handle.result(END_S)
    assert (result.status, result.nodes["endless"].status) == (FlowStatus.CANCELLED, NodeStatus.CANCELLED)
    (stopped,) = wait_until(lambda: by_node(log, handle.run_id, "stopped").get("endless", []), END_S)
    assert stopped.more == "TimeUp"
    wait_until(lambda: is_idle(context), END_S)
    assert starts(log, handle.run_id) == {"quick": 1, "endless": 1}, "its optional downstream does not begin either"
    assert handle.cancel() is FlowStatus.CANCELLED, "twice is once"


def test_an_async_node_is_stopped(context, log):
    handle = cancelling.endless(FlowType.PROCESS, is_async=True).submit({"log": log})
    wait_until(lambda: "endless" in by_node(log, handle.run_id, "start"), END_S)
    handle.cancel()
    wait_until(lambda: by_node(log, handle.run_id, "stopped").get("endless", []), END_S)


def test_queued_nodes_never_begin(context, log, go):
    blockers = [gated.submit(str(go), log) for _ in range(2)]
    wait_until(lambda: sum(starts(log, blocker.run_id)["waits"] for blocker in blockers) == 2, END_S)
    queued = forked.submit(str(go), log)
    assert queued.status() is FlowStatus.PENDING
    queued.cancel()
    go.touch()
    for blocker in blockers:
        assert blocker.result(END_S).status is FlowStatus.COMPLETED
    assert gated.submit(str(go), log).result(END_S).status is FlowStatus.COMPLETED, "all slots are at work"
    assert starts(log, queued.run_id) == {}


def test_a_node_that_waits_for_its_retry_is_not_tried_again(context, log):
    handle = waiting_for_retry.submit(log)
    wait_until(lambda: handle.node("fails_for_now").status is NodeStatus.PENDING and starts(log, handle.run_id), END_S)
    assert handle.cancel() is FlowStatus.CANCELLED
    assert handle.node("fails_for_now").status is NodeStatus.CANCELLED
    state = State.of(context)
    wait_until(lambda: not state.client.zcard(state.keys.timers), END_S, "no timer of it stays")
    assert starts(log, handle.run_id) == {"fails_for_now": 1}


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_map_ends_with_its_items(context, log, dispatch):
    handle = cancelling.many_slow_items.submit(60, log, dispatch=dispatch)
    wait_until(lambda: len(effects(log, handle.run_id)) > 3, END_S)
    handle.cancel()
    wait_until(lambda: is_idle(context), END_S)
    begun = len(effects(log, handle.run_id))
    assert begun < 60
    assert gated.submit(sys.executable, log).result(END_S).status is FlowStatus.COMPLETED
    assert len(effects(log, handle.run_id)) == begun


def test_ten_thousand_nodes_are_cancelled_by_one_call(context, log):
    handle = many.submit(10_000, log)
    wait_until(lambda: handle.progress().completed > 200, END_S)
    assert handle.progress().total > 9000
    State.of(context).scripts.cancel(run="none such")  # the server may not know the script yet
    client = State.of(context).client
    ways = [patch.object(client, name, wraps=getattr(client, name)) for name in ("ask", "execute_command")]
    with ways[0] as one, ways[1] as other:
        handle.cancel()
    assert one.call_count + other.call_count == 1
    wait_until(lambda: is_idle(context), END_S)
    begun = sum(starts(log, handle.run_id).values())
    assert begun < 10_000
    assert gated.submit(sys.executable, log).result(END_S).status is FlowStatus.COMPLETED, "nobody is held up"
    assert sum(starts(log, handle.run_id).values()) == begun


# ── pause and resume ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_paused_run_goes_no_further_until_it_is_resumed(context, log, go, dispatch):
    handle = gated.submit(str(go), log, dispatch=dispatch)
    wait_until(lambda: starts(log, handle.run_id)["waits"], END_S)
    assert handle.pause() is FlowStatus.RUNNING
    assert handle.progress().is_paused
    go.touch()
    wait_until(lambda: handle.node("waits").status is NodeStatus.COMPLETED, END_S, "what runs is recorded")
    assert gated.submit(str(go), log).result(END_S).status is FlowStatus.COMPLETED, "others go on"
    assert handle.node("passes").status is NodeStatus.READY
    with pytest.raises(TimeoutError):
        handle.result(0.5)
    assert starts(log, handle.run_id) == {"waits": 1}
    assert handle.resume() is FlowStatus.RUNNING
    assert handle.result(END_S).output == "value"
    assert not handle.progress().is_paused
    assert starts(log, handle.run_id) == {"waits": 1, "passes": 1}


def test_a_map_is_paused_between_its_items(context, log):
    handle = cancelling.many_slow_items.submit(40, log)
    wait_until(lambda: len(effects(log, handle.run_id)) > 3, END_S)
    handle.pause()
    wait_until(lambda: is_idle(context), END_S)
    begun = len(effects(log, handle.run_id))
    assert begun < 40
    handle.resume()
    assert handle.result(END_S).output == list(range(40))
    assert set(Counter(effect.more for effect in effects(log, handle.run_id)).values()) == {1}


def test_a_paused_run_is_cancelled(context, log, go):
    handle = gated.submit(str(go), log)
    handle.pause()
    assert handle.cancel() is FlowStatus.CANCELLED
    assert not handle.progress().is_paused
    assert handle.resume() is FlowStatus.CANCELLED


# ── time ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_deadline(context, log, go, dispatch):
    handle = gated.submit(str(go), log, deadline_s=1.5, dispatch=dispatch)
    result = handle.result(END_S)
    assert (result.status, result.error) == (FlowStatus.FAILED, "the run had not ended when its deadline passed")
    assert {node.status for node in result.nodes.values()} == {NodeStatus.CANCELLED}
    wait_until(lambda: "waits" in by_node(log, handle.run_id, "left"), END_S, "its attempt is stopped")
    wait_until(lambda: is_idle(context), END_S)
    go.touch()
    handle.retry()
    assert handle.result(END_S).output == "value", "it has no deadline any more"


def test_a_run_that_keeps_its_deadline(context, log, go):
    go.touch()
    handle = gated.submit(str(go), log, deadline_s=600)
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    state = State.of(context)
    assert state.client.zcard(state.keys.timers) == 0


def test_the_time_of_an_attempt(context, log):
    handle = overlong.submit(log)
    result = handle.result(END_S)
    failure = result.nodes["takes_too_long"].failure
    assert failure is not None
    assert failure.kind is FailureKind.TIMEOUT
    (stopped,) = by_node(log, handle.run_id, "stopped")["takes_too_long"]
    assert stopped.more == "TimeUp"
