"""What users set, and what they get told if it cannot be."""

import os
import sys
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

from flowq import FlowConfig, FlowType, RetryPolicy, Settings


class Own(Exception):
    pass


class MoreOwn(Own):
    pass


# ── FlowConfig ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_defaults():
    config = FlowConfig(name="load")
    assert (config.timeout, config.retries, config.flow_type, config.queue) == (None, 0, FlowType.PROCESS, None)
    assert config.retry_policy.max_attempts == 1


@pytest.mark.parametrize("name", ["", "a/b", "a[0]", "a\tb", "x" * 201])
def test_bad_names(name):
    with pytest.raises(ValidationError, match="name"):
        FlowConfig(name=name)


@pytest.mark.parametrize("name", ["load", "Load_2", "größe", "a-b.c:d", "x" * 200])
def test_good_names(name):
    assert FlowConfig(name=name).name == name


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", timedelta(0)),
        ("retries", -1),
        ("queue", ""),
        ("queue", "a b"),
        ("flow_type", "sometimes"),
        ("max_crashes", 0),
        ("nonsense", 1),
    ],
)
def test_bad_values(field, value):
    given: dict[str, Any] = {"name": "load", field: value}
    with pytest.raises(ValidationError, match=field):
        FlowConfig(**given)


def test_a_timedelta_is_taken_for_seconds():
    assert FlowConfig(name="a", timeout=timedelta(minutes=1)).timeout == 60.0  # type: ignore[arg-type]


def test_it_is_fixed_once_it_is_made():
    with pytest.raises(ValidationError):
        FlowConfig(name="a").name = "b"  # type: ignore[misc]


def test_retries_are_attempts_after_the_first():
    assert FlowConfig(name="a", retries=3).retry_policy.max_attempts == 4
    policy = RetryPolicy(max_attempts=2, delay_s=9)
    assert FlowConfig(name="a", retries=policy).retry_policy is policy


# ── RetryPolicy ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_waits_grow_up_to_the_limit():
    policy = RetryPolicy(delay_s=1, backoff=2, max_delay_s=5, jitter=0)
    assert [policy.delay(failures, 0.5) for failures in range(1, 6)] == [1, 2, 4, 5, 5]


def test_a_great_number_of_failures_is_no_overflow():
    assert RetryPolicy(delay_s=1, backoff=10, max_delay_s=60, jitter=0).delay(100_000, 0.5) == 60


@pytest.mark.parametrize(("random", "wait"), [(0.0, 0.8), (0.5, 1.0), (0.999999, 1.2)])
def test_jitter_goes_both_ways(random, wait):
    assert RetryPolicy(delay_s=1, jitter=0.2).delay(1, random) == pytest.approx(wait, abs=1e-5)


@pytest.mark.parametrize(
    ("retry_on", "covered", "not_covered"),
    [
        ((), [ValueError(), Own(), SystemExit()], []),
        ((Own,), [Own(), MoreOwn()], [ValueError(), Exception()]),
        ((ValueError, Own), [UnicodeError(), MoreOwn()], [KeyError()]),
        (("builtins:OSError",), [FileNotFoundError()], [ValueError()]),
        ((Exception,), [Own()], [SystemExit()]),
    ],
)
def test_which_exceptions_are_worth_a_retry(retry_on, covered, not_covered):
    policy = RetryPolicy(retry_on=retry_on)
    assert all(policy.covers(error) for error in covered)
    assert not any(policy.covers(error) for error in not_covered)


def test_a_policy_is_plain_data():
    policy = RetryPolicy(retry_on=(Own,))
    assert policy.retry_on == (f"{__name__}:Own",)
    assert RetryPolicy.model_validate_json(policy.model_dump_json()) == policy


def test_a_class_of_the_script_itself_is_named_as_workers_import_it(monkeypatch):
    script = ModuleType("__main__")
    script.__file__ = "/somewhere/shop.py"
    monkeypatch.setitem(sys.modules, "__main__", script)
    monkeypatch.setattr(Own, "__module__", "__main__")
    policy = RetryPolicy(retry_on=(Own,))
    assert policy.retry_on == ("shop:Own",)
    assert policy.covers(Own())


@pytest.mark.parametrize(
    "bad", [{"max_attempts": 0}, {"delay_s": -1}, {"backoff": 0.5}, {"jitter": 2}, {"retry_on": (5,)}, {"tries": 3}]
)
def test_bad_policies(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        RetryPolicy(**bad)


# ── Settings ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def env(monkeypatch):
    """Set variables in an environment that has no others of flowq's."""
    for name in [name for name in os.environ if name.startswith("FLOWQ_")]:
        monkeypatch.delenv(name)
    return lambda **variables: [monkeypatch.setenv(f"FLOWQ_{name}", value) for name, value in variables.items()]


def test_settings_come_from_the_environment(env):
    env(BROKER_URL="redis://host:1/2", QUEUE="fast", LEASE_S="2.5", MAX_VALUE_BYTES="1000", UNKNOWN_THING="x")
    settings = Settings()
    assert (settings.broker_url, settings.queue, settings.lease_s) == ("redis://host:1/2", "fast", 2.5)
    assert settings.max_value_bytes == 1000
    assert settings.include == ()


def test_arguments_win_over_the_environment(env):
    env(QUEUE="fast")
    assert Settings(queue="slow").queue == "slow"


@pytest.mark.parametrize(
    ("text", "modules"),
    [("", ()), ("a", ("a",)), ("a,b.c", ("a", "b.c")), (" a , b.c ,", ("a", "b.c"))],
)
def test_include_is_a_list_with_commas(env, text, modules):
    env(INCLUDE=text)
    assert Settings().include == modules


def test_include_takes_a_list_too():
    assert Settings(include=["a", "b"]).include == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("broker", "state", "redis_url"),
    [
        ("redis://a/0", None, "redis://a/0"),
        ("rediss://a/0", None, "rediss://a/0"),
        ("redis+socket:///run/r.sock", None, "unix:///run/r.sock"),
        ("redis+socket:///run/r.sock?virtual_host=2", None, "unix:///run/r.sock?db=2"),
        ("unix:///run/r.sock", None, "unix:///run/r.sock"),
        ("amqp://a//", "redis://b/1", "redis://b/1"),
        ("redis://a/0", "redis://b/1", "redis://b/1"),
    ],
)
def test_the_states_redis(broker, state, redis_url):
    assert Settings(broker_url=broker, state_url=state).redis_url == redis_url


def test_a_broker_that_is_no_redis_needs_a_state_url():
    with pytest.raises(ValueError, match=r"FLOWQ_STATE_URL: 'amqp://a//' is no Redis address.*set FLOWQ_STATE_URL"):
        _ = Settings(broker_url="amqp://a//").redis_url


@pytest.mark.parametrize(
    "bad", [{"lease_s": 0}, {"threads": 0}, {"prefix": "a b"}, {"prefix": "a{b}"}, {"inline_bytes": -1}]
)
def test_bad_settings(bad):
    with pytest.raises(ValidationError, match=next(iter(bad))):
        Settings(**bad)
