"""What producers use: submit runs, and get handles on them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, get_args

from flowq.client.handle import FlowHandle
from flowq.client.letters import DeadLetter, dead_letters
from flowq.client.many import Many, entries_of
from flowq.client.submitting import Start, Submitting, check_deadline, check_key, digest_of
from flowq.client.watch import Watch
from flowq.core.config import Dispatch
from flowq.core.context import FlowContext
from flowq.core.errors import InputError, RunNotFound, RunStatusError
from flowq.core.graph import Graph
from flowq.core.handle import Handle
from flowq.core.processor import EMPTY
from flowq.plan import Lowering, Plan
from flowq.results import ResultsManager
from flowq.runtime.canvas.held import message_of
from flowq.runtime.canvas.signatures import canvas_of, flow_signature, lowering_of
from flowq.runtime.inputs import encode_input
from flowq.runtime.messages import send_start
from flowq.runtime.replies import Submitted
from flowq.runtime.state import State


class Client:
    """Submits graphs to the workers. One per context; safe for threads."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context
        self._state = State.of(context)
        self._results: ResultsManager = context.results
        self._watch = Watch(self._state)
        self._submitting = Submitting(context, self._state)

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
        check_deadline(deadline_s)
        if idempotency_key is not None:
            check_key(idempotency_key, "idempotency_key")
        lowering = self._lowering(plan, dispatch or self._context.settings.dispatch)
        data = encode_input(graph.name, given, self._results)
        is_named, asked = bool(run or idempotency_key), ""
        if idempotency_key is not None:
            run, asked = digest_of(graph.name, idempotency_key), digest_of(data)
        run = run or uuid.uuid4().hex
        start = Start(graph, plan, run, _digest(lowering), False, parked, asked, deadline_s or 0, is_named)
        return self._start(start, data, lowering)

    def _start(self, start: Start, data: bytes, lowering: Lowering | None) -> FlowHandle:
        submitted = self._submitting.start(start, data, lowering)
        if lowering is not None:
            send_start(self._context, start.run, start.plan, lowering.starts)
        return self._handle(start, submitted)

    def _handle(self, start: Start, submitted: Submitted) -> FlowHandle:
        returns, epoch = start.graph.returns, submitted.epoch
        return FlowHandle(start.run, self._context, self._state, self._watch, returns, epoch, start.plan)

    def submit_many(
        self,
        graph: Graph,
        plan: Plan,
        inputs: Iterable[Mapping[str, Any]],
        *,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_keys: Iterable[str] | None = None,
    ) -> list[Handle]:
        """Store one run for each input and have the workers start them, many in one round trip.

        Raises:
            UnknownProcessorError, InputError, IdempotencyError, OverloadedError, StoreUnavailableError: as ``submit``
                does; what is wrong with an input or a key is said before anything is stored. Later on, the error's
                ``started`` has the handles of the runs that were started.
        """
        lowering = self._lowering(plan, dispatch or self._context.settings.dispatch)
        pattern = Start(graph, plan, "", _digest(lowering), deadline_s=check_deadline(deadline_s) or 0)
        entries = entries_of(pattern, inputs, idempotency_keys, self._results)
        many = Many(self._submitting, self._context.settings, self._handle, partial(self._start, lowering=lowering))
        return many.start(entries)

    async def asubmit(self, graph: Graph, plan: Plan, given: Mapping[str, Any], **options: Any) -> FlowHandle:
        """Do the same as ``submit`` without blocking the event loop."""
        return await asyncio.to_thread(self.submit, graph, plan, given, **options)

    def canvas(self, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> Any:
        """Store a run that starts when somebody applies the Celery canvas that this gives."""
        lowering = lowering_of(self._context, plan)
        run = uuid.uuid4().hex
        canvas, result = canvas_of(self._context, run, plan, lowering.starts)
        data = encode_input(graph.name, given, self._results)
        start = Start(graph, plan, run, _digest(lowering), held=True, parked=message_of(result))
        self._submitting.start(start, data, lowering)
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
        epoch = self._state.epoch()  # first: should the store be emptied now, the run is not there, or known to be lost
        self._state.head(run_id)
        epoch = epoch or self._state.epoch()  # it may have been the store's first run
        return FlowHandle(run_id, self._context, self._state, self._watch, EMPTY, epoch)

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


def _digest(lowering: Lowering | None) -> str:
    return lowering.digest if lowering else ""
