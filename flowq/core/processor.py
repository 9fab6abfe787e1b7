"""A processor as flowq sees it: an identity that another process can resolve, and a signature that can be checked."""

from __future__ import annotations

import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel, TypeAdapter

from flowq.core.errors import DefinitionError
from flowq.core.result import DependencyData
from flowq.core.types import DependencyType

EMPTY = inspect.Parameter.empty


@runtime_checkable
class Processable(Protocol):
    """Any object with ``process(input_data)`` or ``process(input_data, dependencies)``, sync or async."""

    process: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a processor that takes a value."""

    name: str
    annotation: Any
    default: Any = EMPTY

    @property
    def is_needed(self) -> bool:
        return self.default is EMPTY

    @property
    def dependency_type(self) -> DependencyType:
        """What an edge into this parameter demands: optional only for ``T | None = None``."""
        takes_none = self.annotation is EMPTY or type(None) in typing.get_args(self.annotation)
        return DependencyType.OPTIONAL if self.default is None and takes_none else DependencyType.REQUIRED


@dataclass(frozen=True)
class Signature:
    """How a processor is called, read once per class or function."""

    takes_input: bool
    """A class: the first parameter takes the run's input as a whole. A function takes parameters by name."""
    parameters: tuple[Parameter, ...]
    """For a class, the one that takes the input."""
    dependencies: str | None
    """The parameter that takes the DependencyData, if there is one."""
    returns: Any
    """The output's annotation; EMPTY if it has none."""
    input_model: type[BaseModel] | None
    is_async: bool

    @cached_property
    def by_name(self) -> dict[str, Parameter]:
        """The parameters."""
        return {parameter.name: parameter for parameter in self.parameters}

    @cached_property
    def needed(self) -> frozenset[str]:
        """The parameters without a default."""
        return frozenset(parameter.name for parameter in self.parameters if parameter.is_needed)

    def parameter(self, name: str) -> Parameter | None:
        return self.by_name.get(name)


@dataclass(frozen=True, slots=True)
class Processor:
    """A processor and its configuration.

    ``key`` (``module:qualname``, ``module:qualname@version``) and ``config`` (its fields, plain JSON) are all that
    plans carry of it.
    """

    key: str
    config: str
    call: Callable[..., Any]
    signature: Signature
    is_portable: bool = True
    """Another process can rebuild it from key and config."""


VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""How a processor's version is written."""


def portable_module(module: str) -> str:
    """Give the name under which another process imports this module: ``__main__`` by its file's or package's name."""
    if module != "__main__":
        return module
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        name: str = spec.name
        return name.removesuffix(".__main__")
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else module


def key_of(code: Any, version: str | None = None) -> str:
    """Give the key of a class or function: ``module:qualname``, with ``@version`` if it says which one it is."""
    version = getattr(code, "processor_version", None) if version is None else version
    key = f"{portable_module(code.__module__)}:{code.__qualname__}"
    if version is None:
        return key
    if not isinstance(version, str) or not VERSION.fullmatch(version):
        raise DefinitionError(f"{key}: version {version!r} is no short text of letters, digits, dots and dashes")
    return f"{key}@{version}"


def describe(processor: Any) -> Processor:
    """Read an object with ``.process`` (not a task: tasks describe themselves).

    A pydantic model's or dataclass's fields, or a plain object's attributes, are its configuration. If its class has a
    ``processor_version`` (a text, such as ``"2"``), runs go to workers that have just that version.

    Raises:
        DefinitionError: it has no usable ``process``.
    """
    cls: Any = type(processor)
    if isinstance(processor, type) or not callable(getattr(cls, "process", None)):
        raise DefinitionError(
            f"{processor!r} is no processor: pass an object with a process(input_data) method, or a @task function"
        )
    key = key_of(cls)
    config = _config_of(processor)
    portable = config is not None and "<locals>" not in key
    return Processor(
        key, config if config is not None else f"#{id(processor)}", processor.process, _method(cls), portable
    )


def rebuild(cls: type[Any], config: str) -> Any:
    """Make the processor of this class again from its configuration."""
    if issubclass(cls, BaseModel):
        return cls.model_validate_json(config or "{}", by_alias=True, by_name=True)
    made = object.__new__(cls)
    for name, value in json.loads(config or "{}").items():
        object.__setattr__(made, name, value)
    return made


