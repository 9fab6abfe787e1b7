"""Real worker processes, for as long as their owner lives."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from flowq.core.errors import FlowqError
from flowq.standalone.process import GuardedProcess

logger = logging.getLogger(__name__)

_POLL_S = 0.02  # between two looks at who is ready; a worker takes most of a second


class EmbeddedWorkerError(FlowqError):
    """Embedded workers could not be started, died, or did not become ready; the message has the end of their logs."""


class WorkerProcesses:
    """A number of worker processes, each in a session of its own. A context manager.

    Worker ``i``, from 1, is called ``w{i}``. Each has a log, ``worker-{i}.log`` in ``directory``, and unless ``cwd``
    is given an empty working directory of its own, so that no two can pass data through local files by accident.
    All end when this process does, however that ends; nothing of them is left.

    Args:
        count: how many workers.
        argv: the command of worker ``i``: a function of ``i``, or a list in which ``{i}`` is replaced by the number
            and ``{name}`` by the name.
        ready: returns the names of the workers that are known to be ready; asked over and over by ``wait_ready``.
        env: added to this process's environment.
        cwd: the working directory of all of them.
    """

    def __init__(
        self,
        count: int,
        argv: Callable[[int], Sequence[str]] | Sequence[str],
        *,
        ready: Callable[[], set[str]],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self._count = count
        self._argv = argv
        self._ready = ready
        self._env = dict(env or {})
        self._cwd = cwd
        self._directory: Path | None = None
        self._processes: dict[int, GuardedProcess] = {}

    @property
    def processes(self) -> list[GuardedProcess]:
        """The workers in the order of their numbers, each with name, pid, alive, returncode and log_tail()."""
        return [self._processes[i] for i in sorted(self._processes)]

    @property
    def directory(self) -> Path:
        """The private directory with the logs.

        Raises:
            EmbeddedWorkerError: the workers are not started.
        """
        if self._directory is None:
            raise _not_started()
        return self._directory

    def start(self) -> None:
        """Start all workers, without waiting until they are ready; no effect if they are started.

        Raises:
            EmbeddedWorkerError: the command cannot be executed.
        """
        if self._directory is not None:
            return
        self._directory = Path(tempfile.mkdtemp(prefix="flowq-workers-"))
        try:
            for i in range(1, self._count + 1):
                self._launch(i)
        except BaseException:  # also Ctrl-C: __exit__ is not called for what __enter__ began
            self.stop(grace_s=0)
            raise

    def wait_ready(self, timeout_s: float = 30.0) -> None:
        """Wait until every worker is ready, at most ``timeout_s`` seconds.

        Raises:
            EmbeddedWorkerError: at once if a worker has ended or none is started; else when the time is up.
        """
        if self._directory is None:
            raise _not_started()
        deadline = time.monotonic() + timeout_s
        while True:
            dead = [worker for worker in self.processes if not worker.alive]
            if dead:
                raise _error("ended before all workers were ready", dead)
            known = self._ready()
            missing = [worker for worker in self.processes if worker.name not in known]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise _error(f"not ready within {timeout_s:g} s", missing)
            missing[0].wait(_POLL_S)  # a pause that the end of the worker cuts short

    def stop(self, grace_s: float = 10.0) -> None:
        """Let all workers finish what they run (SIGTERM), kill those that need over ``grace_s`` seconds; idempotent."""
        deadline = time.monotonic() + grace_s
        for worker in self.processes:
            worker.terminate()
        for worker in self.processes:
            if not worker.wait(deadline - time.monotonic()):
                if grace_s:
                    logger.warning("%s did not stop within %g s and is killed", worker.name, grace_s)
                worker.kill()
        self._processes.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self, i: int) -> None:
        """Crash worker ``i``: SIGKILL to its whole process group; returns when it is gone.

        Raises:
            EmbeddedWorkerError: there is no such worker.
        """
        if i not in self._processes:
            raise EmbeddedWorkerError(f"no worker {i} is started: they are {sorted(self._processes)}")
        self._processes[i].kill()

    def restart(self, i: int) -> None:
        """Start worker ``i`` again, after a ``kill()`` if it still runs; its log goes on in the same file.

        Raises:
            EmbeddedWorkerError: there is no such worker, or the command cannot be executed.
        """
        self.kill(i)
        self._launch(i)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self, i: int) -> None:
        name = f"w{i}"
        cwd = self._cwd
        if cwd is None:
            cwd = self.directory / name
            cwd.mkdir(exist_ok=True)
        temporary = self.directory / f"{name}-tmp"  # goes with the directory, whatever a killed worker left in it
        temporary.mkdir(exist_ok=True)
        argv = self._argv_of(i, name)
        try:
            self._processes[i] = GuardedProcess(
                name,
                argv,
                env={**os.environ, "TMPDIR": str(temporary), **self._env},
                cwd=cwd,
                log_path=self.directory / f"worker-{i}.log",
                remove=self.directory,
            )
        except OSError as error:
            raise EmbeddedWorkerError(f"worker {name} could not be started with {list(argv)}: {error}") from error

    def _argv_of(self, i: int, name: str) -> Sequence[str]:
        if callable(self._argv):
            return self._argv(i)
        # Not str.format: an argument may well be JSON.
        return [part.replace("{i}", str(i)).replace("{name}", name) for part in self._argv]


def _not_started() -> EmbeddedWorkerError:
    return EmbeddedWorkerError("the workers are not started: use them in a with block, or call start() first")


def _error(what: str, workers: Sequence[GuardedProcess]) -> EmbeddedWorkerError:
    stories = []
    for worker in workers:
        status = "running" if worker.alive else f"exit status {worker.returncode}"
        stories.append(f"--- {worker.name} ({status}), last output:\n{worker.log_tail() or '(none)'}")
    names = ", ".join(worker.name for worker in workers)
    return EmbeddedWorkerError("\n".join([f"{names}: {what}", *stories]))
