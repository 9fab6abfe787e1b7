"""The results of many runs: read together, many in one round trip, and waited for by the one subscription."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import cast

from flowq.client.ended import look, status_of
from flowq.client.handle import LOOK_S, FlowHandle
from flowq.client.watch import LISTEN_S
from flowq.core.handle import Handle
from flowq.core.result import FlowResult
from flowq.runtime.state import Glance

TOGETHER = 100
"""Runs that are looked at in one round trip, and whose results are held at once."""


def results_of(handles: Iterable[Handle], timeout: float | None = None) -> Iterator[FlowResult]:
    """Wait for the ends of runs, and give their results in the order of the handles, whatever their statuses.

    ::

        handles = etl.submit_many({"path": path} for path in paths)
        for result in flowq.results_of(handles, timeout=60): ...
        results = await asyncio.to_thread(list, flowq.results_of(handles))  # in async code

    A hundred runs are read in one round trip. What has been given is not kept.

    Args:
        handles: of flowq; they may be of several flows and contexts.
        timeout: seconds for all of them, from the first result that is asked for; None: as long as it takes.

    Raises:
        TimeoutError, RunNotFound, RunLost: as ``FlowHandle.result`` does for a run, when it is that run's turn.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    left = iter(handles)
    while some := [cast("FlowHandle", handle) for handle in islice(left, TOGETHER)]:
        with _Together(some) as together:
            for position in range(len(some)):
                yield together.result(position, deadline)


class _Together:
    """Some runs that are looked at together; a context manager, which ends the waiting for them."""

    def __init__(self, handles: list[FlowHandle]) -> None:
        self._handles = handles
        self._ended: dict[int, Glance] = {}
        self._open = set(range(len(handles)))
        """Runs that had not ended when they were last looked at."""
        self._told: deque[int] = deque()
        """Runs that may have ended since; appended to by the watches' threads."""
        self._changed = threading.Event()
        self._waits = ExitStack()
        self._is_waiting = False

    def __enter__(self) -> _Together:
        return self

    def __exit__(self, *_: object) -> None:
        self._waits.close()

    def result(self, position: int, deadline: float | None) -> FlowResult:
        """Wait for one run."""
        handle = self._handles[position]
        if position == 0:
            self._look(sorted(self._open), deadline)
        while position in self._open:
            if not self._is_waiting:
                self._wait_for_all()
                self._look(sorted(self._open), deadline)  # they may have ended before the subscription stood
                continue
            told = self._await(position, deadline)
            self._look(sorted(told & self._open if told else self._open), deadline)
        glance = self._ended.pop(position, None)
        if glance is None:  # it is not there: its handle knows what to say
            return handle.result(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return handle._patiently(partial(handle.read, glance), deadline)

    def _await(self, position: int, deadline: float | None) -> set[int]:
        """Wait until this run may have ended; gives all that may have. Empty: it is time to look at all."""
        told: set[int] = set()
        look_at = time.monotonic() + LOOK_S
        while position not in told:
            until = look_at if deadline is None else min(look_at, deadline)
            left = until - time.monotonic()
            if left <= 0:
                if until == deadline:
                    raise TimeoutError(f"run {self._handles[position].run_id} has not ended in time")
                return set()
            self._changed.wait(left)
            self._changed.clear()
            while self._told:
                told.add(self._told.popleft())
        return told

    def _wait_for_all(self) -> None:
        self._is_waiting = True
        within_s = LISTEN_S  # for all of them: a store that is away keeps no subscription from standing for long
        for position in sorted(self._open):
            handle = self._handles[position]
            self._waits.callback(handle._watch.on_change(handle.run_id, partial(self._tell, position), within_s))
            within_s = 0.0

    def _tell(self, position: int) -> None:
        self._told.append(position)
        self._changed.set()

    def _look(self, positions: list[int], deadline: float | None) -> None:
        by_state: dict[int, list[int]] = {}
        for position in positions:
            by_state.setdefault(id(self._handles[position]._state), []).append(position)
        for some in by_state.values():
            first = self._handles[some[0]]
            asked = [self._handles[position].asked for position in some]
            glances = first._patiently(partial(look, first._state, asked), deadline)
            for position, glance in zip(some, glances, strict=True):
                if glance is None or status_of(glance).is_final:
                    self._open.discard(position)
                    if glance is not None:
                        self._ended[position] = glance
