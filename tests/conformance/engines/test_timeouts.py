"""A timeout is per attempt and holds for every kind of code, as far as its placement promises."""

import time

import pytest

from flowq import FailureKind, FlowStatus, FlowType, MissingReason, NodeStatus, RetryPolicy
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import timeouts as flows

LEAFS = [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]
SOON_S = 5.0
"""Well below the 60 s that the processors would take, well above what two loaded cores need to notice."""


def assert_timed_out(result, attempts: int = 1):
    slow = result.nodes["slow"]
    assert slow.status is NodeStatus.FAILED
    assert slow.failure.kind is FailureKind.TIMEOUT
    assert slow.failure.type == "flowq.core.errors.AttemptTimeout"
    assert slow.attempt == attempts
    assert result.bypassed == {"end": {"slow": MissingReason.TIMED_OUT}}
    assert result.output == {"saw": {"slow": False}, "missing": {"slow": "timed_out"}}
    assert result.status is FlowStatus.COMPLETED


@pytest.mark.parametrize("placement", LEAFS)
@pytest.mark.parametrize("processor", [flows.Busy(), flows.Waiting()], ids=["busy", "waiting"])
def test_code_that_runs_or_awaits_is_stopped_in_every_placement(run, log, processor, placement):
    began = time.monotonic()
    result = run(flows.before_optional(processor, placement), {"log": log})
    assert_timed_out(result)
    assert time.monotonic() - began < 2 * SOON_S
    assert "'slow': attempt 1 was stopped after its timeout of 0.3 s" in result.nodes["slow"].failure.message


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.INLINE])
def test_a_blocking_call_is_interrupted(run, log, placement):
    began = time.monotonic()
    assert_timed_out(run(flows.before_optional(flows.Blocked(), placement), {"log": log}))
    assert time.monotonic() - began < 2 * SOON_S


def test_a_blocking_call_in_a_thread_is_given_up(run, log):
    """Nothing ends a system call of a thread; the run goes on without it."""
    began = time.monotonic()
    slow = flows.before_optional(flows.Blocked(sleep_s=8), FlowType.THREAD)
    assert_timed_out(run(slow, {"log": log}, words=False))
    assert time.monotonic() - began < 8


def test_code_that_swallows_the_interruption_is_killed(run, log):
    assert_timed_out(run(flows.before_optional(flows.Stubborn(), FlowType.PROCESS), {"log": log}, words=False))


def test_every_attempt_has_its_own_time(run, log):
    again = RetryPolicy(max_attempts=3, delay_s=0.05)
    result = run(flows.before_optional(flows.Busy(), FlowType.PROCESS, 0.2, again), {"log": log})
    assert_timed_out(result, attempts=3)
    assert [effect.attempt for effect in effects(log, result.run_id)] == [1, 2, 3]


def test_a_policy_that_does_not_name_timeouts_does_not_retry_them(run, log):
    only = RetryPolicy(max_attempts=3, delay_s=0.05, retry_on=(ValueError,))
    result = run(flows.before_optional(flows.Busy(), FlowType.PROCESS, 0.2, only), {"log": log})
    assert_timed_out(result, attempts=1)


def test_a_timeout_error_of_the_processor_is_no_timeout(run):
    result = run(flows.before_optional(flows.Raising(), FlowType.PROCESS), {})
    assert result.nodes["slow"].failure.kind is FailureKind.ERROR
    assert result.bypassed == {"end": {"slow": MissingReason.FAILED}}
