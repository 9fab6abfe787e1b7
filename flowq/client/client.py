"""What producers use: submit runs, and get handles on them."""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, get_args

from flowq.client.handle import FlowHandle
from flowq.client.letters import DeadLetter, dead_letters
from flowq.client.watch import Watch
from flowq.core.config import Dispatch
from flowq.core.context import FlowContext
from flowq.core.errors import (
    IdempotencyError,
    InputError,
    OverloadedError,
    RunNotFound,
    RunStatusError,
    StoreFullError,
    UnknownProcessorError,
)
from flowq.core.graph import Graph
from flowq.core.processor import EMPTY
from flowq.plan import Lowering, Plan
from flowq.results import ResultsManager
from flowq.runtime.canvas.held import message_of
from flowq.runtime.canvas.signatures import canvas_of, flow_signature, lowering_of
from flowq.runtime.inputs import encode_input
from flowq.runtime.messages import send, send_start
from flowq.runtime.promise import check_store
from flowq.runtime.rows import rows_of
from flowq.runtime.scripts import Submitted
from flowq.runtime.state import State

FIELDS = 1000
"""Fields of a plan that one call stores: about a millisecond of Redis."""


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


class Client:
    """Submits graphs to the workers. One per context; safe for threads."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context
        self._state = State.of(context)
        self._results: ResultsManager = context.results
        self._watch = Watch(self._state)
        self._known: dict[tuple[str, str], list[str]] = {}
        """Plans (and their canvases) that the state store had when they were last submitted: the queues of the nodes
        that their runs begin with."""
        self._is_safe = False

    def submit(
        self,
        graph: Graph,
        plan: Plan,
        given: Mapping[str, Any],
        *,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        run: str = "",
        parked: str = "",
    ) -> FlowHandle:
        """Store a run and have the workers start it; returns as soon as the run is stored.

        Args:
            graph: as checked.
            plan: the graph's.
            given: the run's input.
            dispatch: ``pull`` or ``canvas``; None: as the settings say.
            deadline_s: seconds after which the run fails if it has not ended; None: it may take as long as it takes.
            idempotency_key: while a run of this flow that was submitted with the same key is kept, give that one
                instead of starting another.
            run: the run's id; made up if not given. A run that exists is left alone.
            parked: a message, as JSON, that is sent when the run ends.

        Raises:
            UnknownProcessorError: a processor lives in this process only.
            InputError: the input cannot be stored as JSON, or an argument makes no sense.
            IdempotencyError: the key was used for another input.
            OverloadedError: there has been no room for another run for ``submit_wait_s``.
            StoreUnavailableError: the state store cannot be reached; whether the run was stored is not known.
        """
        if deadline_s is not None and not 0 < deadline_s < math.inf:
            raise InputError(f"deadline_s={deadline_s!r}: a deadline is a positive number of seconds")
        if idempotency_key is not None and not idempotency_key:
            raise InputError(f"idempotency_key={idempotency_key!r}: a key is a text of at least one character")
        lowering = self._lowering(plan, dispatch or self._context.settings.dispatch)
        data = encode_input(graph.name, given, self._results)
        is_named, asked = bool(run or idempotency_key), ""
        if idempotency_key is not None:
            run, asked = digest_of(graph.name, idempotency_key), digest_of(data)
        run = run or uuid.uuid4().hex
        start = Start(graph, plan, run, _digest(lowering), False, parked, asked, deadline_s or 0, is_named)
        submitted = self._start(start, data, lowering)
        if lowering is not None:
            send_start(self._context, run, plan, lowering.starts)
        return FlowHandle(run, self._context, self._state, self._watch, graph.returns, submitted.epoch)

    async def asubmit(self, graph: Graph, plan: Plan, given: Mapping[str, Any], **options: Any) -> FlowHandle:
        """Do the same as ``submit`` without blocking the event loop."""
        return await asyncio.to_thread(self.submit, graph, plan, given, **options)

    def canvas(self, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> Any:
        """Store a run that starts when somebody applies the Celery canvas that this gives."""
        lowering = lowering_of(self._context, plan)
        run = uuid.uuid4().hex
        canvas, result = canvas_of(self._context, run, plan, lowering.starts)
        data = encode_input(graph.name, given, self._results)
        self._start(Start(graph, plan, run, _digest(lowering), held=True, parked=message_of(result)), data, lowering)
        return canvas

    def signature(
        self, flow: str, process_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], dispatch: Dispatch | None
    ) -> Any:
        """Give the Celery signature of a whole flow."""
        return flow_signature(self._context, flow, process_id, args, kwargs, dispatch)

    def handle(self, run_id: str) -> FlowHandle:
        """Give the handle of a run that somebody submitted.

        Raises:
            RunNotFound: there is no such run.
        """
        self._state.head(run_id)
        return FlowHandle(run_id, self._context, self._state, self._watch, EMPTY, self._state.epoch())

    def dead_letters(self) -> list[DeadLetter]:
        """Give the nodes that were given up and not retried since, the latest first."""
        return dead_letters(self._state)

    def drop_dead_letters(self, letters: Iterable[DeadLetter]) -> int:
        """Keep these no longer; gives how many there were."""
        return self._state.scripts.drop(letters=[f"{letter.run_id} {letter.key}" for letter in letters])

    def forget(self, run_id: str) -> None:
        """Delete all that is kept of an ended run; RunStatusError if it has not ended."""
        status = self._state.scripts.forget(run=run_id)
        if status is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        if status in ("pending", "running"):
            raise RunStatusError(f"run {run_id} is {status}: cancel it, or wait for its end, before it is forgotten")
        self._results.store.delete(run_id)

    def close(self) -> None:
        """Stop waiting for runs; handles made by this client cannot wait any more."""
        self._watch.close()

    def _lowering(self, plan: Plan, dispatch: Dispatch) -> Lowering | None:
        if dispatch not in get_args(Dispatch):
            raise InputError(f"dispatch={dispatch!r} is none of {', '.join(get_args(Dispatch))}")
        return lowering_of(self._context, plan) if dispatch == "canvas" else None

    def _start(self, start: Start, data: bytes, lowering: Lowering | None) -> Submitted:
        """Store a run, and before it whatever of its plan is not known. Nothing of it is there until all of it is."""
        if not self._is_safe:
            check_store(self._state.client, self._context.settings)
            self._is_safe = True
        name = start.plan.hash, start.canvas
        if name not in self._known:
            _check_portable(start.graph)  # before anything is stored
        try:
            submitted = self._submit(start, data, lowering)
        except (OverloadedError, StoreFullError):
            if not start.is_named:  # else the input may be that of a run which is there, or about to be
                self._results.store.delete(start.run)
            raise
        if submitted.said == "other":
            raise IdempotencyError(
                f"flow {start.graph.name!r}: the idempotency key was used before, for another input: see run"
                f" {start.run}; take another key"
            )
        left = submitted.unfinished
        while left:
            left, messages = self._state.scripts.advance(run=start.run)
            send(self._context, messages)
        return submitted

    def _submit(self, start: Start, data: bytes, lowering: Lowering | None) -> Submitted:
        name = start.plan.hash, start.canvas
        run_input = self._results.pack(start.run, data)
        submitted = self._store(start, run_input) if name in self._known else None
        while submitted is None or submitted.said == "plan_unknown":
            self._known[name] = self._define(start.plan, lowering)
            submitted = self._store(start, run_input)
        return submitted

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

    def _store(self, start: Start, run_input: bytes) -> Submitted:
        """Call submit, and again while there is no room."""
        settings = self._context.settings
        deadline, pause = time.monotonic() + settings.submit_wait_s, 0.02
        while True:
            submitted = self._state.scripts.submit(
                run=start.run,
                plan=start.plan.hash,
                name=start.graph.name,
                process_id=start.graph.process_id,
                queue=settings.queue,
                queues=[queue or settings.queue for queue in self._known[start.plan.hash, start.canvas]],
                retention_ms=int(settings.retention_s * 1000),
                total=len(start.plan),
                canvas=start.canvas,
                held=start.held,
                parked=start.parked,
                asked=start.asked,
                deadline_ms=max(1, int(start.deadline_s * 1000)) if start.deadline_s else 0,
                most_open=settings.max_open_runs,
                values=[run_input],
            )
            send(self._context, submitted.messages)
            if submitted.said != "full":
                return submitted
            if time.monotonic() > deadline:
                raise OverloadedError(
                    f"flow {start.graph.name!r}: {settings.max_open_runs} runs are open, and none has ended for"
                    f" {settings.submit_wait_s:g} s; add workers, submit later, or set FLOWQ_MAX_OPEN_RUNS higher"
                )
            time.sleep(pause)  # nobody tells when there is room
            pause = min(2 * pause, 0.5)


def digest_of(*parts: str | bytes) -> str:
    """Give 32 characters that differ if any of the parts does."""
    texts = (part if isinstance(part, bytes) else part.encode() for part in parts)
    return hashlib.sha256(b"\0".join(hashlib.sha256(text).digest() for text in texts)).hexdigest()[:32]


def _digest(lowering: Lowering | None) -> str:
    return lowering.digest if lowering else ""


def _check_portable(graph: Graph) -> None:
    for step in graph.steps.values():
        if not step.processor.is_portable:
            raise UnknownProcessorError(
                f"node {step.path!r}: no worker can rebuild its processor {step.processor.key!r}; define it at the top"
                " of a module, and keep nothing in it that is not plain data"
            )
