"""Clears the key space of a fleet after a test, without waiting until the fleet looks after it by itself."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from flowq import FlowContext, RunNotFound
from flowq.runtime.messages import send
from flowq.runtime.state import State
from flowq.testing.keyspace import clear, runs


def clear_now(context: FlowContext) -> None:
    """Do what ``clear`` does, with the sweep that it waits for at once.

    Only a sweep gives the last key a TTL, and with the periods of real fleets each test would wait seconds for it.
    That fleets come to it by themselves is for ``tests/integration/test_keyspace.py`` to show.

    Raises:
        AssertionError: keys without TTL are left; it lists them.
    """
    client: Any = context.client
    for run in runs(context):
        with suppress(RunNotFound):  # its retention has just passed
            client.handle(run).cancel()
    send(context, State.of(context).scripts.sweep(worker="test", every_ms=0).messages)
    clear(context)
