"""Stores a run: its plan first, if the store has it not; then its input, if it is large; then, in one step, the run.

Whatever is stored before that step is taken back if it says no, whoever else is about to start a run of the same id:

::

    look, if there may be such a run ──▶ there is: that one, or IdempotencyError; nothing is stored
        │
    put the input, under a name of its own ──▶ start ──▶ ok, with it
                                                 └─────▶ ok, but with another's; another run; no room: take it back
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from flowq.client.consequences import go_on
from flowq.core.context import FlowContext
from flowq.core.errors import (
    FlowqError,
    IdempotencyError,
    InputError,
    OverloadedError,
    RunNotFound,
    StoreUnavailableError,
    UnknownProcessorError,
)
from flowq.core.graph import Graph
from flowq.plan import Lowering, Plan
from flowq.results import ResultsManager
from flowq.results.codec import REFERENCE
from flowq.runtime.messages import send
from flowq.runtime.promise import check_store
from flowq.runtime.replies import Submitted
from flowq.runtime.rows import queues_of, rows_of
from flowq.runtime.state import State

logger = logging.getLogger("flowq.client")

FIELDS = 1000
"""Fields of a plan that one call stores: about a millisecond of Redis."""

NO_PLAN = ""
"""No plan is called that: submit tells of a run that is there, and cannot start one."""


class Start(NamedTuple):
    """A run that is about to be stored."""

    graph: Graph
    plan: Plan
    run: str
    canvas: str
    """The digest of its lowering; empty: it is pulled."""
    held: bool = False
    parked: str = ""
    asked: str = ""
    """What is asked for, in short, if the submit is idempotent."""
    deadline_s: float = 0
    """0: none."""
    is_named: bool = False
    """By whoever submits: there may be a run of this id."""


class Submitting:
    """Stores runs. One per client; safe for threads."""

    def __init__(self, context: FlowContext, state: State) -> None:
        self._context, self._state = context, state
        self._settings = context.settings
        self._results: ResultsManager = context.results
        self._known: dict[tuple[str, str], list[str]] = {}
        """Plans (and their canvases) that the state store had when they were last submitted: the queues of the nodes
        that their runs begin with."""
        self._is_safe = False

    def start(self, start: Start, data: bytes, lowering: Lowering | None) -> Submitted:
        """Store a run, and before it whatever of its plan is not known. Nothing of it is there until all of it is.

        Raises:
            UnknownProcessorError, IdempotencyError, OverloadedError, StoreUnavailableError: see ``Client.submit``.
        """
        self._check(start)
        submitted = self._look(start, data) or self._begin(start, data, lowering)
        if "other" in submitted.said:
            raise other_input(start)
        return submitted

    def is_small(self, data: bytes) -> bool:
        """Tell whether an input is kept in the run itself."""
        return len(data) <= self._settings.inline_bytes

    def start_small(self, entries: Sequence[tuple[Start, bytes]]) -> Submitted:
        """Store runs of one pulled plan with small inputs, in one step: all of them, but for those of which this says
        ``full`` (they are to be tried again) or ``other``. If it raises an error, none of them.

        Raises:
            StoreUnavailableError: whether they are stored is not known.
        """
        self._check(entries[0][0])
        packed = [self._results.pack(start.run, data) for start, data in entries]
        return self._store([start for start, _ in entries], packed, None)

    def overloaded(self, flow: str) -> OverloadedError:
        """Say that there has been no room for ``submit_wait_s``."""
        return OverloadedError(
            f"flow {flow!r}: {self._settings.max_open_runs} runs are open, and none has ended for"
            f" {self._settings.submit_wait_s:g} s; add workers, submit later, or set FLOWQ_MAX_OPEN_RUNS higher"
        )

    def _check(self, start: Start) -> None:
        """Check what is checked before anything is stored."""
        if not self._is_safe:
            check_store(self._state.client, self._settings)
            self._is_safe = True
        if (start.plan.hash, start.canvas) not in self._known:
            _check_portable(start.graph)

    def _look(self, start: Start, data: bytes) -> Submitted | None:
        """See whether there is such a run, before a large input is stored for nothing."""
        if not start.is_named or len(data) <= self._settings.inline_bytes:
            return None
        submitted = self._call([start], NO_PLAN, queues_of(start.plan), [b""])
        return None if "plan_unknown" in submitted.said else submitted

    def _begin(self, start: Start, data: bytes, lowering: Lowering | None) -> Submitted:
        run_input = self._results.pack(start.run, data, apart=True)
        try:
            submitted = self._await_room(start, run_input, lowering)
        except StoreUnavailableError:
            raise  # the run may be there, or come yet
        except FlowqError:
            self._take_back(start.run, run_input)
            raise
        if start.is_named:
            self._take_back(start.run, run_input)
        return submitted

    def _take_back(self, run: str, run_input: bytes) -> None:
        """Remove an input from the results store, unless the run that is there has it."""
        if run_input[:1] != REFERENCE:
            return
        try:
            try:
                is_used = self._state.run_input(run) == run_input
            except RunNotFound:
                is_used = False
            if not is_used:
                self._results.remove(run, run_input)
        except Exception as error:  # what came of the submit is to be told
            logger.warning("an input of run %s that nobody needs may stay in the results store: %s", run, error)

    def _await_room(self, start: Start, run_input: bytes, lowering: Lowering | None) -> Submitted:
        """Store a run, as soon as there is room for it."""
        deadline, pause = time.monotonic() + self._settings.submit_wait_s, 0.02
        while True:
            submitted = self._store([start], [run_input], lowering)
            if "full" not in submitted.said:
                return submitted
            if time.monotonic() > deadline:
                raise self.overloaded(start.graph.name)
            time.sleep(pause)  # nobody tells when there is room
            pause = min(2 * pause, 0.5)

    def _store(self, starts: Sequence[Start], inputs: Sequence[bytes], lowering: Lowering | None) -> Submitted:
        """Store runs of one plan, and before them whatever of it is not known."""
        plan, name = starts[0].plan, (starts[0].plan.hash, starts[0].canvas)
        queues = self._known.get(name)
        while True:
            if queues is None:
                queues = self._known[name] = self._define(plan, lowering)
            submitted = self._call(starts, plan.hash, queues, inputs)
            if "plan_unknown" not in submitted.said:
                return submitted
            queues = None  # the store has forgotten it

    def _define(self, plan: Plan, lowering: Lowering | None) -> list[str]:
        """Store a plan, and a canvas of it, in pieces; gives the queues that its runs begin with."""
        rows = rows_of(plan)
        for piece in rows.pieces(FIELDS):
            self._state.scripts.define(plan=plan.hash, values=piece)
        if lowering is not None:
            texts = [text for name, text in lowering.fields.items() for text in (f"c{lowering.digest}:{name}", text)]
            texts += [f"c{lowering.digest}", "1"]
            for first in range(0, len(texts), 2 * FIELDS):
                self._state.scripts.define(plan=plan.hash, values=texts[first : first + 2 * FIELDS])
        self._state.keep(plan.hash, plan)
        return rows.queues

    def _call(self, starts: Sequence[Start], plan: str, queues: Sequence[str], inputs: Sequence[bytes]) -> Submitted:
        """Call submit for runs of one plan, which differ in nothing else; then do what it asks for."""
        first, settings = starts[0], self._settings
        submitted = self._state.scripts.submit(
            runs=[start.run for start in starts],
            asked=[start.asked for start in starts],
            plan=plan,
            name=first.graph.name,
            process_id=first.graph.process_id,
            queue=settings.queue,
            queues=[queue or settings.queue for queue in queues],
            retention_ms=int(settings.retention_s * 1000),
            total=len(first.plan),
            canvas=first.canvas,
            held=first.held,
            parked=first.parked,
            deadline_ms=max(1, int(first.deadline_s * 1000)) if first.deadline_s else 0,
            most_open=settings.max_open_runs,
            values=inputs,
        )
        send(self._context, submitted.messages)
        for run in submitted.unfinished:
            go_on(self._context, self._state, run, [], unfinished=True)
        return submitted


def other_input(start: Start, field: str = "the idempotency key") -> IdempotencyError:
    """Say that a run's key was used for something else."""
    return IdempotencyError(
        f"flow {start.graph.name!r}: {field} was used before, for another input: see run {start.run}; take another key"
    )


def check_deadline(deadline_s: float | None) -> float | None:
    """Give a deadline, or raise InputError."""
    if deadline_s is not None and not 0 < deadline_s < math.inf:
        raise InputError(f"deadline_s={deadline_s!r}: a deadline is a positive number of seconds")
    return deadline_s


def check_key(key: Any, field: str) -> None:
    """Raise InputError unless this can be an idempotency key; ``field`` is where it stands."""
    if not isinstance(key, str) or not key:
        raise InputError(f"{field}={key!r}: a key is a text of at least one character")


def digest_of(*parts: str | bytes) -> str:
    """Give 32 characters that differ if any of the parts does."""
    texts = (part if isinstance(part, bytes) else part.encode() for part in parts)
    return hashlib.sha256(b"\0".join(hashlib.sha256(text).digest() for text in texts)).hexdigest()[:32]


def _check_portable(graph: Graph) -> None:
    for step in graph.steps.values():
        if not step.processor.is_portable:
            raise UnknownProcessorError(
                f"node {step.path!r}: no worker can rebuild its processor {step.processor.key!r}; define it at the top"
                " of a module, and keep nothing in it that is not plain data"
            )
