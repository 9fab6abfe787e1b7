"""How long a call on a Redis that does not answer is tried again."""

import contextlib
import time
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff

from flowq.results.connection import _RetryUntil, trying_until

TRIES = 12


def tried(retry: _RetryUntil, *, fails: int = 100) -> int:
    """Give how often a call is made that fails so many times."""
    calls = 0

    def call() -> None:
        nonlocal calls
        calls += 1
        if calls <= fails:
            raise redis.ConnectionError("gone")

    def fail(*error: Any) -> None:
        pass

    with contextlib.suppress(redis.ConnectionError):
        retry.call_with_retry(call, fail)
    return calls


@pytest.fixture
def retry() -> _RetryUntil:
    return _RetryUntil(NoBackoff(), TRIES)


def test_without_a_deadline_it_is_tried_as_often_as_always(retry):
    assert tried(retry) == TRIES + 1


def test_before_its_deadline_too(retry):
    with trying_until(time.monotonic() + 600):
        assert tried(retry) == TRIES + 1


def test_after_it_a_lost_connection_is_replaced_once_and_then_it_is_over(retry):
    with trying_until(time.monotonic() - 1):
        assert tried(retry) == 2
        assert tried(retry, fails=1) == 2


def test_the_deadline_of_an_inner_caller_does_not_outlast_it(retry):
    with trying_until(time.monotonic() + 600):
        with trying_until(time.monotonic() - 1):
            pass
        assert tried(retry) == TRIES + 1
