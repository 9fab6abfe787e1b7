"""The function form: ``@flow`` functions, whose body writes the graph."""

from __future__ import annotations

import functools
import inspect
import sys
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from pydantic_core import to_jsonable_python

from flowq.core.config import Dispatch, FlowConfig
from flowq.core.context import FlowContext
from flowq.core.errors import DefinitionError, InputError
from flowq.core.graph import Dependency, Graph, Step, first_problem
from flowq.core.handle import Handle
from flowq.core.processor import EMPTY, adapter, function_signature
from flowq.core.registry import REGISTRY
from flowq.core.result import FlowResult
from flowq.core.runnable import Runnable
from flowq.core.structural import COLLECT
from flowq.core.task import WRITER, Input, Output, Writer
from flowq.core.types import DependencyType

P = ParamSpec("P")
R = TypeVar("R")

RESERVED = {
    "context": "the FlowContext",
    "dispatch": "how nodes reach the workers",
    "deadline_s": "the run's deadline",
    "idempotency_key": "what makes a repeated submit give the same run",
}
"""Parameters of submit, which a flow's own cannot be called."""


class FunctionFlow(Runnable, Generic[P, R]):
    """A flow written as a function: calling tasks in its body writes steps down, and what it returns is its output.

    Outside of another flow's body, calling it just calls the function (and so all its tasks, one after the other).
    """

    def __init__(
        self, function: Callable[P, R], config: FlowConfig, names: dict[str, Any], context: FlowContext | None
    ) -> None:
        super().__init__(context)
        self.function = function
        self.config = config
        self.name = config.name
        self.process_id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{function.__module__}:{function.__qualname__}"))
        if inspect.iscoroutinefunction(function):
            raise DefinitionError(
                f"flow {self.name!r}: write `def`, not `async def`: the body only describes the graph"
            )
        self._signature = function_signature(function, names)
        self._called = inspect.signature(function)
        for name, what in RESERVED.items():
            if self._signature.parameter(name) is not None:
                raise DefinitionError(f"flow {self.name!r}: {name!r} names {what}; rename the parameter")
        functools.update_wrapper(self, function)
        REGISTRY.add_flow(self)

    async def execute(self, *args: Any, context: FlowContext | None = None, **kwargs: Any) -> FlowResult:
        """Run here, in this process and its pools: no Redis, no Celery."""
        return await self._execute(self._given(args, kwargs), context)

    def run(self, *args: Any, context: FlowContext | None = None, **kwargs: Any) -> FlowResult:
        """Do the same as ``execute``, for code without an event loop."""
        return self._run(self._given(args, kwargs), context)

    def submit(
        self,
        *args: Any,
        context: FlowContext | None = None,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Handle:
        """Enqueue for the workers and return at once, as ``Flow.submit`` does; ``*args`` and ``**kwargs`` are what the
        flow's function takes.
        """
        options = {"dispatch": dispatch, "deadline_s": deadline_s, "idempotency_key": idempotency_key}
        return self._submit(self._given(args, kwargs), context, **options)

    async def asubmit(
        self,
        *args: Any,
        context: FlowContext | None = None,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        **kwargs: Any,
    ) -> Handle:
        """Do the same as ``submit`` without blocking the event loop."""
        options = {"dispatch": dispatch, "deadline_s": deadline_s, "idempotency_key": idempotency_key}
        return await self._asubmit(self._given(args, kwargs), context, **options)

    def _plain_input(self, one: Any) -> Mapping[str, Any]:
        if not isinstance(one, Mapping):
            raise InputError(f"flow {self.name!r}: this is a mapping of its parameters, not {type(one).__name__}")
        return self._given((), dict(one))

    def submit_as(self, run: str, args: list[Any], kwargs: dict[str, Any], **options: Any) -> Handle:
        return self._submit(self._given(tuple(args), kwargs), run=run, **options)

    def canvas(self, *args: Any, context: FlowContext | None = None, **kwargs: Any) -> Any:
        """Give this flow, with this input, as a Celery canvas, as ``Flow.canvas`` does."""
        return self._canvas(self._given(args, kwargs), context)

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> R:
        writer = WRITER.get()
        if writer is None:
            return self.function(*args, **kwargs)
        return cast(R, self._nest(writer, args, kwargs))

    def map(self, *_: Any, **__: Any) -> Any:
        raise DefinitionError(f"flow {self.name!r} cannot be mapped; map a @task, or call the flow once per known item")

    def __repr__(self) -> str:
        return f"<flow {self.name}>"

    def _given(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Bind the call to the function's parameters and give the input as plain JSON data."""
        try:
            bound = self._called.bind(*args, **kwargs)
        except TypeError as error:
            names = ", ".join(parameter.name for parameter in self._signature.parameters)
            raise InputError(f"flow {self.name!r} takes ({names}): {error}") from error
        bound.apply_defaults()
        given = {}
        for parameter in self._signature.parameters:
            kind = adapter(parameter.annotation)
            try:
                value = kind.validate_python(bound.arguments[parameter.name])
                if parameter.annotation in (EMPTY, Any):
                    given[parameter.name] = to_jsonable_python(value)  # as Any, NaN would be dumped as None
                else:
                    given[parameter.name] = kind.dump_python(value, mode="json")
            except ValueError as error:
                detail = first_problem(error)
                raise InputError(f"flow {self.name!r}: input {parameter.name!r} cannot be used: {detail}") from error
        return given

    def _build(self) -> Graph:
        writer = Writer()
        token = WRITER.set(writer)
        try:
            returned = self.function(**{p.name: Input(p.name) for p in self._signature.parameters})  # type: ignore[call-arg,arg-type]
        finally:
            WRITER.reset(token)
        output, returns = self._output(writer, returned)
        inputs = {parameter.name: parameter for parameter in self._signature.parameters}
        graph = Graph(self.name, self.process_id, writer.steps, output, inputs, returns)
        return graph.validate(writer.problems)

    def _output(self, writer: Writer, returned: Any) -> tuple[str | None, Any]:
        returns = self._signature.returns
        if returned is None:
            return None, EMPTY
        if not isinstance(returned, Output):
            return self._collect(writer, writer.path(self.name, explicit=False), None, returned).step, returns
        step = writer.steps[returned.step]
        if returns is EMPTY and not step.processor.signature.takes_input:
            returns = step.processor.signature.returns
            returns = list[returns] if step.over is not None and returns is not EMPTY else returns  # type: ignore[valid-type]
        return returned.step, returns

    def _collect(self, writer: Writer, path: str, parent: str | None, value: Any) -> Output:
        config = FlowConfig(name=path.rpartition("/")[2])
        return writer.add(Step(path, parent, config, COLLECT), {"value": value}, ())

    def _nest(self, writer: Writer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Output:
        """Write the body down as the children of a step that joins them and returns what the body returns."""
        after = kwargs.pop("after", ())
        path = writer.path(self.name, explicit=False)
        parent = writer.parents[-1] if writer.parents else None
        config = FlowConfig(name=path.rpartition("/")[2])
        join = Step(path, parent, config, COLLECT)
        writer.steps[path] = join  # its place is taken before its children are written
        writer.parents.append(path)
        try:
            returned = self.function(*args, **kwargs)
        finally:
            writer.parents.pop()
        output = writer.add(join, {"value": returned}, after)
        children = {p: s for p, s in writer.steps.items() if s.parent == path}
        waited_for = {upstream for child in children.values() for upstream in child.deps}
        for child in children:
            if child not in waited_for and child not in join.deps:  # the nested flow ends when all of it has ended
                join.depend(child, Dependency(DependencyType.REQUIRED, has_value=False))
        return output


@overload
def flow(function: Callable[P, R], /) -> FunctionFlow[P, R]: ...
@overload
def flow(
    function: None = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    context: FlowContext | None = None,
) -> Callable[[Callable[P, R]], FunctionFlow[P, R]]: ...
def flow(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    context: FlowContext | None = None,
) -> Any:
    """Make a function a flow. Its body may only call tasks and flows, and pass on what these return."""
    names = dict(sys._getframe(1).f_locals)

    def decorate(decorated: Callable[P, R]) -> FunctionFlow[P, R]:
        config = FlowConfig(name=name or decorated.__name__, description=description)
        return FunctionFlow(decorated, config, names, context)

    return decorate if function is None else decorate(function)
