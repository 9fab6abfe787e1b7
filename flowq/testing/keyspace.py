"""What tests may leave in a key space: nothing that stays."""

from __future__ import annotations

from typing import Any

from flowq.core.context import FlowContext
from flowq.core.errors import RunNotFound
from flowq.runtime.state import State
from flowq.testing.waiting import wait_until

SETTLE_S = 10.0
"""After the last run's end: a lost wake-up is noted for 3 s, a stopped attempt goes at its next renewal."""


def open_keys(context: FlowContext) -> list[str]:
    """Give flowq's keys that have no TTL. Once all runs have ended and the workers are idle, there must be none."""
    client, prefix = _client(context)
    names = sorted(client.scan_iter(match=f"{prefix}:*", count=1000))
    names = [name for name in names if b":taken:" not in name]  # messages: as little flowq's as the queues themselves
    with client.pipeline(transaction=False) as pipe:
        for name in names:
            pipe.ttl(name)
        return [name.decode() for name, ttl in zip(names, pipe.execute(), strict=True) if ttl == -1]


def runs(context: FlowContext) -> list[str]:
    """Give the ids of all runs that are kept."""
    client, prefix = _client(context)
    found = (name.decode().removeprefix(f"{prefix}:run:") for name in client.scan_iter(match=f"{prefix}:run:*"))
    return sorted(run for run in found if ":" not in run)


def clear(context: FlowContext) -> None:
    """End all runs, see that every key of theirs has a TTL then, and forget them.

    Raises:
        AssertionError: keys without TTL are left; it lists them.
    """
    client: Any = context.client
    left = runs(context)
    for run in left:
        try:
            client.handle(run).cancel()
        except RunNotFound:  # its retention has just passed
            continue
    wait_until(lambda: not open_keys(context), SETTLE_S, lambda: f"keys without TTL: {open_keys(context)}")
    for run in left:
        try:
            client.forget(run)
        except RunNotFound:
            continue


def _client(context: FlowContext) -> tuple[Any, str]:
    return State.of(context).client, context.settings.prefix
