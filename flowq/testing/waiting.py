"""Wait for a named condition instead of sleeping for a guessed time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

POLL_S = 0.01
"""Between two looks at the condition; it doubles up to ``MAX_POLL_S``, because a look may cost a round trip."""
MAX_POLL_S = 0.1


def wait_until(condition: Callable[[], T], timeout_s: float = 10.0, describe: str | Callable[[], Any] = "") -> T:
    """Wait until ``condition()`` is true and give what it returned.

    An AssertionError that the condition raises counts as "not yet", so it may hold plain ``assert`` statements.

    Args:
        condition: asked over and over.
        timeout_s: seconds to wait at most.
        describe: what is waited for; or a function that gives what there is instead, called when the time is up.

    Raises:
        AssertionError: the time is up; it says what was waited for and what was seen last.
    """
    deadline = time.monotonic() + timeout_s
    pause = POLL_S
    while True:
        try:
            seen: Any = condition()
            if seen:
                return seen  # type: ignore[no-any-return]
        except AssertionError as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(_story(condition, timeout_s, describe, seen))
        time.sleep(pause)
        pause = min(pause * 2, MAX_POLL_S)


def _story(condition: Callable[[], Any], timeout_s: float, describe: str | Callable[[], Any], seen: Any) -> str:
    if callable(describe):
        what, seen = "", describe()
    else:
        what = describe
    return f"not within {timeout_s:g} s: {what or getattr(condition, '__name__', condition)}; seen: {seen!r:.2000}"
