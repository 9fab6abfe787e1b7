"""What both forms of a flow can do: be checked, compiled, run here, and be sent to workers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from flowq.core.config import Dispatch
from flowq.core.context import FlowContext
from flowq.core.errors import InputError
from flowq.core.graph import Graph
from flowq.core.handle import Handle
from flowq.core.result import FlowResult


class Runnable(ABC):
    """A flow that can be run. Its graph is built and checked once, and again only after it was changed."""

    name: str
    process_id: str

    def __init__(self, context: FlowContext | None) -> None:
        self._context = context
        self._compiled: tuple[Graph, Any] | None = None

    @property
    def context(self) -> FlowContext:
        """The context it was given, else the process's default one."""
        return self._context or FlowContext.get_instance()

    @abstractmethod
    def _build(self) -> Graph:
        """Write the graph down and check it."""

    def graph(self) -> Graph:
        """Give the checked graph; raises GraphError with all its problems."""
        return self._ready()[0]

    def plan(self) -> Any:
        """Give the compiled plan (``flowq.plan.Plan``); raises GraphError with all the graph's problems."""
        return self._ready()[1]

    def validate(self) -> None:
        """Raise GraphError if the graph cannot run; ``.problems`` lists all that is wrong."""
        self._ready()

    def _ready(self) -> tuple[Graph, Any]:
        if self._compiled is None:
            graph = self._build()
            self._compiled = graph, self.context.compile(graph)
        return self._compiled

    async def _execute(self, given: Mapping[str, Any], context: FlowContext | None) -> FlowResult:
        graph, plan = self._ready()
        graph.check_input(given)
        return await (context or self.context).engine.execute(graph, plan, given)

    def _run(self, given: Mapping[str, Any], context: FlowContext | None) -> FlowResult:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return asyncio.run(self._execute(given, context))
        raise RuntimeError("run() would block this event loop: use `await flow.execute(...)` in async code")

    def _submit(self, given: Mapping[str, Any], context: FlowContext | None, **options: Any) -> Handle:
        graph, plan = self._ready()
        graph.check_input(given)
        return (context or self.context).client.submit(graph, plan, given, **options)

    async def _asubmit(self, given: Mapping[str, Any], context: FlowContext | None, **options: Any) -> Handle:
        graph, plan = self._ready()
        graph.check_input(given)
        return await (context or self.context).client.asubmit(graph, plan, given, **options)

    def _canvas(self, given: Mapping[str, Any], context: FlowContext | None) -> Any:
        graph, plan = self._ready()
        graph.check_input(given)
        return (context or self.context).client.canvas(graph, plan, given)

    def signature(
        self, *args: Any, context: FlowContext | None = None, dispatch: Dispatch | None = None, **kwargs: Any
    ) -> Any:
        """Give a Celery task signature of this whole flow, for a chain, group or chord.

        The arguments are those of ``submit``; what the task before returned comes first. The run's id is the task's, so
        ``AsyncResult(id)`` is the run's: its result is the flow's output as plain data, or it fails with RunFailed.
        The workers must know the flow: include its module.

        Raises:
            InputError: an argument is no plain data.
        """
        try:
            plain = to_jsonable_python([list(args), kwargs])
        except ValueError as error:
            raise InputError(f"flow {self.name!r}: the arguments cannot be sent as JSON: {error}") from error
        return (context or self.context).client.signature(self.name, self.process_id, plain[0], plain[1], dispatch)

    @abstractmethod
    def submit_as(self, run: str, args: list[Any], kwargs: dict[str, Any], **options: Any) -> Handle:
        """Submit under this id, called as a signature is; ``options`` as in ``Client.submit``."""
