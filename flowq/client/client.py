"""What producers use: submit runs, and get handles on them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from flowq.client.handle import FlowHandle
from flowq.client.watch import Watch
from flowq.core.context import FlowContext
from flowq.core.errors import RunNotFound, StateError, UnknownProcessorError
from flowq.core.graph import Graph
from flowq.core.processor import EMPTY
from flowq.plan import Plan
from flowq.results import ResultsManager
from flowq.runtime.inputs import encode_input
from flowq.runtime.rows import Sources, rows_of
from flowq.runtime.state import State
from flowq.runtime.wakeups import send


class Client:
    """Submits graphs to the workers. One per context; safe for threads."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context
        self._state = State.of(context)
        self._results: ResultsManager = context.results
        self._watch = Watch(self._state)
        self._known: dict[str, Sources] = {}
        """The sources of plans that the state store had when they were last submitted."""

    def submit(self, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> FlowHandle:
        """Store a run and wake the workers; returns as soon as the run is stored.

        Raises:
            UnknownProcessorError: a processor lives in this process only.
            InputError: the input cannot be stored as JSON.
        """
        run = uuid.uuid4().hex
        data = encode_input(graph.name, given, self._results)
        sources = self._known.get(plan.hash)
        if sources is None:
            _check_portable(graph)  # before anything is stored
        run_input = self._results.pack(run, data)
        if sources is None or not self._store(run, graph, plan, sources, [run_input]):
            rows = rows_of(plan)
            self._store(run, graph, plan, rows.sources, [run_input, rows.document, *rows.rows])
            self._known[plan.hash] = rows.sources
            self._state.keep(plan.hash, plan)
        return FlowHandle(run, self._context, self._state, self._watch, graph.returns)

    async def asubmit(self, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> FlowHandle:
        """Do the same as ``submit`` without blocking the event loop."""
        return await asyncio.to_thread(self.submit, graph, plan, given)

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

    def _store(self, run: str, graph: Graph, plan: Plan, sources: Sources, values: Sequence[bytes | str]) -> bool:
        settings = self._context.settings
        stored, wakes = self._state.scripts.submit(
            run=run,
            plan=plan.hash,
            name=graph.name,
            process_id=graph.process_id,
            queue=settings.queue,
            retention_ms=int(settings.retention_s * 1000),
            total=len(plan),
            sources=sources,
            values=values,
        )
        send(self._context, wakes)
        return stored


def _check_portable(graph: Graph) -> None:
    for step in graph.steps.values():
        if not step.processor.is_portable:
            raise UnknownProcessorError(
                f"node {step.path!r}: no worker can rebuild its processor {step.processor.key!r}; define it at the top"
                " of a module, and keep nothing in it that is not plain data"
            )
