"""The handle on a run: wait for it, look at it, end it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from flowq.client.consequences import go_on
from flowq.client.ended import Asked, look, result_from, status_of
from flowq.client.reading import Progress, RunReader, progress_of
from flowq.client.retrying import retry
from flowq.client.watch import Watch
from flowq.core.context import FlowContext
from flowq.core.errors import FlowqError, RunLost, RunNotFound, StoreUnavailableError
from flowq.core.result import FlowResult, NodeResult
from flowq.core.types import FlowStatus, NodeStatus
from flowq.plan import Plan
from flowq.results.codec import decode
from flowq.results.connection import trying_until
from flowq.runtime.events import Ref
from flowq.runtime.messages import send
from flowq.runtime.missing import label
from flowq.runtime.replies import Changed
from flowq.runtime.state import Glance, State, told_by

logger = logging.getLogger("flowq.client")

LOOK_S = 10.0
"""Who waits for a run looks at it so often, besides being told of its end."""

AWAY_S = 0.2
"""The pause before a store that is away is asked again, should it have refused at once."""

FINAL_RUN = {status.value for status in FlowStatus if status.is_final}

T = TypeVar("T")


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

    def __init__(
        self,
        run_id: str,
        context: FlowContext,
        state: State,
        watch: Watch,
        returns: Any,
        epoch: str = "",
        plan: Plan | None = None,
    ) -> None:
        self.run_id = run_id
        self.asked = Asked(run_id, plan, returns)
        """What its result is read by."""
        self._epoch = epoch
        """Of the store, when the run was last known to be there."""
        self._context = context
        self._state = state
        self._watch = watch

    def status(self) -> FlowStatus:
        """Give where the run stands now.

        Raises:
            RunNotFound: there is no such run (any more).
            RunLost: the store has come back without its data since this handle was made.
        """
        try:
            return FlowStatus(self._state.head(self.run_id)["status"])
        except RunNotFound:
            if self._epoch and self._state.epoch() != self._epoch:
                raise RunLost(
                    f"run {self.run_id} is lost: the state store has come back without its data; submit it again"
                ) from None
            raise

    def result(self, timeout: float | None = None) -> FlowResult:
        """Wait for the run's end and give its result, whatever its status. A store that is away is waited for, too.

        Args:
            timeout: seconds; None: as long as it takes.

        Raises:
            TimeoutError: the run has not ended in time (it goes on), or the store could not be reached by then. A store
                that has accepted a connection and says nothing is given up after 30 s, however short the timeout is.
            RunNotFound: there is no such run (any more).
            RunLost: the store has come back without its data.
        """
        changed = threading.Event()
        deadline = None if timeout is None else time.monotonic() + timeout
        take_back = self._watch.on_change(self.run_id, changed.set) if self._watch.is_listening else None
        try:
            while isinstance(found := self._patiently(self._result_so_far, deadline), FlowStatus):
                left = LOOK_S if deadline is None else min(LOOK_S, deadline - time.monotonic())
                if left <= 0:
                    raise TimeoutError(f"run {self.run_id} has not ended within {timeout} s; it is {found}")
                if take_back is None:
                    take_back = self._watch.on_change(self.run_id, changed.set, left)
                    continue  # it may have ended before the subscription stood
                changed.wait(left)
                changed.clear()
            return found
        finally:
            if take_back is not None:
                take_back()

    def _result_so_far(self) -> FlowResult | FlowStatus:
        (glance,) = look(self._state, [self.asked])
        if glance is None:
            return self.status()  # says so if the run is not there, or lost
        status = status_of(glance)
        return self.read(glance) if status.is_final else status

    def read(self, glance: Glance) -> FlowResult:
        """Give the result of the run, which has ended, from what a look at it brought.

        Raises:
            RunNotFound, RunLost: it is gone since.
        """
        try:
            return result_from(self._state, self._context.results, self.asked, glance)
        except StoreUnavailableError:
            raise
        except FlowqError:
            self.status()  # what misses a part of it may be that all of it is gone
            raise

    def _patiently(self, ask: Callable[[], T], deadline: float | None) -> T:
        """Ask the store; if it is away, wait for it until the deadline."""
        while True:
            try:
                with trying_until(deadline):
                    return ask()
            except StoreUnavailableError as error:  # it was tried for seconds, or until the deadline
                if deadline is not None and time.monotonic() > deadline:
                    raise TimeoutError(f"run {self.run_id}: {error}") from error
                logger.warning("waiting for run %s: %s", self.run_id, error)
                time.sleep(AWAY_S)

    def __await__(self) -> Generator[Any, None, FlowResult]:
        return self._wait().__await__()

    async def _wait(self) -> FlowResult:
        loop = asyncio.get_running_loop()
        changed = asyncio.Event()

        def notice() -> None:
            loop.call_soon_threadsafe(changed.set)

        take_back = await asyncio.to_thread(self._watch.on_change, self.run_id, notice)
        try:
            while True:
                found = await asyncio.to_thread(self._patiently, self._result_so_far, None)
                if not isinstance(found, FlowStatus):
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), LOOK_S)
                changed.clear()
        finally:
            take_back()

    def progress(self) -> Progress:
        """Give how far the run is; the cost does not grow with the flow."""
        return progress_of(self._state, self.run_id)

    def events(self, timeout: float | None = None) -> Iterator[NodeChange]:
        """Give what happened to the run's nodes, from its beginning to its end, as it happens.

        Args:
            timeout: seconds to wait for the next one; then the iteration ends. None: until the run ends.
        """
        plan = self._reader().plan
        last, ended = b"0", False
        while True:
            # A run that has ended may have been opened again: what stands in the stream then is still to come.
            wait_ms = 1 if ended else 10_000 if timeout is None else max(1, int(timeout * 1000))
            found = self._state.client.xread({self._state.keys.events(self.run_id): last}, count=1000, block=wait_ms)
            if not found and (ended or timeout is not None or self.status().is_final):
                return
            for entry, fields in found[0][1] if found else ():
                last = entry
                for key, status, attempt, worker in told_by(fields):
                    ended = key == "run" and status in FINAL_RUN
                    if key != "run":
                        yield NodeChange(label(plan, Ref.parse(key)), NodeStatus(status), attempt, worker)

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
        send(self._context, messages)
        return FlowStatus(self._known(status))

    def pause(self) -> FlowStatus:
        """Have nothing more of the run begin until it is resumed. What runs goes on, and its outcome is recorded.

        Gives the run's status; ``progress().is_paused`` tells whether it is paused.
        """
        return FlowStatus(self._known(self._state.scripts.pause(run=self.run_id)))

    def resume(self) -> FlowStatus:
        """Go on with a paused run; gives its status."""
        return FlowStatus(self._changed(self._known(self._state.scripts.resume(run=self.run_id))))

    def retry(self, from_node: str | Sequence[str] | None = None) -> FlowStatus:
        """Open the run again, now that it has ended: nodes that failed or were cancelled run again, and all that is
        downstream of them; all other results are kept. Attempts and crashes are counted anew.

        Args:
            from_node: run this node (or nodes, named as in ``node``) and what is downstream of it again, however they
                ended. An item of a map, ``"name[3]"``, leaves the other items as they are.

        Raises:
            RunNotFound: there is no such run.
            RunStatusError: it has not ended, there is nothing to retry, or what is chosen could not start.
            KeyError: it has no such node.
        """
        names = [from_node] if isinstance(from_node, str) else from_node or []
        roots = [self._reader().ref_of(name) for name in names]
        self._changed(retry(self._state, self.run_id, roots))
        return self.status()

    def _changed(self, changed: Changed) -> str:
        """Do what a change of the run asks for."""
        go_on(self._context, self._state, self.run_id, changed.messages, changed.unfinished)
        return changed.said

    def _known(self, found: T | None) -> T:
        if found is None:
            raise RunNotFound(f"there is no run {self.run_id!r}")
        return found

    def __repr__(self) -> str:
        return f"<run {self.run_id}>"

    def _reader(self) -> RunReader:
        return RunReader(self._state, self._context.results, self.run_id)
