"""Where a command runs its flow: on workers of its own, or on those that are there already."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import urlsplit

import typer

from flowq.cli.problems import FleetProblem, UsageProblem
from flowq.core.context import FlowContext

LocalOption = Annotated[bool, typer.Option("--local", help="Run in this process: no Redis, no Celery.")]
ConnectOption = Annotated[
    bool, typer.Option("--connect", help="Use the broker, the state and the workers that FLOWQ_* settings name.")
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, max=64, help="Worker processes to start beside a private Redis; default: 2."),
]
DEFAULT_WORKERS = 2

CONNECT_S = 5.0
"""How long a server may take to accept a connection."""


def check_place(*, local: bool, connect: bool, workers: int | None) -> None:
    """Raise UsageProblem if the options contradict each other."""
    chosen = [
        name
        for name, given in (("--local", local), ("--connect", connect), ("--workers", workers is not None))
        if given
    ]
    if len(chosen) > 1:
        raise UsageProblem(f"{' and '.join(chosen)} say different things about where to run: give one of them")


@contextmanager
def fleet(
    *, connect: bool, workers: int | None, include: Iterable[str], queues: Iterable[str] = ()
) -> Iterator[FlowContext]:
    """Give the context of the workers; those that are started here are stopped at the end, whatever happens.

    Raises:
        FleetProblem: they cannot be started, or Redis does not answer.
    """
    if connect:
        context = FlowContext.get_instance()
        _check_connection(context)
        yield context
        return
    # Late: what only looks at graphs needs neither Redis nor Celery.
    from flowq.standalone import EmbeddedServerError, EmbeddedWorkerError, embedded

    started = False
    try:
        with embedded(workers or DEFAULT_WORKERS, include, queues=queues) as context:
            started = True
            yield context
    except (EmbeddedServerError, EmbeddedWorkerError) as error:
        if started:
            raise
        raise FleetProblem(str(error)) from error


def _check_connection(context: FlowContext) -> None:
    """Look whether Redis is there; with patience, as its client has, that would take as long as a run."""
    from flowq.runtime.state import State

    parts = urlsplit(context.settings.redis_url)
    place = parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]  # without the password
    try:
        if parts.scheme != "unix":
            socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=CONNECT_S).close()
        State.of(context).client.ping()
    except Exception as error:  # redis-py's own too, which this layer does not know
        raise FleetProblem(
            f"no answer from Redis at {place} ({error}); is it running? FLOWQ_BROKER_URL and FLOWQ_STATE_URL say where"
        ) from error
