"""Where the local engine's attempts run: on the event loop, in threads, or in processes."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from flowq.execution.limits import Interruptible, TimeUp
from flowq.execution.process import PoolProcess, Serve

T = TypeVar("T")


class ProcessPoolManager:
    """Runs jobs in threads and processes, stops what runs too long, and cleans up.

    Args:
        serve: what a child process does with a job.
        generation: grows when the parent has learned something that older children do not know.
        processes: how many idle children are kept; None: one per core.
    """

    def __init__(self, serve: Serve, generation: Callable[[], int] = lambda: 0, processes: int | None = None) -> None:
        self._serve = serve
        self._generation = generation
        self.processes = processes or os.cpu_count() or 1
        self._begin()
        atexit.register(self.close)

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._idle: list[PoolProcess] = []
        self._busy: set[PoolProcess] = set()
        self._lock = threading.Lock()

    async def in_process(self, job: Any, timeout_s: float | None) -> Any:
        """Run a job in a child process, which is killed if the time runs out or the caller is cancelled.

        Raises:
            TimeUp: it took longer than ``timeout_s``.
            ProcessDied: the child ended before it gave a result.
        """
        process = self._check_out()
        healthy = False
        try:
            async with asyncio.timeout(timeout_s):
                result = await process.call(job)
            healthy = True
            return result
        except TimeoutError:
            raise TimeUp from None
        finally:
            self._check_in(process, healthy)

    async def in_thread(self, job: Callable[[Interruptible], T], timeout_s: float | None) -> T:
        """Run a job in a thread of its own; it enters the scope that it is given for what may be interrupted.

        That happens if the time runs out or the caller is cancelled.

        Raises:
            TimeUp: it took longer than ``timeout_s``; a thread inside one blocking call ends when that does.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        scope = Interruptible()

        def report(result: T | None, error: BaseException | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(result)  # type: ignore[arg-type]

        def main() -> None:
            result, error = None, None
            try:
                result = job(scope)
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has closed: nobody waits for this any more
                loop.call_soon_threadsafe(report, result, error)

        thread = threading.Thread(target=main, name="flowq-node", daemon=True)
        thread.start()
        try:
            async with asyncio.timeout(timeout_s):
                return await done
        except TimeoutError:
            scope.stop()
            raise TimeUp from None
        except asyncio.CancelledError:
            scope.stop()
            raise

    def close(self) -> None:
        """End all children."""
        if self._pid != os.getpid():
            return
        with self._lock:
            idle, self._idle = self._idle, []
            busy, self._busy = self._busy, set()
        for process in idle:
            process.stop()
        for process in busy:
            process.kill()
        atexit.unregister(self.close)

    def _check_out(self) -> PoolProcess:
        if self._pid != os.getpid():  # a processor runs a flow: what was inherited are its siblings, not its children
            self._begin()
        generation = self._generation()
        with self._lock:
            stale = [process for process in self._idle if process.generation != generation]
            self._idle = [process for process in self._idle if process.generation == generation]
            process = self._idle.pop() if self._idle else None
        for old in stale:
            old.stop()
        if process is None:
            with self._lock:
                others = [other.pipe for other in (*self._idle, *self._busy)]
            process = PoolProcess(self._serve, generation, others)
        with self._lock:
            self._busy.add(process)
        return process

    def _check_in(self, process: PoolProcess, healthy: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            keep = healthy and len(self._idle) < self.processes
            if keep:
                self._idle.append(process)
        if not keep:
            process.kill()