def _config_of(processor: Any) -> str | None:
    try:
        fields = processor.model_dump(mode="json") if isinstance(processor, BaseModel) else vars(processor)
        config = json.dumps(fields, sort_keys=True, separators=(",", ":")) if fields else ""
        if not isinstance(processor, BaseModel) and json.loads(config or "{}") != fields:
            return None  # a tuple would come back as a list, a number that is a key as a string
        return config
    except (TypeError, ValueError):  # no __dict__, or fields that are no JSON: it lives in this process only
        return None


@lru_cache(maxsize=4096)
def _method(cls: type[Any]) -> Signature:
    found = inspect.signature(cls.process)
    parameters = [p for p in found.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if not isinstance(inspect.getattr_static(cls, "process"), (staticmethod, classmethod)):
        del parameters[:1]  # self
    if not 1 <= len(parameters) <= 2:
        raise DefinitionError(
            f"{cls.__qualname__}.process takes {len(parameters)} parameters; write process(self, input_data) or"
            " process(self, input_data, dependencies)"
        )
    hints = _hints(cls.process, vars(cls) | {cls.__name__: cls})
    input_model = getattr(cls, "Input", None)
    output = getattr(cls, "Output", None)
    first = parameters[0].name
    annotation = hints.get(first, EMPTY)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        input_model = annotation
    return Signature(
        takes_input=True,
        parameters=(Parameter(first, annotation),),
        dependencies=parameters[1].name if len(parameters) == 2 else None,
        returns=output if _is_model(output) else hints.get("return", EMPTY),
        input_model=input_model if _is_model(input_model) else None,
        is_async=inspect.iscoroutinefunction(cls.process),
    )


def function_signature(function: Callable[..., Any], names: Mapping[str, Any] | None = None) -> Signature:
    """Read a function's signature; ``names`` are those in scope where it was written, besides its module's.

    Raises:
        DefinitionError: it has ``*args``, ``**kwargs`` or positional-only parameters.
    """
    hints = _hints(function, names)
    parameters: list[Parameter] = []
    dependencies = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise DefinitionError(
                f"task {function.__qualname__}: parameter {parameter.name!r} cannot be bound by name;"
                " use ordinary named parameters"
            )
        if parameter.name == "after":
            raise DefinitionError(f"task {function.__qualname__}: 'after' names ordering edges; rename the parameter")
        annotation = hints.get(parameter.name, EMPTY)
        if annotation is DependencyData:
            dependencies = parameter.name
        else:
            parameters.append(Parameter(parameter.name, annotation, parameter.default))
    return Signature(
        takes_input=False,
        parameters=tuple(parameters),
        dependencies=dependencies,
        returns=hints.get("return", EMPTY),
        input_model=None,
        is_async=inspect.iscoroutinefunction(function),
    )


def adapter(annotation: Any) -> TypeAdapter[Any]:
    """Give the validator and serialiser of an annotation; of anything, if there is none.

    Raises:
        DefinitionError: there is none for this annotation, such as a class that pydantic knows nothing of.
    """
    try:
        return _adapter(annotation)
    except TypeError:  # an annotation that cannot be hashed, such as Annotated[int, []]
        return _adapter.__wrapped__(annotation)


@lru_cache(maxsize=4096)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    try:
        return TypeAdapter(Any if annotation is EMPTY else annotation)
    except Exception as error:
        raise DefinitionError(f"{annotation!r} is no type that values can be checked against: {error}") from error


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def _hints(function: Callable[..., Any], names: Mapping[str, Any] | None) -> dict[str, Any]:
    """Evaluate the annotations one by one; one that cannot be read (TYPE_CHECKING, a local name) is left out."""
    hints: dict[str, Any] = {}
    for name, annotation in inspect.get_annotations(inspect.unwrap(function)).items():
        holder = type("holder", (), {"__annotations__": {name: annotation}, "__module__": function.__module__})
        try:
            resolved = typing.get_type_hints(holder, vars(sys.modules[function.__module__]), dict(names or {}), True)
        except NameError:
            continue
        hints[name] = resolved[name]
    return hints
