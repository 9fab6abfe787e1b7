"""The function form: ``@task`` functions, and what calling them in the body of a ``@flow`` writes down."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar, cast, overload

from pydantic_core import to_jsonable_python

from flowq.core.args import ITEM, WHOLE_INPUT, Arg
from flowq.core.config import FlowConfig
from flowq.core.errors import (
    DefinitionError,
    DuplicateNameError,
    GraphError,
    MissingParameterError,
    TypeMismatchError,
)
from flowq.core.graph import Dependency, Step
from flowq.core.processor import Processor, describe, function_signature, key_of
from flowq.core.registry import REGISTRY
from flowq.core.types import DependencyType

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class _Symbol:
    """Something that has no value while a flow is being written."""

    def _no_value(self, *_: Any) -> Any:
        raise DefinitionError(
            f"{self!r} has no value while the flow is being written: pass it on to a task, and compute there"
        )

    __bool__ = __iter__ = __len__ = __getitem__ = __add__ = __radd__ = __lt__ = __gt__ = __le__ = __ge__ = _no_value
    __sub__ = __mul__ = __truediv__ = __contains__ = __int__ = __float__ = __index__ = _no_value


@dataclass(frozen=True, slots=True, repr=False)
class Output(_Symbol):
    """What a step will return."""

    step: str
    dependency: DependencyType | None = None
    """Said explicitly by ``optional`` or ``required``; None: the parameter decides."""

    def __repr__(self) -> str:
        return f"the output of {self.step!r}"


@dataclass(frozen=True, slots=True, repr=False)
class Input(_Symbol):
    """A parameter of the flow."""

    field: str

    def __repr__(self) -> str:
        return f"the flow's parameter {self.field!r}"


class Writer:
    """Collects the steps of one graph while the body of its flow runs."""

    def __init__(self) -> None:
        self.steps: dict[str, Step] = {}
        self.problems: list[GraphError] = []
        self.parents: list[str] = []
        """The nested flows whose bodies are running now, outermost first."""
        self._numbers: dict[str, int] = {}
        """By path: the number that its next namesake may get."""

    def path(self, name: str, *, explicit: bool) -> str:
        """Give a new step's path; a name used twice is numbered, unless somebody chose it."""
        prefix = f"{self.parents[-1]}/" if self.parents else ""
        path = prefix + name
        number = self._numbers.get(path, 2)
        if path in self.steps and explicit:
            self.problems.append(
                DuplicateNameError(
                    f"{path!r}: two steps have this name", node=path, field="name", remedy="give one another name"
                )
            )
        while path in self.steps:
            path, number = f"{prefix}{name}_{number}", number + 1
        self._numbers[prefix + name] = number
        return path

    def add(self, step: Step, values: Mapping[str, Any], after: Iterable[Any]) -> Output:
        """Write a step down: its arguments, and an edge for everything that these read or that it comes after."""
        self.steps[step.path] = step
        for name, value in values.items():
            parameter = step.processor.signature.parameter(name)
            default = DependencyType.REQUIRED if parameter is None else parameter.dependency_type
            step.args[name] = self.arg(step, name, value, default)
        for value in after if isinstance(after, (list, tuple)) else [after]:
            if not isinstance(value, Output):
                self.problems.append(
                    TypeMismatchError(
                        f"{step.path!r}: after={value!r} is no step",
                        node=step.path,
                        field="after",
                        remedy="pass what calling a task or flow returned",
                    )
                )
            else:
                step.depend(value.step, Dependency(value.dependency or DependencyType.REQUIRED, has_value=False))
        return Output(step.path)

    def arg(self, step: Step, name: str, value: Any, default: DependencyType) -> Arg:
        """Turn what was passed into an expression, noting the edges it needs."""
        if isinstance(value, Output):
            step.depend(value.step, Dependency(value.dependency or default))
            return ("step", value.step)
        if isinstance(value, Input):
            return ("input", value.field)
        if isinstance(value, (list, tuple)) and _holds_symbols(value):
            return ("list", tuple(self.arg(step, name, part, default) for part in value))
        if isinstance(value, dict) and _holds_symbols(value.values()):
            return ("dict", tuple((str(key), self.arg(step, name, part, default)) for key, part in value.items()))
        try:
            return ("const", to_jsonable_python(value))
        except ValueError as error:
            self.problems.append(
                TypeMismatchError(
                    f"{step.path!r}: the constant for {name!r} cannot be stored as JSON ({error})",
                    node=step.path,
                    field=name,
                    remedy="pass plain data, or load it in a task",
                )
            )
            return WHOLE_INPUT  # something that fits anywhere: one problem is enough


