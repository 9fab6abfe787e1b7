"""One child process that runs one job after the other, and can be killed in the middle of any."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from typing import Any

Serve = Callable[[Any], Any]
"""Runs in the child: takes a job, gives its result. It must not raise."""

LEAVE = "leave"
"""Sent instead of a job."""

# Forked children know every processor that the parent knows, also those of scripts and functions that nobody could
# import. Where there is no fork, jobs can only name what is importable.
_CONTEXT: Any = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")


class ProcessDied(Exception):
    """The child ended before it gave a result."""


class PoolProcess:
    """A child process with its pipe. ``generation`` says what the parent knew when it forked."""

    def __init__(self, serve: Serve, generation: int, others: Iterable[Connection]) -> None:
        self.generation = generation
        self._pipe, child_end = _CONTEXT.Pipe()
        # A child that held its siblings' pipes open would keep them from noticing the parent's end.
        inherited = [*others, self._pipe]
        self._process = _CONTEXT.Process(target=_main, args=(serve, child_end, inherited), daemon=True)
        with warnings.catch_warnings():
            # 3.12 warns of forking with threads about. The child runs nothing but jobs, and touches no parent's lock.
            warnings.simplefilter("ignore", DeprecationWarning)
            with _allowed_children():
                self._process.start()
        child_end.close()

    @property
    def pid(self) -> int:
        pid: int = self._process.pid
        return pid

    @property
    def pipe(self) -> Connection:
        pipe: Connection = self._pipe
        return pipe

    async def call(self, job: Any) -> Any:
        """Run one job and give its result.

        Raises:
            ProcessDied: the child ended before.
        """
        loop = asyncio.get_running_loop()
        readable: asyncio.Future[None] = loop.create_future()
        try:
            self._pipe.send(job)
            loop.add_reader(self._pipe.fileno(), _resolve, readable)
            try:
                await readable
            finally:
                loop.remove_reader(self._pipe.fileno())
            return self._pipe.recv()
        except (EOFError, OSError) as error:
            self._process.join(timeout=5)
            raise ProcessDied(f"the process ended with exit code {self._process.exitcode}") from error

    def kill(self) -> None:
        """End it at once, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def stop(self) -> None:
        """End it when it is idle."""
        with contextlib.suppress(OSError):  # it may have ended by itself
            self._pipe.send(LEAVE)  # the end of the pipe may be held open by a child of another pool
        self._pipe.close()
        self._process.join(timeout=2)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _allowed_children() -> Iterator[None]:
    """Let a processor run flows too. Daemonic processes may have no children, as they might leave them behind; these
    here leave when their pipe closes.
    """
    config = multiprocessing.current_process()._config  # type: ignore[attr-defined]
    is_daemon = config.pop("daemon", None)
    try:
        yield
    finally:
        if is_daemon is not None:
            config["daemon"] = is_daemon


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _main(serve: Serve, pipe: Connection, inherited: list[Connection]) -> None:
    # The parent decides when a child ends: Ctrl-C reaches the whole process group, and a loop that ran when this
    # process was forked has its own wake-up socket, which signals here must not write to.
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if _CONTEXT.get_start_method() == "fork":
        for other in inherited:
            with contextlib.suppress(OSError):
                os.close(other.fileno())
    asyncio._set_running_loop(None)
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        if job == LEAVE:
            return
        pipe.send(serve(job))
