"""Runs in one's hands, in more places: what is paused, cancelled or retried while it waits, nests or is dispatched."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flowq import Flow, FlowConfig, FlowStatus, FlowType, NodeStatus, RetryPolicy, RunStatusError
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.leftovers import clear_now
from tests.integration import control_flows as flows
from tests.integration import supervised_flows
from tests.integration.control_flows import counted
from tests.integration.supervised_flows import Noted, Waits, alone, beside, ends, let_go, starts

SHORT = {"lease_s": 2.0, "renew_s": 0.3, "sweep_s": 0.3}
WITHIN_S = 10.0
DISPATCHES = ["pull", "canvas"]
PLACEMENTS = [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    with fleet(2, [flows, supervised_flows], settings=SHORT) as started:
        yield started


@pytest.fixture(scope="module")
def slow() -> Iterator[EmbeddedContext]:
    """One worker as it is by default."""
    with fleet(1, [flows, supervised_flows]) as started:
        yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear_now(workers)  # every key of a run has a time to live once it has ended


@pytest.fixture
def log(tmp_path) -> str:
    return str(tmp_path / "effects")


@pytest.fixture(params=DISPATCHES)
def dispatch(request) -> str:
    return str(request.param)


def until_begun(log: str, run: str, expected: set[str]) -> None:
    wait_until(lambda: set(counted(log, run)) == expected, WITHIN_S, lambda: f"{counted(log, run)}, not {expected}")


def until_it_waits_for_its_retry(handle: Any) -> None:
    """Its first attempt has failed. Seen in one look: a node that has not begun is PENDING, too."""

    def waits() -> bool:
        held = handle.node("held")
        return held.attempt == 1 and held.status is NodeStatus.PENDING

    wait_until(waits, WITHIN_S)


def others_have_their_turn(context: EmbeddedContext, log: str) -> None:
    """Every slot has looked for work, and every timer that is due in less than half a second has come."""
    given = {"log": f"{log}-others"}
    late = RetryPolicy(max_attempts=2, delay_s=0.5, jitter=0)
    timed = alone(flows.Breaks(), retries=late).submit(given, context=context)
    waiting = beside(Waits(), 2, FlowType.PROCESS).submit(given, context=context)
    wait_until(lambda: len(starts(f"{log}-others", waiting.run_id)) == 2, WITHIN_S)
    for number in range(2):
        let_go(f"{log}-others", f"n{number}")
    assert waiting.result(WITHIN_S).status is FlowStatus.COMPLETED
    assert timed.result(WITHIN_S).nodes["only"].attempt == 2


def cancelled_for_good(handle: Any, context: EmbeddedContext, log: str) -> None:
    """Cancel, and see that nothing of the run begins any more, whatever would let it."""
    before = starts(log, handle.run_id)
    assert handle.cancel() is FlowStatus.CANCELLED
    assert handle.status() is FlowStatus.CANCELLED
    for node in {seen.node for seen in before if "/" not in seen.node} | {"held", "late", "end"}:
        let_go(log, node)
    Path(f"{log}.mended").touch()
    others_have_their_turn(context, log)
    assert starts(log, handle.run_id) == before
    result = handle.result(WITHIN_S)
    assert (result.status, result.output, result.failures) == (FlowStatus.CANCELLED, None, {})


# ── cancel ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cancelling_while_nodes_run_and_others_wait_for_a_slot(context, log, dispatch):
    handle = beside(flows.Unwinds(), 8, FlowType.PROCESS).submit({"log": log}, context=context, dispatch=dispatch)
    wait_until(lambda: len(starts(log, handle.run_id)) == 2, WITHIN_S)
    cancelled_for_good(handle, context, log)


def test_cancelling_while_a_node_waits_for_its_retry(context, log, dispatch):
    handle = flows.row(flows.Breaks(), retries=flows.SOON).submit({"log": log}, context=context, dispatch=dispatch)
    until_it_waits_for_its_retry(handle)
    cancelled_for_good(handle, context, log)


def test_cancelling_in_the_middle_of_nested_flows(context, log, dispatch):
    handle = flows.nested(Waits()).submit({"log": log}, context=context, dispatch=dispatch)
    wait_until(lambda: handle.node("held").status is NodeStatus.RUNNING, WITHIN_S)
    wait_until(lambda: len(starts(log, handle.run_id)) == 2, WITHIN_S)
    cancelled_for_good(handle, context, log)


def test_cancelling_in_the_middle_of_a_map(context, log, dispatch):
    handle = flows.waiting_items.submit(6, log, context=context, dispatch=dispatch)
    wait_until(lambda: len(starts(log, handle.run_id)) == 3, WITHIN_S)
    cancelled_for_good(handle, context, log)


@pytest.mark.parametrize("ask", ["cancel", "pause"])
def test_an_inline_node_that_was_to_follow_in_the_same_claim_does_not_begin_any_more(slow, log, ask):
    """However long it takes until the worker is told: it renews its leases every 5 s."""
    handle = flows.row(Waits(), FlowType.INLINE).submit({"log": log}, context=slow)
    until_begun(log, handle.run_id, {"first", "held"})
    getattr(handle, ask)()
    let_go(log, "held")  # what is cancelled may be ended before it sees that
    others = alone(Waits(), "next").submit({"log": log}, context=slow)
    let_go(log, "next")
    assert others.result(WITHIN_S).status is FlowStatus.COMPLETED  # by the only slot, which is done with the run
    assert set(counted(log, handle.run_id)) == {"first", "held"}
    handle.cancel()


@pytest.mark.parametrize("ask", ["cancel", "pause"])
def test_inline_nodes_side_by_side_that_one_worker_was_given_do_not_begin_any_more(slow, log, ask):
    end = Flow(flows.Counts(), FlowConfig(name="end"))
    first = Flow(flows.Counts(), FlowConfig(name="first"))
    first.register_to(end)
    for number in range(6):
        sibling = Flow(Waits(), FlowConfig(name=f"n{number}", flow_type=FlowType.INLINE))
        sibling.register_to(end, required_deps=[first.process_id])
    handle = end.submit({"log": log}, context=slow)
    begun = wait_until(lambda: seen if len(seen := counted(log, handle.run_id)) == 2 else {}, WITHIN_S)
    getattr(handle, ask)()
    for number in range(6):
        let_go(log, f"n{number}")
    assert alone(Noted(), "next").submit({"log": log}, context=slow).result(WITHIN_S).status is FlowStatus.COMPLETED
    assert counted(log, handle.run_id) == begun
    handle.cancel()


# ── pause and resume ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_what_runs_while_a_run_is_paused_is_recorded_and_nothing_more_begins(context, log, dispatch, placement):
    handle = flows.row(Waits(), placement).submit({"log": log}, context=context, dispatch=dispatch)
    until_begun(log, handle.run_id, {"first", "held"})
    assert handle.pause() is handle.pause() is FlowStatus.RUNNING
    assert handle.progress().is_paused
    let_go(log, "held")
    wait_until(lambda: ends(log, handle.run_id), WITHIN_S, lambda: f"held: {handle.node('held')}")
    wait_until(lambda: handle.node("held").status is NodeStatus.COMPLETED, WITHIN_S, "held is recorded")
    others_have_their_turn(context, log)
    assert set(counted(log, handle.run_id)) == {"first", "held"}
    assert handle.resume() is FlowStatus.RUNNING
    result = handle.result(WITHIN_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 1 + 1 + 1 + 2)
    assert counted(log, handle.run_id) == dict.fromkeys(("first", "held", "late", "end"), 1)
    assert not handle.progress().is_paused


def test_items_of_a_paused_map_wait_until_it_is_resumed(context, log, dispatch):
    handle = flows.waiting_items.submit(5, log, context=context, dispatch=dispatch)
    wait_until(lambda: len(starts(log, handle.run_id)) == 3, WITHIN_S)
    handle.pause()
    for item in range(5):
        let_go(log, f"measure[{item}]")
    wait_until(lambda: len(ends(log, handle.run_id)) == 2, WITHIN_S)
    others_have_their_turn(context, log)
    assert len(starts(log, handle.run_id)) == 3
    handle.resume()
    assert handle.result(WITHIN_S).output == sum(range(5))
    assert set(counted(log, handle.run_id).values()) == {1}


def test_a_retry_that_comes_due_while_its_run_is_paused_waits_until_it_is_resumed(context, log, dispatch):
    handle = flows.row(flows.Breaks(), retries=flows.SOON).submit({"log": log}, context=context, dispatch=dispatch)
    until_it_waits_for_its_retry(handle)
    handle.pause()
    Path(f"{log}.mended").touch()
    others_have_their_turn(context, log)
    assert counted(log, handle.run_id)["held"] == 1
    handle.resume()
    result = handle.result(WITHIN_S)
    assert (result.status, result.nodes["held"].attempt) == (FlowStatus.COMPLETED, 2)


def test_what_is_paused_before_it_begins_is_resumed_cancelled_or_runs_out_of_its_time(context, log, dispatch):
    blocker = beside(Waits(), 2, FlowType.PROCESS).submit({"log": log}, context=context)
    wait_until(lambda: len(starts(log, blocker.run_id)) == 2, WITHIN_S)
    resumed, dropped, late = (
        flows.row(flows.Counts()).submit({"log": log}, context=context, dispatch=dispatch, deadline_s=deadline_s)
        for deadline_s in (None, None, 1.0)
    )
    for handle in (resumed, dropped, late):
        handle.pause()
    for number in range(2):
        let_go(log, f"n{number}")
    blocker.result(WITHIN_S)
    others_have_their_turn(context, log)
    assert dropped.cancel() is FlowStatus.CANCELLED
    assert late.result(WITHIN_S).status is FlowStatus.FAILED
    assert starts(log, resumed.run_id) == []
    resumed.resume()
    assert resumed.result(WITHIN_S).status is FlowStatus.COMPLETED
    assert dropped.resume() is FlowStatus.CANCELLED
    assert starts(log, dropped.run_id) == starts(log, late.run_id) == []


# ── retry ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_and_progress_go_on_through_a_retry(context, log, dispatch):
    handle = flows.diamond().submit({"log": log}, context=context, dispatch=dispatch)
    result = handle.result(WITHIN_S)
    assert (result.status, set(result.failures)) == (FlowStatus.FAILED, {"bad"})
    assert counted(log, handle.run_id) == dict.fromkeys(("source", "good", "bad", "alone"), 1)
    first_life = list(handle.events())
    kept = {name: handle.node(name) for name in ("source", "good", "alone")}
    Path(f"{log}.mended").touch()
    handle.retry()
    result = handle.result(WITHIN_S)
    assert (result.status, result.failures, result.error) == (FlowStatus.COMPLETED, {}, None)
    once = dict.fromkeys(("source", "good", "alone", "join", "end"), 1)
    assert counted(log, handle.run_id) == once | {"bad": 2}
    assert {name: result.nodes[name] for name in kept} == kept
    progress = handle.progress()
    assert (progress.total, progress.settled, progress.completed) == (6, 6, 6)
    assert (progress.failed, progress.upstream_failed) == (0, 0)
    seen = list(handle.events())
    assert seen[: len(first_life)] == first_life
    assert [change.node for change in seen[len(first_life) :] if change.status.is_final] == ["bad", "join", "end"]


def test_a_retry_from_several_nodes_runs_them_and_exactly_their_downstream(context, log, dispatch):
    Path(f"{log}.mended").touch()
    handle = flows.diamond().submit({"log": log}, context=context, dispatch=dispatch)
    first = handle.result(WITHIN_S)
    everything = dict.fromkeys(("source", "good", "bad", "join", "alone", "end"), 1)
    handle.retry("good")
    assert handle.result(WITHIN_S).output == first.output
    assert counted(log, handle.run_id) == everything | dict.fromkeys(("good", "join", "end"), 2)
    handle.retry(["alone", "join"])
    assert handle.result(WITHIN_S).status is FlowStatus.COMPLETED
    assert counted(log, handle.run_id) == everything | {"good": 2, "join": 3, "end": 3, "alone": 2}


def test_a_retry_from_an_item_leaves_the_other_items_as_they_are(context, log, dispatch):
    handle = flows.fragile_items.submit(4, log, context=context, dispatch=dispatch)
    result = handle.result(WITHIN_S)
    assert (result.status, set(result.failures)) == (FlowStatus.FAILED, {"fragile[2]"})
    Path(f"{log}.mended").touch()
    handle.retry("fragile[2]")
    assert handle.result(WITHIN_S).output == 60
    once = {"pages": 1, "fragile[0]": 1, "fragile[1]": 1, "fragile[3]": 1, "gather": 1}
    assert counted(log, handle.run_id) == once | {"fragile[2]": 2}
    handle.retry("fragile[1]")
    assert handle.result(WITHIN_S).output == 60
    assert counted(log, handle.run_id) == once | {"fragile[1]": 2, "fragile[2]": 2, "gather": 2}
    progress = handle.progress()
    assert (progress.total, progress.settled, progress.completed) == (7, 7, 7)


def test_a_run_that_was_cancelled_in_the_middle_of_a_map_keeps_the_items_that_completed(context, log, dispatch):
    handle = flows.waiting_items.submit(4, log, context=context, dispatch=dispatch)
    let_go(log, "measure[0]")
    wait_until(lambda: handle.progress().completed == 2, WITHIN_S)
    handle.cancel()
    for item in range(4):
        let_go(log, f"measure[{item}]")
    handle.retry()
    result = handle.result(WITHIN_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 0 + 1 + 2 + 3)
    assert (counted(log, handle.run_id)["measure[0]"], counted(log, handle.run_id)["pages"]) == (1, 1)


def test_a_run_that_is_cancelled_and_retried_while_its_attempt_runs_records_the_new_one_only(context, log, dispatch):
    handle = flows.row(Waits()).submit({"log": log}, context=context, dispatch=dispatch)
    until_begun(log, handle.run_id, {"first", "held"})

    def has_begun(times: int) -> bool:
        return counted(log, handle.run_id)["held"] == times

    for lives in range(2, 5):
        handle.cancel()
        assert handle.retry() is FlowStatus.RUNNING
        wait_until(partial(has_begun, lives), WITHIN_S)
    let_go(log, "held")
    result = handle.result(WITHIN_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 5)
    assert counted(log, handle.run_id) == {"first": 1, "held": 4, "late": 1, "end": 1}


def test_what_cannot_be_retried_is_said_and_changes_nothing(context, log):
    going_on = alone(Waits()).submit({"log": log}, context=context)
    with pytest.raises(RunStatusError, match="only an ended run is retried"):
        going_on.retry()
    let_go(log)
    handle = flows.diamond().submit({"log": log}, context=context)
    assert handle.result(WITHIN_S).status is FlowStatus.FAILED
    before = handle.result(), handle.progress()
    with pytest.raises(RunStatusError, match="'bad' did not complete; retry from there"):
        handle.retry("join")
    with pytest.raises(KeyError, match="names no nodes"):
        handle.retry("nobody")
    assert (handle.result(), handle.progress()) == before


# ── submitted once ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("then", DISPATCHES)
def test_a_submit_that_is_repeated_in_the_middle_of_its_run_starts_nothing_twice(context, log, dispatch, then):
    def submit(how: Any) -> Any:
        return flows.row(Waits()).submit({"log": log}, context=context, dispatch=how, idempotency_key=log)

    handle = submit(dispatch)
    until_begun(log, handle.run_id, {"first", "held"})
    handle.pause()
    assert [submit(then).run_id for _ in range(3)] == [handle.run_id] * 3
    let_go(log, "held")
    others_have_their_turn(context, log)
    assert counted(log, handle.run_id) == {"first": 1, "held": 1}
    handle.resume()
    assert submit(then).result(WITHIN_S).status is FlowStatus.COMPLETED
    others_have_their_turn(context, log)
    assert counted(log, handle.run_id) == dict.fromkeys(("first", "held", "late", "end"), 1)
