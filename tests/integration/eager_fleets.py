"""Workers that look after everything several times a second, for tests of what carries their messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowq import FlowContext
from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet
from tests.conformance.engines.flows import maps

EAGER: dict[str, Any] = {"renew_s": 0.3, "sweep_s": 0.3}


@contextmanager
def eager(count: int = 2, *, settings: dict[str, Any] | None = None, **options: Any) -> Iterator[EmbeddedContext]:
    """Start workers that know the flows of ``maps``."""
    with fleet(count, [maps], settings={**EAGER, **(settings or {})}, **options) as started:
        yield started
        started.workers.stop(grace_s=0)  # nothing runs any more


def client_of(context: FlowContext) -> Any:
    """Give the connection to the Redis of the runs, which is mostly the broker, too."""
    return context.service("state").client


def pids(context: EmbeddedContext) -> list[int]:
    """Give the workers that live."""
    return [worker.pid for worker in context.workers.processes if worker.alive]


def consumers(context: FlowContext) -> list[bytes]:
    """Give who takes messages, by the books of the transport."""
    return list(client_of(context).zrange("_flowq.consumers", 0, -1))
