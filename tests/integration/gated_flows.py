"""Flows that wait, fail, or kill their process until the test says otherwise; and what was seen of them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any

from flowq import FlowContext, RetryPolicy, flow, task
from flowq.runtime.state import State
from tests.conformance.engines.effects import by_node, note

SHORT = {"lease_s": 2, "renew_s": 0.3, "sweep_s": 0.3}


@task
def passes(name: str, log: str) -> str:
    note(log, "start", name)
    return name


@task
def waits(value: Any, path: str, log: str) -> Any:
    """Go on when the test says so."""
    note(log, "start")
    try:
        while not Path(path).exists():
            time.sleep(0.01)
    finally:
        note(log, "left")
    return value


@task
def needs(value: Any, path: str, log: str) -> Any:
    """Fail while there is no such file."""
    note(log, "start")
    if not Path(path).exists():
        raise FileNotFoundError(path)
    return value


@task
def joins(left: str, right: str, log: str) -> str:
    note(log, "start")
    return f"{left}+{right}"


@task
def together(values: list[Any], log: str) -> list[Any]:
    note(log, "start")
    return values


@task(retries=RetryPolicy(max_attempts=2, delay_s=300, jitter=0))
def fails_for_now(log: str) -> None:
    note(log, "start")
    raise ValueError("later")


@task(timeout=0.3)
def takes_too_long(log: str) -> None:
    note(log, "start")
    try:
        time.sleep(60)
    except BaseException as error:
        note(log, "stopped", type(error).__name__)
        raise


@task
def kills_its_process(path: str, log: str) -> str:
    note(log, "start", os.getpid())
    if not Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "alive"


@task
def counts(item: int, log: str) -> int:
    note(log, "start", item)
    return item


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@flow
def gated(path: str, log: str) -> str:
    return passes(waits("value", path, log), log)


@flow
def forked(path: str, log: str) -> str:
    """start ─▶ good, bad ─▶ joins"""
    start = passes("start", log)
    return joins(passes(start, log), needs(start, path, log), log)


@flow
def mapped(count: int, path: str, log: str) -> Any:
    together_: list[Any] = together(picky.map(numbers(count), path=path, log=log), log)
    return together_


@task
def picky(item: int, path: str, log: str) -> int:
    note(log, "start", item)
    if item == 1 and not Path(path).exists():
        raise ValueError("one is bad")
    return item


@flow
def waiting_for_retry(log: str) -> None:
    return fails_for_now(log)


@flow
def overlong(log: str) -> None:
    return takes_too_long(log)


@flow
def poison(path: str, log: str) -> str:
    return passes(kills_its_process(path, log), log)


@flow
def many(count: int, log: str) -> Any:
    together_: list[int] = together(counts.map(numbers(count), log=log), log)
    return together_


def starts(log: str, run: str) -> Counter[str]:
    """How often each node began."""
    return Counter({node: len(found) for node, found in by_node(log, run, "start").items()})


def is_idle(context: FlowContext) -> bool:
    """Nobody holds a claim."""
    state = State.of(context)
    holders = state.client.zrange(state.keys.holders, 0, -1)
    return not any(state.client.exists(state.keys.leases(holder.decode())) for holder in holders)
