"""What both forms of a flow can do: be checked, compiled, run here, and be sent to workers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from flowq.core.context import FlowContext
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

    def _submit(self, given: Mapping[str, Any], context: FlowContext | None) -> Handle:
        graph, plan = self._ready()
        graph.check_input(given)
        return (context or self.context).client.submit(graph, plan, given)

    async def _asubmit(self, given: Mapping[str, Any], context: FlowContext | None) -> Handle:
        graph, plan = self._ready()
        graph.check_input(given)
        return await (context or self.context).client.asubmit(graph, plan, given)
