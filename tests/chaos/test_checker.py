"""The checker finds what it is there for: of each kind of violation, one is planted into a run that is right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import check
from tests.chaos.designs import KINDS, design
from tests.chaos.effects import Effect
from tests.chaos.history import MS, Change, Faults, Limits, Pause, Violation
from tests.chaos.played import Played, played

SEED = 1


def of_kind(kind: str) -> Played:
    return played(design(SEED, KINDS.index(kind), "a run", 3.0))


@pytest.fixture
def right() -> Played:
    return of_kind("layered")


def again(effect: Effect, after_ms: int, **more: Any) -> Effect:
    """The same once more, later, by another execution."""
    return effect._replace(at=effect.at + after_ms * MS, nonce="another", **more)


def a_node(run: Played) -> str:
    """One that others come before and after, and that was not fused."""
    needed = {path for node in run.design.nodes.values() for path in node.required}
    return next(
        path
        for path, node in run.design.nodes.items()
        if node.sees and not node.is_fused and path in needed and run.history.nodes[path].status == "completed"
    )


@pytest.mark.parametrize("index", range(3 * len(KINDS)))
def test_a_run_that_went_right_has_no_violation(index):
    assert played(design(SEED, index, "a run", 3.0)).violations() == []


def test_a_run_that_is_gone_is_lost(right):
    assert right.with_history(status="", nodes={}).kinds() == {"lost"}


def test_a_run_that_was_gone_is_lost_unless_the_server_was_killed_just_after_it_was_accepted(right):
    accepted = right.history.submitted + 5
    gone = right.with_history(vanished=[accepted])
    assert gone.kinds() == {"lost"}
    assert replace(gone, faults=Faults(kills=[accepted + 1000])).kinds() == set()
    assert "lost" in replace(gone, faults=Faults(kills=[accepted - 2000])).kinds()
    assert "lost" in replace(gone, faults=Faults(kills=[accepted + 9000])).kinds()


@pytest.mark.parametrize("status", ["pending", "running"])
def test_a_run_that_has_not_ended_is_stuck(right, status):
    assert right.with_history(status=status).kinds() == {"stuck"}


def test_a_run_that_ends_long_after_the_last_fault_is_late(right):
    ended = right.history.ended or 0
    assert replace(right, faults=Faults(ended=ended - 29_000)).kinds() == set()
    assert replace(right, faults=Faults(ended=ended - 31_000)).kinds() == set()  # it was submitted after that
    late = right.with_history(ended=ended + 31_000, submitted=right.history.submitted)
    assert replace(late, faults=Faults(ended=ended)).kinds() == {"late"}


def test_a_run_whose_nodes_take_long_may_end_later(right):
    ended = right.history.ended or 0
    late = replace(right.with_history(ended=ended + 50_000), faults=Faults(ended=ended))
    slow = replace(late, design=replace(right.design, takes_s=31.0))
    assert (late.kinds(), slow.kinds()) == ({"late"}, set())


def test_a_client_that_is_told_nonsense_is_an_error(right):
    assert right.with_history(errors=["result: KeyError: 'x'"]).kinds() == {"error"}


def test_a_run_that_fails_though_it_should_not_is_a_false_failure(right):
    assert "false failure" in right.with_history(status="failed").kinds()


def test_a_node_that_fails_though_it_should_not_is_a_false_failure(right):
    assert "false failure" in right.with_record(a_node(right), status="failed").kinds()


def test_a_run_that_completes_though_it_should_fail_is_wrong():
    assert "wrong status" in of_kind("doomed").with_history(status="completed").kinds()


def test_a_node_that_is_not_there_is_wrong(right):
    nodes = {path: record for path, record in right.history.nodes.items() if path != "n19"}
    assert "wrong status" in right.with_history(nodes=nodes).kinds()


def test_a_cancelled_run_is_cancelled_and_its_open_nodes_are(right):
    last = right.with_record("end", status="cancelled", ended=None)
    events = [change for change in last.history.events if change.node != "end"]
    outputs = {path: output for path, output in right.history.outputs.items() if path != "end"}
    cancelled = last.with_history(status="cancelled", was_cancelled=True, events=events, outputs=outputs, first={})
    assert cancelled.violations() == []
    assert right.with_history(was_cancelled=True).kinds() == {"wrong status"}


def test_a_cancel_that_the_server_forgot_is_no_violation(right):
    forgotten = right.with_history(was_cancelled=True)
    assert replace(forgotten, faults=Faults(kills=[right.history.submitted + 5])).kinds() == set()


def test_two_ends_of_a_node_are_a_double_record(right):
    events = [*right.history.events, Change("n3", "completed", 2)]
    assert right.with_history(events=events).kinds() == {"double record"}


def test_an_event_that_says_something_else_is_a_double_record(right):
    wrong = {"n3": "skipped"}
    events = [
        c._replace(status=wrong.get(c.node, c.status)) if c.status == "completed" else c for c in right.history.events
    ]
    assert "double record" in right.with_history(events=events).kinds()


def test_a_record_without_event_is_found(right):
    events = [change for change in right.history.events if (change.node, change.status) != ("n19", "completed")]
    assert "double record" in right.with_history(events=events).kinds()


def test_a_record_that_changes_after_it_was_read_is_a_double_record(right):
    first = {**right.history.first, "n3": right.history.nodes["n3"]._replace(attempt=7)}
    assert right.with_history(first=first).kinds() == {"double record"}


def test_an_output_that_is_not_there_is_wrong(right):
    outputs = {path: output for path, output in right.history.outputs.items() if path != "n19"}
    assert "wrong output" in right.with_history(outputs=outputs).kinds()


def test_an_output_with_another_core_is_wrong(right):
    assert right.with_output("n3", core="something else").kinds() == {"wrong output"}


def test_a_gathered_output_that_is_not_its_nodes_is_wrong(right):
    parts = {**right.history.outputs["end"].parts, "n3": "something else"}
    assert right.with_output("end", parts=parts).kinds() == {"wrong output"}


def test_a_maps_output_that_is_not_its_items_is_wrong():
    run = of_kind("map")
    parts = {**run.history.outputs["item"].parts, "3": "something else"}
    assert run.with_output("item", parts=parts).kinds() == {"wrong output"}


def test_an_output_of_no_execution_is_stale(right):
    assert "stale output" in right.with_output("n3", nonce="unheard of").kinds()


def test_an_output_of_an_execution_that_never_ended_is_stale(right):
    path = a_node(right)
    assert {"stale output", "no effect"} <= right.without(path, "end").kinds()


def test_an_output_of_another_attempt_than_the_record_is_stale(right):
    assert "stale output" in right.with_record("n3", attempt=2).kinds()


def test_an_output_of_an_earlier_attempt_than_the_latest_that_ended_is_stale(right):
    path = a_node(right)
    later = [again(right.of(path, what), 1, attempt=2) for what in ("start", "end")]
    events = list(right.history.events)
    events.insert(events.index(Change(path, "completed", 1)), Change(path, "running", 2))
    stale = right.with_effects(*later).with_history(events=events)
    assert "stale output" in stale.kinds()


def test_a_record_without_effects_is_found(right):
    assert "no effect" in right.without("n3", "start").without("n3", "end").kinds()


def test_a_failure_that_no_execution_had_is_found():
    run = of_kind("doomed")
    path = next(path for path, record in run.history.nodes.items() if record.status == "failed")
    assert "no effect" in run.without(path, "fail").kinds()


def test_a_node_that_runs_though_its_upstream_failed_is_too_early():
    run = of_kind("doomed")
    path = next(p for p, r in run.history.nodes.items() if r.status == "upstream_failed" and p != "end")
    start = run.effects[0]._replace(node=path, seen=dict.fromkeys(run.design.nodes[path].sees))
    assert "early start" in run.with_effects(start).kinds()


def test_a_start_before_a_required_upstream_is_recorded_is_too_early(right):
    path = a_node(right)
    upstream = right.design.nodes[path].required[0]
    moved = right.with_record(upstream, ended=right.of(path, "start").at // MS + 500)
    assert "early start" in moved.kinds()


def test_a_start_before_an_optional_upstream_is_settled_is_too_early():
    run = of_kind("optional")
    path, node = next((p, n) for p, n in run.design.nodes.items() if n.optional and n.has_body and not n.is_fused)
    moved = run.with_record(node.optional[0], ended=run.of(path, "start").at // MS + 500)
    assert "early start" in moved.kinds()


def test_a_claim_that_is_recorded_before_its_upstreams_end_is_too_early(right):
    path = a_node(right)
    events = [change for change in right.history.events if change != Change(path, "running", 1)]
    assert right.with_history(events=[Change(path, "running", 1), *events]).kinds() == {"early start"}


def test_a_fused_node_may_start_before_its_upstream_is_recorded_but_not_before_that_ends():
    runs = [played(design(SEED, index, "a run", 3.0)) for index in range(len(KINDS))]
    run, path = next((r, p) for r in runs for p, n in r.design.nodes.items() if n.is_fused and n.required)
    upstream = run.design.nodes[path].required[0]
    began = run.of(path, "start").at // MS

    def of_path(run: Played) -> list[Violation]:
        return [violation for violation in run.violations() if violation.node == path]

    assert of_path(run.with_record(upstream, ended=began + 500)) == []
    late_end = run.of(upstream, "end")._replace(at=(began + 500) * MS)
    assert [found.kind for found in of_path(run.without(upstream, "end").with_effects(late_end))] == ["early start"]


def test_an_input_that_is_not_what_is_recorded_is_wrong(right):
    path = a_node(right)
    name = next(iter(right.design.nodes[path].sees))
    start = right.of(path, "start")
    wrong = start._replace(seen={**start.seen, name: "something else"})
    assert right.without(path, "start").with_effects(wrong).kinds() == {"wrong input"}


def test_an_input_that_is_missing_is_wrong(right):
    path = a_node(right)
    wrong = right.of(path, "start")._replace(seen={})
    assert right.without(path, "start").with_effects(wrong).kinds() == {"wrong input"}


def test_an_item_that_sees_another_entry_of_the_list_is_wrong():
    run = of_kind("map")
    wrong = run.of("item[2]", "start")._replace(seen=run.of("item[3]", "start").seen)
    assert run.without("item[2]", "start").with_effects(wrong).kinds() == {"wrong input"}


def test_a_node_that_the_design_does_not_have_is_found(right):
    assert "wrong input" in right.with_effects(right.effects[0]._replace(node="n99")).kinds()


def test_more_retries_than_the_policy_has_are_too_many_attempts(right):
    events = [Change("n3", "running", 1), Change("n3", "pending", 1), *right.history.events]
    assert "attempts" in right.with_history(events=events).kinds()


def test_giving_up_before_the_policy_does_is_found():
    run = of_kind("doomed")
    events = [change for change in run.history.events if change.status != "pending"]
    assert run.with_history(events=events).kinds() == {"attempts"}


def test_attempts_without_end_are_too_many(right):
    assert "attempts" in right.with_record("n3", attempt=99).kinds()


def test_a_retry_that_does_not_wait_is_found():
    run = of_kind("flaky")
    path = next(path for path, node in run.design.nodes.items() if node.executions > 1)
    second = next(e for e in run.effects if (e.node, e.what, e.attempt) == (path, "start", 2))
    hasty = second._replace(at=run.of(path, "fail").at + 50 * MS)
    effects = tuple(hasty if effect == second else effect for effect in run.effects)
    assert replace(run, effects=effects).kinds() == {"attempts"}


def test_an_execution_without_claim_is_found(right):
    path = a_node(right)
    assert right.with_effects(again(right.of(path, "start"), 5, attempt=2)).kinds() == {"unclaimed"}


def test_a_start_long_after_the_end_is_late(right):
    late = again(right.of(a_node(right), "start"), 60_000)
    assert right.with_effects(late).kinds() == {"late start"}
    began, ended = (right.history.ended or 0) - 5, late.at // MS - 5
    paused = replace(right.with_effects(late), faults=Faults(pauses=[Pause(began, ended)]))
    assert paused.kinds() == set()  # its process was stopped between claim and start


def test_too_many_executions_are_found(right):
    more = [again(right.of(path, "start"), 1) for path in ("n1", "n2", "n3")]
    assert (
        Violation("executions", "", "", "23 executions where 20 are needed: 1.150")
        in right.with_effects(*more).violations()
    )
    assert right.with_effects(*more[:2]).kinds() == set()


def test_what_the_server_forgot_may_have_happened_but_what_it_kept_must_fit(right):
    """The server was killed, and came back without the end of a node: that ran again."""
    path = a_node(right)
    forgotten = [again(right.of(path, what), -3, attempt=1) for what in ("start", "end")]
    later = [again(right.of(path, what), 1, attempt=5) for what in ("start", "end")]
    struck = replace(right.with_effects(*forgotten, *later), faults=Faults(kills=[right.history.submitted + 5]))
    assert struck.kinds() == set()
    assert "wrong output" in struck.with_output(path, core="something else").kinds()
    assert "stale output" in struck.with_output(path, nonce="unheard of").kinds()
    assert "double record" in struck.with_history(events=[*struck.history.events, Change(path, "completed", 2)]).kinds()


def test_of_several_runs_the_wrong_one_is_named(right):
    other = played(design(SEED, 0, "another", 3.0)).with_output("n3", core="something else")
    histories = {"a run": right.history, "another": other.history}
    found = check([right.design, other.design], histories, [*right.effects, *other.effects], Faults(), Limits())
    assert [(violation.kind, violation.run, violation.node) for violation in found] == [
        ("wrong output", "another", "n3")
    ]
