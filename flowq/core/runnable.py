"""What both forms of a flow can do: be checked, compiled, run here, and be sent to workers."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from flowq.core import garbage
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
            with garbage.left_alone():
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

    def submit_many(
        self,
        inputs: Iterable[Any],
        *,
        context: FlowContext | None = None,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_keys: Iterable[str] | None = None,
    ) -> list[Handle]:
        """Start one run for each input, many in one round trip, and give their handles in the order of the inputs.

        ::

            handles = etl.submit_many([{"path": "a.csv"}, {"path": "b.csv"}])
            for result in flowq.results_of(handles): ...

        All inputs are checked before the first run is started. Each run is started as a whole, and for itself: if the
        rest cannot be, the error's ``started`` has the handles of those that are. With ``idempotency_keys``, the same
        call may just be repeated then: it starts what is missing, and gives the handles of all.

        Args:
            inputs: of each run, the mapping (or model) that ``submit`` takes; of a ``@flow`` function, a mapping of its
                parameters. Any iterable: it is read to its end first, and kept as JSON until its runs have started.
            context: None: the flow's own, or the process's default one.
            dispatch: ``pull``, or ``canvas``, which takes several round trips for each run; None: as the settings say.
            deadline_s: seconds after which each of the runs fails if it has not ended.
            idempotency_keys: one for each input, as ``submit`` takes it.

        Raises:
            InputError: an input, named by its position, does not fit the flow, or there is not one key for each input.
                Nothing was started.
            IdempotencyError: a key was used for another input. If that is so within this call, nothing was started.
            OverloadedError: there has been no room for another run for ``submit_wait_s``.
            StoreUnavailableError: the state store cannot be reached. Of up to 50 runs after those that were started, it
                is not known whether they were stored.
        """
        graph, plan = self._ready()
        given = self._checked(graph, inputs)
        client = (context or self.context).client
        return client.submit_many(
            graph, plan, given, dispatch=dispatch, deadline_s=deadline_s, idempotency_keys=idempotency_keys
        )

    async def asubmit_many(
        self,
        inputs: Iterable[Any],
        *,
        context: FlowContext | None = None,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_keys: Iterable[str] | None = None,
    ) -> list[Handle]:
        """Do the same as ``submit_many`` without blocking the event loop: the inputs are read in another thread."""
        options: dict[str, Any] = {"dispatch": dispatch, "deadline_s": deadline_s, "idempotency_keys": idempotency_keys}
        return await asyncio.to_thread(self.submit_many, inputs, context=context or self.context, **options)

    def _checked(self, graph: Graph, inputs: Iterable[Any]) -> Iterator[Mapping[str, Any]]:
        """Give each input as plain data that fits the flow; InputError, with its position, if it does not."""
        for position, one in enumerate(inputs):
            try:
                given = self._plain_input(one)
                graph.check_input(given)
            except InputError as error:
                raise InputError(f"inputs[{position}]: {error}") from error
            yield given

    @abstractmethod
    def _plain_input(self, one: Any) -> Mapping[str, Any]:
        """Give one of many inputs as plain data."""

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
