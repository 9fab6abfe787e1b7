"""Failed and crashed attempts, and the ones that follow."""

import itertools

import pytest

from flowq import FailureKind, FlowStatus, NodeStatus
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import retries as flows


@pytest.mark.parametrize("flow", [flows.flaky, flows.flaky_in_thread, flows.flaky_inline], ids=lambda flow: flow.name)
def test_it_succeeds_in_the_third_attempt(run, log, flow):
    result = run(flow, {"attempts": 3, "log": log})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == 3
    node = result.nodes["succeeds_in"]
    assert (node.attempt, node.failure) == (3, None)
    started = effects(log, result.run_id)
    assert [effect.attempt for effect in started] == [1, 2, 3]


def test_waits_grow(run, log):
    result = run(flows.flaky, {"attempts": 4, "log": log})
    started = effects(log, result.run_id)
    waits = [(after.at - before.at) / 1e9 for before, after in itertools.pairwise(started)]
    assert len(waits) == 3
    assert all(wait >= least for wait, least in zip(waits, [0.05, 0.1, 0.2], strict=True)), waits


def test_attempts_run_out(run, log):
    result = run(flows.flaky, {"attempts": 9, "log": log})
    assert result.status is FlowStatus.FAILED
    node = result.nodes["succeeds_in"]
    assert (node.status, node.attempt) == (NodeStatus.FAILED, 4)
    assert node.failure.kind is FailureKind.ERROR
    assert node.failure.type == "tests.conformance.engines.flows.retries.Flaky"
    assert node.failure.message == "attempt 4"
    assert result.error == "succeeds_in: tests.conformance.engines.flows.retries.Flaky: attempt 4"
    assert "Flaky: attempt 4" in result.traceback
    assert len(effects(log, result.run_id)) == 4


@pytest.mark.parametrize(("kind", "attempts"), [("flaky", 3), ("other", 1)])
def test_only_what_the_policy_names_is_tried_again(run, log, kind, attempts):
    result = run(flows.choosy, {"kind": kind, "log": log})
    assert result.status is FlowStatus.FAILED
    assert result.nodes["picky"].attempt == attempts
    assert len(effects(log, result.run_id)) == attempts


def test_the_idempotency_key_is_the_same_in_all_attempts(run, log):
    result = run(flows.flaky, {"attempts": 3, "log": log})
    assert {effect.more for effect in effects(log, result.run_id)} == {f"{result.run_id}:succeeds_in"}


def test_the_idempotency_key_tells_items_apart(run, engine, log):
    given = {"items": [5, 5, 5], "log": log}
    if engine == "local":
        result = run(flows.keys_of_items, given)
        assert result.output == [f"{result.run_id}:keys[{item}]" for item in range(3)]
        return
    with pytest.raises(AssertionError, match="keys"):  # the run's id is in it, so two runs must differ
        run(flows.keys_of_items, given)


def test_a_crash_is_no_failure_but_another_attempt(run, log):
    result = run(flows.crashing, {"attempt": 2, "log": log})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == 2
    started = effects(log, result.run_id)
    assert [effect.attempt for effect in started] == [1, 2]
    assert {effect.more for effect in started} == {f"{result.run_id}:crashes_until"}


def test_a_crash_of_a_fused_node_costs_its_upstream_one_attempt_at_most(flowq_context, log):
    result = flows.crashing_inline.submit(99, log).result(30)
    assert result.status is FlowStatus.FAILED
    assert {name: (node.status, node.attempt) for name, node in result.nodes.items()} == {
        "first": (NodeStatus.COMPLETED, 2),
        "crashes_until": (NodeStatus.FAILED, 1),  # its other end was that of first's first attempt
    }
    assert result.failures["crashes_until"].kind is FailureKind.LOST
    assert "2 attempts died with their worker" in result.failures["crashes_until"].message


def test_a_poison_node_is_lost_after_its_crash_budget(run, log):
    result = run(flows.crashing, {"attempt": 99, "log": log})
    assert result.status is FlowStatus.FAILED
    node = result.nodes["crashes_until"]
    assert (node.status, node.attempt) == (NodeStatus.FAILED, 2)
    assert node.failure.kind is FailureKind.LOST
    assert "2 attempts died with their worker" in node.failure.message
    assert [effect.attempt for effect in effects(log, result.run_id)] == [1, 2]
