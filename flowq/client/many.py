"""Starts many runs of one flow: small ones in batches, each batch in one step.

Everything about the inputs and keys is checked first. From then on each batch is for itself: what stops the others
leaves those alone that are started, and says which these are.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowq.client.submitting import Start, Submitting, check_key, digest_of, other_input
from flowq.core.config import Settings
from flowq.core.errors import FlowqError, IdempotencyError, InputError
from flowq.core.handle import Handle
from flowq.results import ResultsManager
from flowq.runtime.inputs import encode_input
from flowq.runtime.replies import Submitted

BATCH = 50
"""Runs that one call starts: about a millisecond of Redis. More are hardly faster."""

SOURCES = 1000
"""Nodes that the runs of one call begin with: another millisecond. More than 2,500 would be left to further calls."""

PAUSE_S = 0.02
"""Between two attempts while there is no room, at first; nobody tells when there is."""

LONGEST_PAUSE_S = 0.5

Entry = tuple[Start, bytes]
"""A run that is to be started, and its encoded input."""


def entries_of(
    pattern: Start,
    inputs: Iterable[Mapping[str, Any]],
    keys: Iterable[str] | None,
    results: ResultsManager,
) -> list[Entry]:
    """Check and encode the inputs of all runs; ``pattern`` is what they have in common.

    Raises:
        InputError: an input cannot be stored, a key is none, or there is not one for each input.
        IdempotencyError: two inputs that differ have the same key.
    """
    name = pattern.graph.name
    entries: list[Entry] = []
    for position, given in enumerate(inputs):
        try:
            data = encode_input(name, given, results)
        except InputError as error:
            raise InputError(f"inputs[{position}]: {error}") from error
        entries.append((pattern._replace(run=uuid.uuid4().hex), data))
    if keys is None:
        return entries
    known = list(keys)
    if len(known) != len(entries):
        raise InputError(f"flow {name!r}: there are {len(entries)} inputs and {len(known)} idempotency_keys")
    places: dict[str, int] = {}
    for position, key in enumerate(known):
        check_key(key, f"idempotency_keys[{position}]")
        data = entries[position][1]
        before = places.setdefault(key, position)
        if entries[before][1] != data:
            raise IdempotencyError(
                f"flow {name!r}: idempotency_keys[{before}] and [{position}] are the same, {key!r}, and their inputs"
                " are not; take another key"
            )
        start = pattern._replace(run=digest_of(name, key), asked=digest_of(data), is_named=True)
        entries[position] = start, data
    return entries


class Many:
    """Starts runs, and remembers which are started."""

    def __init__(
        self,
        submitting: Submitting,
        settings: Settings,
        handle: Callable[[Start, Submitted], Handle],
        start_one: Callable[[Start, bytes], Handle],
    ) -> None:
        self._submitting, self._wait_s = submitting, settings.submit_wait_s
        self._handle, self._start_one = handle, start_one
        self._handles: dict[int, Handle] = {}

    def start(self, entries: list[Entry]) -> list[Handle]:
        """Start all runs; gives their handles in order.

        Raises:
            IdempotencyError, OverloadedError, StateError: as for a single run; ``started`` has the handles so far.
        """
        try:
            pending = list(range(len(entries)))[::-1]  # the next one is the last
            size = most = _most(entries)
            pause_s, deadline = PAUSE_S, time.monotonic() + self._wait_s
            while pending:
                batch = self._next(entries, pending, size)
                full = self._start_batch(entries, batch)
                for position in set(batch).difference(full):
                    entries[position] = entries[position][0], b""  # its input is stored
                pending += full[::-1]
                if len(full) < len(batch):
                    size, pause_s, deadline = min(most, 2 * size), PAUSE_S, time.monotonic() + self._wait_s
                elif time.monotonic() > deadline:
                    raise self._submitting.overloaded(entries[0][0].graph.name)
                if full:
                    size = max(1, len(batch) - len(full))  # the others would be sent in vain
                    time.sleep(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        except FlowqError as error:
            raise self._with_started(error, len(entries)) from error
        return [self._handles[position] for position in range(len(entries))]

    def _next(self, entries: list[Entry], pending: list[int], size: int) -> list[int]:
        """Take the next runs that can be started together: small ones, or a single one."""
        batch = [pending.pop()]
        if self._is_small(entries, batch[0]):
            while pending and len(batch) < size and self._is_small(entries, pending[-1]):
                batch.append(pending.pop())
        return batch

    def _is_small(self, entries: list[Entry], position: int) -> bool:
        start, data = entries[position]
        return not start.canvas and self._submitting.is_small(data)

    def _start_batch(self, entries: list[Entry], batch: list[int]) -> list[int]:
        """Start these; gives those for which there was no room."""
        if not self._is_small(entries, batch[0]):
            self._handles[batch[0]] = self._start_one(*entries[batch[0]])
            return []
        submitted = self._submitting.start_small([entries[position] for position in batch])
        told = list(zip(batch, submitted.said, strict=True))
        for position, said in told:
            if said == "ok":
                self._handles[position] = self._handle(entries[position][0], submitted)
        for position, said in told:
            if said == "other":
                raise other_input(entries[position][0], f"idempotency_keys[{position}]")
        return [position for position, said in told if said == "full"]

    def _with_started(self, error: FlowqError, total: int) -> FlowqError:
        started = tuple(self._handles[position] for position in sorted(self._handles))
        told = type(error)(f"{error} ({len(started)} of {total} runs are started: see this error's .started)")
        told.started = started
        return told


def _most(entries: list[Entry]) -> int:
    """Give how many of these runs one call may start."""
    nodes = entries[0][0].plan.nodes if entries else ()
    return max(1, min(BATCH, SOURCES // max(1, sum(not node.edges for node in nodes))))
