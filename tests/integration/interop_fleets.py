"""Workers that ``flowq.embedded`` does not start: those of a team's own app, and some that differ from each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flowq import FlowContext
from flowq.runtime.state import State
from flowq.standalone import WorkerProcesses


@contextmanager
def workers(context: FlowContext, commands: Sequence[Sequence[str]], env: Mapping[str, str]) -> Iterator[None]:
    """Start one worker for each command; its name, ``w1``, ``w2`` and so on, goes in the place of ``{name}``."""
    state = State.of(context)

    def argv(i: int) -> list[str]:
        return [part.replace("{name}", f"w{i}") for part in commands[i - 1]]

    def ready() -> set[str]:
        return {name.decode().partition("@")[0] for name in state.client.zrange(state.keys.workers, 0, -1)}

    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    with WorkerProcesses(len(commands), argv, ready=ready, env={"PYTHONPATH": path, **env}) as started:
        started.wait_ready()
        yield
        started.stop(grace_s=0)  # nothing runs any more


def of_app(app: str, *options: str) -> list[str]:
    """Give the command of a Celery worker."""
    return [sys.executable, "-m", "celery", "-A", app, "worker", "-n", "{name}@test", "-c", "1", *options]


def including(*modules: str) -> list[str]:
    """Give the command of a flowq worker that includes these modules."""
    command = [sys.executable, "-m", "flowq", "worker", "--name", "{name}", "--concurrency", "1"]
    return ["env", f"FLOWQ_INCLUDE={','.join(modules)}", *command]
