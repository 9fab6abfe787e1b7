"""Waiting for a condition, and what is said if it does not come."""

import itertools

import pytest

from flowq.testing import wait_until


def test_it_gives_what_the_condition_gave():
    values = itertools.chain([None, 0, ""], itertools.repeat("value"))
    assert wait_until(lambda: next(values)) == "value"


def test_assertions_may_stand_in_the_condition():
    counter = itertools.count()

    def enough() -> bool:
        assert next(counter) > 3, "too few"
        return True

    assert wait_until(enough)


def test_the_condition_is_asked_at_least_once():
    assert wait_until(lambda: 1, timeout_s=0) == 1


def never() -> list[int]:
    return []


@pytest.mark.parametrize(
    ("describe", "message"),
    [
        ("", r"not within 0\.02 s: never; seen: \[\]"),
        ("two workers are up", r"not within 0\.02 s: two workers are up; seen: \[\]"),
        (lambda: {"up": 1}, r"not within 0\.02 s: never; seen: {'up': 1}"),
    ],
)
def test_when_the_time_is_up_it_says_what_was_seen(describe, message):
    with pytest.raises(AssertionError, match=message):
        wait_until(never, 0.02, describe)


def test_the_last_assertion_is_what_was_seen():
    def fails() -> bool:
        raise AssertionError("only 1 of 2")

    with pytest.raises(AssertionError, match="only 1 of 2"):
        wait_until(fails, 0.02)


def test_other_errors_are_raised_at_once():
    with pytest.raises(ZeroDivisionError):
        wait_until(lambda: 1 / 0)
