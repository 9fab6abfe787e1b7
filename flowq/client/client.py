"""What producers use: submit runs, and get handles on them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, get_args

from flowq.client.handle import FlowHandle
from flowq.client.watch import Watch
from flowq.core.config import Dispatch
from flowq.core.context import FlowContext
from flowq.core.errors import InputError, RunNotFound, StateError, UnknownProcessorError
from flowq.core.graph import Graph
from flowq.core.processor import EMPTY
from flowq.plan import Lowering, Plan
from flowq.results import ResultsManager
from flowq.runtime.canvas.held import message_of
from flowq.runtime.canvas.signatures import canvas_of, flow_signature, lowering_of
from flowq.runtime.inputs import encode_input
from flowq.runtime.messages import send, send_start
from flowq.runtime.rows import Sources, rows_of
from flowq.runtime.state import State


class Start(NamedTuple):
    """A run that is about to be stored."""

    graph: Graph
    plan: Plan
    run: str
    canvas: str
    """The digest of its lowering; empty: it is pulled."""
    held: bool
    parked: str


class Client:
    """Submits graphs to the workers. One per context; safe for threads."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context
        self._state = State.of(context)
        self._results: ResultsManager = context.results
        self._watch = Watch(self._state)
        self._known: dict[tuple[str, str], Sources] = {}
        """The sources of plans (and their canvases) that the state store had when they were last submitted."""

    def submit(
        self,
        graph: Graph,
        plan: Plan,
        given: Mapping[str, Any],
        *,
        dispatch: Dispatch | None = None,
        run: str = "",
        parked: str = "",
    ) -> FlowHandle:
        """Store a run and have the workers start it; returns as soon as the run is stored.

        Args:
            graph: as checked.
            plan: the graph's.
            given: the run's input.
            dispatch: ``pull`` or ``canvas``; None: as the settings say.
            run: the run's id; made up if not given. A run that exists is left alone.
            parked: a message, as JSON, that is sent when the run ends.

        Raises:
            UnknownProcessorError: a processor lives in this process only.
            InputError: the input cannot be stored as JSON.
        """
        lowering = self._lowering(plan, dispatch or self._context.settings.dispatch)
        run = self._start(graph, plan, given, lowering, run or uuid.uuid4().hex, parked=parked)
        if lowering is not None:
            send_start(self._context, run, plan, lowering.starts)
        return FlowHandle(run, self._context, self._state, self._watch, graph.returns)

    async def asubmit(
        self, graph: Graph, plan: Plan, given: Mapping[str, Any], *, dispatch: Dispatch | None = None
    ) -> FlowHandle:
        """Do the same as ``submit`` without blocking the event loop."""
        return await asyncio.to_thread(self.submit, graph, plan, given, dispatch=dispatch)

    def canvas(self, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> Any:
        """Store a run that starts when somebody applies the Celery canvas that this gives."""
        lowering = lowering_of(self._context, plan)
        run = uuid.uuid4().hex
        canvas, result = canvas_of(self._context, run, plan, lowering.starts)
        self._start(graph, plan, given, lowering, run, held=True, parked=message_of(result))
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
        return FlowHandle(run_id, self._context, self._state, self._watch, EMPTY)

    def forget(self, run_id: str) -> None:
        """Delete all that is kept of an ended run; StateError if it has not ended."""
        status = self._state.scripts.forget(run=run_id)
        if status is None:
            raise RunNotFound(f"there is no run {run_id!r}")
        if status in ("pending", "running"):
            raise StateError(f"run {run_id} is {status}: cancel it, or wait for its end, before it is forgotten")
        self._results.store.delete(run_id)

    def close(self) -> None:
        """Stop waiting for runs; handles made by this client cannot wait any more."""
        self._watch.close()

    def _lowering(self, plan: Plan, dispatch: Dispatch) -> Lowering | None:
        if dispatch not in get_args(Dispatch):
            raise InputError(f"dispatch={dispatch!r} is none of {', '.join(get_args(Dispatch))}")
        return lowering_of(self._context, plan) if dispatch == "canvas" else None

    def _start(
        self,
        graph: Graph,
        plan: Plan,
        given: Mapping[str, Any],
        lowering: Lowering | None,
        run: str,
        *,
        held: bool = False,
        parked: str = "",
    ) -> str:
        data = encode_input(graph.name, given, self._results)
        name = plan.hash, lowering.digest if lowering else ""
        sources = self._known.get(name)
        if sources is None:
            _check_portable(graph)  # before anything is stored
        run_input = self._results.pack(run, data)
        start = Start(graph, plan, run, lowering.digest if lowering else "", held, parked)
        if sources is None or not self._store(start, sources, [run_input]):
            rows = rows_of(plan)
            fields = [text for field in lowering.fields.items() for text in field] if lowering else []
            self._store(start, rows.sources, [run_input, rows.document, *rows.rows, *fields])
            self._known[name] = rows.sources
            self._state.keep(plan.hash, plan)
        return run

    def _store(self, start: Start, sources: Sources, values: Sequence[bytes | str]) -> bool:
        settings = self._context.settings
        stored, messages = self._state.scripts.submit(
            run=start.run,
            plan=start.plan.hash,
            name=start.graph.name,
            process_id=start.graph.process_id,
            queue=settings.queue,
            retention_ms=int(settings.retention_s * 1000),
            total=len(start.plan),
            sources=sources,
            canvas=start.canvas,
            held=start.held,
            parked=start.parked,
            values=values,
        )
        send(self._context, messages)
        return stored


def _check_portable(graph: Graph) -> None:
    for step in graph.steps.values():
        if not step.processor.is_portable:
            raise UnknownProcessorError(
                f"node {step.path!r}: no worker can rebuild its processor {step.processor.key!r}; define it at the top"
                " of a module, and keep nothing in it that is not plain data"
            )
