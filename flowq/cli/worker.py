"""``flowq worker``: a Celery worker with the options that flowq runs best with."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from flowq.core.context import FlowContext


def worker(
    name: Annotated[
        str | None, typer.Option(help="The worker's name, which no other one has; default: flowq-PID@HOST.")
    ] = None,
    queues: Annotated[str | None, typer.Option("--queues", "-Q", help="Queues to work on, comma-separated.")] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", "-c", help="Slots; default: one per core.")
    ] = None,
    pool: Annotated[str, typer.Option("--pool", "-P", help="prefork, solo or threads.")] = "prefork",
    events: Annotated[
        bool, typer.Option("--events/--no-events", "-E", help="Send events, as Flower needs them.")
    ] = False,
    loglevel: Annotated[str, typer.Option(help="Celery's log level.")] = "WARNING",
) -> None:
    """Run a worker. It knows the modules that FLOWQ_INCLUDE names, and no others.

    SIGTERM or Ctrl-C ends it: it claims nothing more; what it runs may go on for FLOWQ_GRACE_S seconds (default 20).

    The rest is handed back: other workers run it at once, and no attempt is counted. SIGQUIT or a second Ctrl-C hands
    back at once. It exits within 5 seconds more: whoever kills a worker that does not end, is to wait so long.
    """
    name = name or f"flowq-{os.getpid()}"
    hostname = name if "@" in name else f"{name}@%h"
    argv = ["worker", "--hostname", hostname, "--pool", pool, "--loglevel", loglevel]
    # Mingle and gossip ask all other workers for what flowq keeps in Redis, and make the start a second slower.
    argv += ["--without-mingle", "--without-gossip"]
    if queues:
        argv += ["--queues", queues]
    if concurrency:
        argv += ["--concurrency", str(concurrency)]
    if events:
        argv += ["--task-events"]
    FlowContext.get_instance().celery_app.worker_main(argv)
