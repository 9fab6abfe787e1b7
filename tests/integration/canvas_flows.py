"""Flows for canvases that are broken: some of their nodes are on a queue that no worker knows until a test says so."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flowq import FunctionFlow, RetryPolicy, Skip, current_attempt, flow, task
from flowq.testing import wait_until
from tests.conformance.engines.effects import note


@task
def step(x: int, log: str) -> int:
    note(log, "start")
    return x + 1


@task
def total(values: list[int], log: str) -> int:
    note(log, "start")
    return sum(values)


@task
def broken(x: int, log: str) -> int:
    note(log, "start")
    raise ValueError("told to fail")


@task
def nothing(x: int, log: str) -> int:
    note(log, "start")
    raise Skip("nothing to do")


@task
def either(x: int, log: str, y: int | None = None) -> list[int | None]:
    note(log, "start")
    return [x, y]


@task(retries=RetryPolicy(max_attempts=3, delay_s=0.05, jitter=0))
def third_time_lucky(x: int, log: str) -> int:
    note(log, "start")
    if current_attempt().attempt < 3:
        raise ValueError("not yet")
    return x


@task
def gate(x: int, path: str, log: str) -> int:
    """Go on when the test says so."""
    note(log, "start")
    wait_until(Path(path).exists, 60)
    return x


@task
def endless(x: int, log: str) -> int:
    note(log, "start")
    try:
        while True:
            time.sleep(0.01)
    except BaseException:
        note(log, "stopped")
        raise


@task
def never_done_at_first(x: int, log: str) -> int:
    note(log, "start")
    if current_attempt().attempt == 1:
        time.sleep(60)
    return x


Made = FunctionFlow[..., Any]


def line(queue: str = "") -> Made:
    """Give first ─▶ held ─▶ last."""

    @flow
    def in_line(x: int, log: str) -> int:
        return step.options(name="last")(held(queue, "held")(step.options(name="first")(x, log), log), log)

    return in_line


def fork(queue: str, count: int = 3) -> Made:
    """Give parts side by side, the first of them not held, and what sums them up: a chord; one more follows."""

    @flow
    def forked(x: int, log: str) -> int:
        first = step.options(name="first")(x, log)
        parts = [held(queue if i else "", f"part{i}")(first, log) for i in range(count)]
        return step.options(name="last")(total(parts, log), log)

    return forked


def held(queue: str, name: str) -> Any:
    return step.options(name=name, queue=queue) if queue else step.options(name=name)


@flow
def gated(x: int, path: str, log: str) -> int:
    return step(gate(x, path, log), log)


@flow
def fails_in_the_middle(x: int, log: str) -> list[int | None]:
    first = step.options(name="first")(x, log)
    return either(first, log, step.options(name="after")(broken(first, log), log))


@flow
def skips(x: int, log: str) -> list[int | None]:
    first = step.options(name="first")(x, log)
    return either(first, log, nothing(first, log))


@flow
def lucky(x: int, log: str) -> int:
    return step.options(name="last")(third_time_lucky(step.options(name="first")(x, log), log), log)


@flow
def killed(x: int, log: str) -> int:
    return step.options(name="last")(never_done_at_first(step.options(name="first")(x, log), log), log)


def cancelled(queue: str) -> Made:
    """Give endless and held side by side, and what comes after both."""

    @flow
    def cut_short(x: int, log: str) -> int:
        return total([endless(x, log), held(queue, "held")(x, log)], log)

    return cut_short