def _holds_symbols(values: Iterable[Any]) -> bool:
    return any(
        isinstance(value, _Symbol)
        or (isinstance(value, (list, tuple)) and _holds_symbols(value))
        or (isinstance(value, dict) and _holds_symbols(value.values()))
        for value in values
    )


WRITER: ContextVar[Writer | None] = ContextVar("flowq_writer", default=None)
"""The graph that is being written in this context, if a flow's body is running."""


class Task(Generic[P, R]):
    """A processor written as a function. Outside of a flow's body, calling it just calls the function."""

    def __init__(self, function: Callable[P, R], processor: Processor, config: FlowConfig, *, named: bool) -> None:
        self.function = function
        self.processor = REGISTRY.add(processor)
        self.config = config
        self._named = named
        functools.update_wrapper(self, function)

    def describe(self) -> Processor:
        """Give the processor that plans name."""
        return self.processor

    def options(self, **changes: Any) -> Task[P, R]:
        """Give the same task with other options (``name``, ``retries``, ``timeout``, …)."""
        config = FlowConfig.model_validate(_set_fields(self.config) | changes)
        return Task(self.function, self.processor, config, named=self._named or "name" in changes)

    @overload
    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def __call__(self, *args: Any, **kwargs: Any) -> R: ...
    def __call__(self, *args: Any, **kwargs: Any) -> R:
        writer = WRITER.get()
        after = kwargs.pop("after", ())
        if writer is None:
            return self.function(*args, **kwargs)
        step = Step(writer.path(self.config.name, explicit=self._named), _parent(writer), self.config, self.processor)
        values, extra = self._bind(writer, step, args, kwargs)
        output = writer.add(step, values, after)
        for value in extra:
            writer.arg(step, "dependencies", value, DependencyType.REQUIRED)
        return cast(R, output)

    def map(self, items: Any, *args: Any, **kwargs: Any) -> list[R]:
        """Run the task once for each item, given to its first parameter; the other arguments go to all of them.

        The items are a list that is known now, a parameter of the flow, or an upstream's output. Gives the list of
        the outputs, in the items' order.
        """
        writer = WRITER.get()
        after = kwargs.pop("after", ())
        if writer is None:
            return [self.function(*(item, *args), **kwargs) for item in items]
        parameters = self.processor.signature.parameters
        if self.processor.signature.takes_input or not parameters:
            raise DefinitionError(f"task {self.config.name!r} cannot be mapped: it has no parameter that takes an item")
        item = parameters[0].name
        step = Step(writer.path(self.config.name, explicit=self._named), _parent(writer), self.config, self.processor)
        values, _ = self._bind(writer, step, (None, *args), kwargs)
        values.pop(item)
        step.over = writer.arg(step, item, _listed(items), DependencyType.REQUIRED)
        step.item_parameter = item
        output = writer.add(step, values, after)
        step.args[item] = ITEM
        return cast("list[R]", output)

    def _bind(
        self, writer: Writer, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        signature = self.processor.signature
        if signature.takes_input:
            return self._bind_class(writer, step, args, kwargs)
        names = [parameter.name for parameter in signature.parameters]
        values = dict(zip(names, args, strict=False)) | kwargs
        unknown = [name for name in kwargs if name not in names]
        twice = [name for name in names[: len(args)] if name in kwargs]
        if len(args) > len(names) or unknown or twice:
            what = (
                f"unknown parameter {unknown[0]!r}" if unknown else f"{twice[0]!r} given twice" if twice else "too many"
            )
            raise DefinitionError(f"task {self.config.name!r} takes ({', '.join(names)}): {what}")
        for parameter in signature.parameters:
            if parameter.is_needed and parameter.name not in values:
                writer.problems.append(
                    MissingParameterError(
                        f"{step.path!r}: required parameter {parameter.name!r} gets no value",
                        node=step.path,
                        field=parameter.name,
                        remedy="pass it in the call, or give the parameter a default",
                    )
                )
        return values, []

    def _bind_class(
        self, writer: Writer, step: Step, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[dict[str, Any], list[Any]]:
        """A class takes upstreams as its dependencies and the flow's parameters as its input."""
        upstreams = [value for value in args if isinstance(value, Output)]
        given = {value.field: value for value in args if isinstance(value, Input)} | kwargs
        upstreams += [value for value in given.values() if isinstance(value, Output)]
        fields = {name: value for name, value in given.items() if not isinstance(value, Output)}
        if all(isinstance(value, Input) and value.field == name for name, value in fields.items()):
            return {}, upstreams  # nothing but the run's own input: the class gets it whole
        return {self.processor.signature.parameters[0].name: fields}, upstreams

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise DefinitionError(f"task {self.config.name!r} is a method; tasks are functions of a module")

    def __repr__(self) -> str:
        return f"<task {self.config.name}>"


def _parent(writer: Writer) -> str | None:
    return writer.parents[-1] if writer.parents else None


def _listed(items: Any) -> Any:
    if isinstance(items, (_Symbol, list, tuple)):
        return items
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise DefinitionError(f"map() takes a list of items, not {type(items).__name__}")
    return list(items)


def _set_fields(config: FlowConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.model_fields_set}


@overload
def task(function: Callable[P, R], /) -> Task[P, R]: ...
@overload
def task(function: None = None, /, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]: ...
@overload
def task(function: Any, /, **options: Any) -> Task[..., Any]: ...
def task(function: Any = None, /, **options: Any) -> Any:
    """Make a function (or an object with ``.process``) a task.

    Args:
        function: the function; its parameters without default are required, ``T | None = None`` ones optional.
        options: any field of FlowConfig; ``name`` is the function's by default. And ``version`` (a text, such as
            ``"2"``): runs go to workers that have just that version of the function. (An object's class says it by
            its attribute ``processor_version``.)

    Raises:
        DefinitionError: the signature or an option cannot be used.
    """
    if function is None:
        frame = inspect.currentframe()
        names = dict(frame.f_back.f_locals) if frame and frame.f_back else {}
        return lambda decorated: _task(decorated, names, options)
    return _task(function, dict(sys._getframe(1).f_locals), options)


def _task(function: Any, names: Mapping[str, Any], options: dict[str, Any]) -> Task[..., Any]:
    options, version = dict(options), options.get("version")
    options.pop("version", None)
    if version is not None and not inspect.isfunction(function):
        raise DefinitionError("@task(version=...) is for functions; a class has its attribute processor_version")
    if isinstance(function, Task):
        return function.options(**options)
    if hasattr(function, "process"):
        processor, name = describe(function), type(function).__name__
    elif inspect.isfunction(function):
        key = key_of(function, version)
        portable = "<locals>" not in key and "<lambda>" not in key
        config = "" if portable else f"#{id(function)}"
        processor = Processor(key, config, function, function_signature(function, names), portable)
        name = function.__name__
    else:
        raise DefinitionError(f"@task takes a function or an object with process(), not {function!r}")
    try:
        config_ = FlowConfig.model_validate({"name": name} | options)
    except ValueError as error:
        raise DefinitionError(f"task {name!r}: {error}") from error
    return Task(getattr(function, "process", function), processor, config_, named="name" in options)


def optional(value: T) -> T:
    """Say that a step can do without this upstream: it gets None if the upstream does not complete."""
    return cast(T, Output(value.step, DependencyType.OPTIONAL)) if isinstance(value, Output) else value


def required(value: T) -> T:
    """Say that a step needs this upstream, even where its parameter could do without."""
    return cast(T, Output(value.step, DependencyType.REQUIRED)) if isinstance(value, Output) else value
