"""The whole of flowq on one machine with nothing but Python: a private server and real Celery workers."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from flowq.core.config import Settings
from flowq.core.context import FlowContext
from flowq.core.processor import portable_module
from flowq.core.registry import REGISTRY
from flowq.runtime.state import State
from flowq.standalone.server import EmbeddedServer, EmbeddedServerError
from flowq.standalone.workers import WorkerProcesses

WORKER_MARK = "FLOWQ_EMBEDDED_WORKER"
"""Set in the environment of embedded workers, so that a script they import does not start further ones."""


STOP_GRACE_S = 5.0
"""Within the time after which workers that do not stop are killed."""


class EmbeddedContext(FlowContext):
    """The context of ``embedded()``, with the server and the worker processes behind it."""

    server: EmbeddedServer
    workers: WorkerProcesses


@contextmanager
def embedded(
    workers: int = 2,
    include: Iterable[str | ModuleType] | None = None,
    *,
    queues: Iterable[str] = (),
    concurrency: int = 1,
    pool: str = "prefork",
    events: bool = False,
    server: EmbeddedServer | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Iterator[EmbeddedContext]:
    """Start a private Redis server and real Celery worker processes; stop them, and leave nothing, at the end.

    Inside the block its context is the default one, so ``flow.submit(...)`` goes to these workers.

    Args:
        workers: how many worker processes, each with ``concurrency`` slots.
        include: the modules (or their names) whose processors the workers know; None: those of all processors that are
            defined in this process so far.
        queues: the queues that flows name, which all workers then serve besides the default one.
        concurrency: pool processes (or threads) of each worker.
        pool: Celery's pool: ``prefork``, ``solo`` or ``threads``.
        events: switch Celery events on, as Flower needs them.
        server: a server that is started already and is left running.
        settings: further fields of Settings, for the workers too.

    Raises:
        EmbeddedServerError: there is no server binary, or it does not start.
        EmbeddedWorkerError: a worker does not come up; the error has the end of its log.
    """
    if os.environ.get(WORKER_MARK):
        raise EmbeddedServerError(
            "a worker has imported a script that starts flowq.embedded() at its top level; put that part of the script"
            " under `if __name__ == '__main__':`"
        )
    modules = _modules(include)
    own_server = server is None
    server = server or EmbeddedServer()
    if own_server:
        server.start()
    try:
        given: dict[str, Any] = {
            "broker_url": server.url,
            "state_url": server.redis_url,
            "include": modules,
            "grace_s": STOP_GRACE_S,
        }
        given |= {"grace_s": STOP_GRACE_S} | (dict(settings) if settings else {})
        context = EmbeddedContext(Settings(**given))
        context.server = server
        env = {f"FLOWQ_{name.upper()}": _text(value) for name, value in given.items()}
        env |= {WORKER_MARK: "1", "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)}
        argv = [
            sys.executable,
            "-m",
            "flowq",
            "worker",
            "--name",
            "{name}",
            "--concurrency",
            str(concurrency),
            "--pool",
            pool,
        ]
        served = sorted({*queues} - {context.settings.queue})
        if served:
            argv += ["--queues", ",".join([context.settings.queue, *served])]
        state = State.of(context)
        context.workers = WorkerProcesses(
            workers, [*argv, "--events"] if events else argv, ready=lambda: _registered(state, context.workers), env=env
        )
        before = FlowContext.set_instance(context)
        try:
            with context.workers:
                context.workers.wait_ready()
                yield context
                if own_server and not _is_busy(state):
                    context.workers.stop(grace_s=0)  # nothing runs, and what they keep in Redis goes with it
        finally:
            FlowContext.set_instance(before)
            context.close()
    finally:
        if own_server:
            server.stop()


def _registered(state: State, workers: WorkerProcesses) -> set[str]:
    """Give the workers that have said that they are there, and are the processes that run now."""
    pids = {str(process.pid) for process in workers.processes}
    found = (worker.decode().rpartition("/") for worker in state.client.zrange(state.keys.workers, 0, -1))
    return {name.partition("@")[0] for name, _, pid in found if pid in pids}


def _is_busy(state: State) -> bool:
    """Tell whether any process holds a claim."""
    holders = state.client.zrange(state.keys.holders, 0, -1)
    return any(state.client.exists(state.keys.leases(holder.decode())) for holder in holders)


def _modules(include: Iterable[str | ModuleType] | None) -> tuple[str, ...]:
    if include is None:
        return tuple(REGISTRY.modules())
    names = (item.__name__ if isinstance(item, ModuleType) else item for item in include)
    return tuple(portable_module(name) for name in names)


def _text(value: Any) -> str:
    return ",".join(value) if isinstance(value, (list, tuple)) else str(value)
