"""Processors that fail for some attempts, crash their process, or say who they are."""

from __future__ import annotations

import os

from flowq import RetryPolicy, current_attempt, flow, task
from tests.conformance.engines.effects import note

SOON = RetryPolicy(max_attempts=4, delay_s=0.05, backoff=2, jitter=0)


class Flaky(Exception):
    pass


class FlakyToday(Flaky):
    pass


@task(retries=SOON)
def succeeds_in(attempts: int, log: str) -> int:
    """Fail until this attempt."""
    note(log, "start", current_attempt().idempotency_key)
    attempt = current_attempt().attempt
    if attempt < attempts:
        raise Flaky(f"attempt {attempt}")
    return attempt


@task(retries=RetryPolicy(max_attempts=3, delay_s=0.05, retry_on=(Flaky,)))
def picky(kind: str, log: str) -> None:
    note(log, "start")
    raise {"flaky": FlakyToday, "other": KeyError}[kind](kind)


@task(max_crashes=2)
def crashes_until(attempt: int, log: str) -> int:
    """Take the whole process along, until this attempt."""
    note(log, "start", current_attempt().idempotency_key)
    if current_attempt().attempt < attempt:
        os._exit(7)
    return current_attempt().attempt


@task
def keys(item: int, log: str) -> str:
    note(log, "start", current_attempt().idempotency_key)
    return current_attempt().idempotency_key


@flow
def flaky(attempts: int, log: str) -> int:
    return succeeds_in(attempts, log)


@flow
def choosy(kind: str, log: str) -> None:
    return picky(kind, log)


@flow
def crashing(attempt: int, log: str) -> int:
    return crashes_until(attempt, log)


@flow
def keys_of_items(items: list[int], log: str) -> list[str]:
    return keys.map(items, log=log)


@task(retries=SOON)
def stores_what_cannot_be_stored() -> object:
    return object()


@flow
def bad_output_again_and_again() -> object:
    return stores_what_cannot_be_stored()


@task
def first(attempts: int) -> int:
    return attempts


@flow
def flaky_in_thread(attempts: int, log: str) -> int:
    return succeeds_in.options(flow_type="thread")(first(attempts), log)


@flow
def flaky_inline(attempts: int, log: str) -> int:
    return succeeds_in.options(flow_type="inline")(first(attempts), log)


@flow
def crashing_inline(attempt: int, log: str) -> int:
    return crashes_until.options(flow_type="inline")(first(attempt), log)
