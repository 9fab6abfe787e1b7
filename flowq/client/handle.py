"""The handle on a run: wait for it, look at it, end it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterator
from typing import Any, NamedTuple

from flowq.client.reading import Progress, RunReader, progress_of
from flowq.client.watch import Watch
from flowq.core.context import FlowContext
from flowq.core.errors import RunNotFound
from flowq.core.result import FlowResult, NodeResult
from flowq.core.types import FlowStatus, NodeStatus
from flowq.results.codec import decode
from flowq.runtime.events import Ref
from flowq.runtime.messages import send
from flowq.runtime.missing import label
from flowq.runtime.state import State


class NodeChange(NamedTuple):
    """Something that happened to a node."""

    node: str
    """Its path; of a map's item, with the item's position."""
    status: NodeStatus
    """RUNNING, PENDING (it will be tried again), or a final status."""
    attempt: int
    worker: str


class FlowHandle:
    """One run, from anywhere: all it knows itself is the run's id. ``await handle`` gives the result too."""

    def __init__(self, run_id: str, context: FlowContext, state: State, watch: Watch, returns: Any) -> None:
        self.run_id = run_id
        self._context = context
        self._state = state
        self._watch = watch
        self._returns = returns

    def status(self) -> FlowStatus:
        """Give where the run stands now."""
        return FlowStatus(self._state.head(self.run_id)["status"])

    def result(self, timeout: float | None = None) -> FlowResult:
        """Wait for the run's end and give its result, whatever its status.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: the run has not ended in time; it goes on.
            RunNotFound: there is no such run (any more).
        """
        changed = threading.Event()
        take_back = self._watch.on_change(self.run_id, changed.set) if not self.status().is_final else None
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not self.status().is_final:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise TimeoutError(f"run {self.run_id} has not ended within {timeout} s; it is {self.status()}")
                changed.wait(left)
                changed.clear()
        finally:
            if take_back is not None:
                take_back()
        return self._reader().result(self._returns)

    def __await__(self) -> Generator[Any, None, FlowResult]:
        return self._wait().__await__()

    async def _wait(self) -> FlowResult:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def notice() -> None:
            loop.call_soon_threadsafe(changed.set)

        take_back = await asyncio.to_thread(self._watch.on_change, self.run_id, notice)
        try:
            while not (await asyncio.to_thread(self.status)).is_final:
                await changed.wait()
                changed.clear()
        finally:
            take_back()
        return await asyncio.to_thread(self.result)

    def progress(self) -> Progress:
        """Give how far the run is; the cost does not grow with the flow."""
        return progress_of(self._state, self.run_id)

    def events(self, timeout: float | None = None) -> Iterator[NodeChange]:
        """Give what happened to the run's nodes, from its beginning to its end, as it happens.

        Args:
            timeout: seconds to wait for the next one; then the iteration ends. None: until the run ends.
        """
        plan = self._reader().plan
        last = b"0"
        while True:
            wait_ms = 10_000 if timeout is None else max(1, int(timeout * 1000))
            found = self._state.client.xread({self._state.keys.events(self.run_id): last}, count=1000, block=wait_ms)
            if not found and (timeout is not None or self.status().is_final):
                return
            for entry, fields in found[0][1] if found else ():
                last = entry
                key, status, attempt, worker = fields[b"e"].decode().split(" ", 3)
                if key == "run":
                    return
                yield NodeChange(label(plan, Ref.parse(key)), NodeStatus(status), int(attempt), worker)

    def node(self, name: str) -> NodeResult:
        """Give one node as it stands now, by its path, or by its flow's name if that is unique; KeyError if unknown."""
        return self._reader().node(name)

    def output(self, name: str) -> Any:
        """Give what a node returned (of a map, the list of its items'); None while it has not completed."""
        reader = self._reader()
        data = reader.output(reader.ref_of(name))
        return None if data is None else decode(data)

    def cancel(self) -> FlowStatus:
        """End the run as CANCELLED: nothing of it starts any more, and running attempts are stopped.

        Gives the run's status now; a run that has ended already keeps its own.
        """
        status, messages = self._state.scripts.cancel(run=self.run_id)
        if status is None:
            raise RunNotFound(f"there is no run {self.run_id!r}")
        send(self._context, messages)
        return FlowStatus(status)

    def __repr__(self) -> str:
        return f"<run {self.run_id}>"

    def _reader(self) -> RunReader:
        return RunReader(self._state, self._context.results, self.run_id)
