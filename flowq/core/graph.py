"""A graph as written: steps and what they wait for. Both ways of writing a flow end here, and here it is checked."""

from __future__ import annotations

import graphlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from flowq.core.args import Arg, sources
from flowq.core.compatible import can_feed
from flowq.core.config import FlowConfig
from flowq.core.errors import CycleError, DefinitionError, GraphError, InputError, TypeMismatchError
from flowq.core.processor import EMPTY, Parameter, Processor, adapter
from flowq.core.types import DependencyType

MAX_CYCLES = 20
"""So many are reported at once; each costs a walk through the graph."""


@dataclass(frozen=True, slots=True)
class Dependency:
    """What a step demands of one upstream."""

    type: DependencyType
    has_value: bool = True
    """False: an edge that only orders (``after=``)."""

    def merge(self, other: Dependency) -> Dependency:
        """Combine two edges between the same two steps: the stricter demand holds."""
        required = DependencyType.REQUIRED in (self.type, other.type)
        return Dependency(
            DependencyType.REQUIRED if required else DependencyType.OPTIONAL, self.has_value or other.has_value
        )


@dataclass(slots=True)
class Step:
    """One flow at its place in the graph."""

    path: str
    parent: str | None
    """The path of the parent whose children may not start before the parent's own upstreams are settled."""
    config: FlowConfig
    processor: Processor
    args: dict[str, Arg] = field(default_factory=dict)
    """Where each parameter's value comes from; for a class, empty means: the run's input, whole."""
    deps: dict[str, Dependency] = field(default_factory=dict)
    over: Arg | None = None
    """For a map: the items, one node each."""
    item_parameter: str = ""
    """For a map: the parameter that takes the item."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    def depend(self, path: str, dependency: Dependency) -> None:
        known = self.deps.get(path)
        self.deps[path] = dependency if known is None else known.merge(dependency)


@dataclass(slots=True)
class Graph:
    """A flow as a graph of steps, by path, in the order of writing."""

    name: str
    process_id: str
    steps: dict[str, Step]
    output: str | None
    """The step whose output is the flow's; None: the flow returns nothing."""
    inputs: Mapping[str, Parameter] | None = None
    """The input's fields, if the flow declares them (the function form); None: any JSON object."""
    returns: Any = EMPTY
    """The annotation under which callers get the output; EMPTY: plain data."""
    _asked: tuple[list[tuple[str, Step]], list[Step]] | None = field(
        default=None, init=False, repr=False, compare=False
    )
    """What a run's input is checked against: the fields that it must have, each with a step that asks for it; the steps
    that read it."""

    def check(self) -> list[GraphError]:
        """Give everything that is wrong with cycles and types (builders report names and parameters)."""
        return [*self._cycles(), *self._mismatches()]

    def _cycles(self) -> Iterator[GraphError]:
        waits_for: dict[tuple[str, str], set[tuple[str, str]]] = {}
        parents = {step.parent for step in self.steps.values() if step.parent is not None}
        for path, step in self.steps.items():
            # A parent opens when its own upstreams have settled; only then may its children start.
            children = {upstream for upstream in step.deps if self._is_child(upstream, path)}
            begins = waits_for["run", path] = {("run", upstream) for upstream in step.deps}
            if path in parents:
                begins.add(("open", path))
                begins = waits_for["open", path] = {("run", up) for up in step.deps if up not in children}
            if step.parent is not None:
                begins.add(("open", step.parent))
        for _ in range(MAX_CYCLES):
            try:
                # Sorted: the same graph gives the same message in every process.
                graphlib.TopologicalSorter({node: sorted(begins) for node, begins in waits_for.items()}).prepare()
            except graphlib.CycleError as error:
                ring = error.args[1]
                names = [path for _, path in ring]
                yield CycleError([name for i, name in enumerate(names) if i == 0 or names[i - 1] != name])
                for before, after in itertools.pairwise(ring):  # what is left without it may hold other rings
                    waits_for[after].discard(before)
            else:
                return

    def _is_child(self, path: str, parent: str) -> bool:
        step = self.steps.get(path)
        return step is not None and step.parent == parent

    def _mismatches(self) -> Iterator[GraphError]:
        given = self.input_fields().keys()
        for step in self.steps.values():
            yield from _unusable(step)
            for name, arg in step.args.items():
                parameter = step.processor.signature.parameter(name)
                if parameter is not None and parameter.annotation is not EMPTY:
                    yield from self._feeds(step, name, arg, parameter.annotation)
            if step.over is not None:
                yield from self._items_feed(step, step.over)
            if step.processor.signature.input_model is not None:
                yield from self._fields_feed(step, step.processor.signature.input_model.model_fields, given)

    def _feeds(
        self, step: Step, parameter: str, arg: Arg, target: Any, within: Callable[[Any], Any] = lambda source: source
    ) -> Iterator[GraphError]:
        """Check an argument; ``within`` says of its annotation what it is part of, such as a list of it."""
        if arg[0] == "const":
            if within(EMPTY) is not EMPTY:
                return
            try:
                adapter(target).validate_python(arg[1])
            except ValueError as error:
                yield _mismatch(step, parameter, target, f"the constant {arg[1]!r:.80}", first_problem(error))
        elif arg[0] in ("input", "step"):
            source, origin = self._type_of(arg)
            if not can_feed(within(source), target):
                yield _mismatch(step, parameter, target, origin, "")
            elif source is bytes and within(EMPTY) is not EMPTY:
                yield _mismatch(step, parameter, target, origin, "bytes cannot be part of a list or dict")
        elif arg[0] == "list" and not can_feed(within(list[Any]), target):
            yield _mismatch(step, parameter, target, "a list", "")
        elif arg[0] == "dict" and not can_feed(within(dict[str, Any]), target):
            yield _mismatch(step, parameter, target, "a dict", "")
        elif arg[0] == "list":
            for part in arg[1]:
                yield from self._feeds(step, parameter, part, target, lambda source: within(_list_of(source)))
        elif arg[0] == "dict":
            for _, part in arg[1]:
                yield from self._feeds(step, parameter, part, target, lambda source: within(_dict_of(source)))

    def _items_feed(self, step: Step, over: Arg) -> Iterator[GraphError]:
        parameter = step.processor.signature.parameter(step.item_parameter)
        target = EMPTY if parameter is None else parameter.annotation
        if over[0] == "const":
            for item in over[1]:
                yield from self._feeds(step, step.item_parameter, ("const", item), target)
        elif over[0] in ("input", "step"):
            source, origin = self._type_of(over)
            wanted = _list_of(target)
            if not can_feed(source, wanted):
                yield _mismatch(step, step.item_parameter, wanted, origin, "map() takes a list of items")
        elif over[0] == "list":
            yield from self._feeds(step, step.item_parameter, over, _list_of(target))
        if step.processor.signature.returns is bytes:
            yield TypeMismatchError(
                f"{step.path!r}: a map's outputs make a list, which cannot hold bytes",
                node=step.path,
                field="return",
                remedy="return text, such as base64",
            )

    def _type_of(self, arg: Arg) -> tuple[Any, str]:
        if arg[0] == "input":
            found = (self.inputs or {}).get(arg[1]) if len(arg) > 1 else None
            return (EMPTY if found is None else found.annotation), f"the flow's parameter {arg[-1]!r}"
        upstream = self.steps[arg[1]]
        returns = upstream.processor.signature.returns
        if upstream.over is not None:
            returns = _list_of(returns)
        return returns, f"upstream {upstream.path!r} (returns {_show(returns)})"

    def _fields_feed(self, step: Step, fields: Mapping[str, Any], given: AbstractSet[str]) -> Iterator[GraphError]:
        """A class's Input is filled from the run's input, then from required upstreams' fields of the same name."""
        for upstream, dependency in step.deps.items():
            source = self.steps[upstream].processor.signature.returns
            outputs = getattr(source, "model_fields", None)
            if outputs is None or not dependency.has_value or dependency.type is DependencyType.OPTIONAL:
                continue
            for name, info in fields.items():
                if name in outputs and name not in given and not can_feed(outputs[name].annotation, info.annotation):
                    origin = f"field {name!r} of upstream {upstream!r} (is {_show(outputs[name].annotation)})"
                    yield _mismatch(step, name, info.annotation, origin, "")

    def input_fields(self) -> dict[str, tuple[Step, Any]]:
        """Give the fields that the run's input must have, each with a step that asks for it and its annotation.

        Asked for by name, or required by the Input of a class that has no upstream to get it from.
        """
        wanted: dict[str, tuple[Step, Any]] = {}
        for step in self.steps.values():
            model = step.processor.signature.input_model
            if model is not None and _fills_a_model(step):
                for name, info in model.model_fields.items():
                    if info.is_required():
                        wanted.setdefault(info.alias or name, (step, info.annotation))
            for parameter, arg in step.args.items():
                if arg[0] == "input" and len(arg) > 1:
                    found = step.processor.signature.parameter(parameter)
                    if found is None or found.is_needed:
                        wanted.setdefault(arg[1], (step, EMPTY if found is None else found.annotation))
        return wanted

    def check_input(self, given: Mapping[str, Any]) -> None:
        """Raise InputError if the run's input lacks what a step needs, or holds what it cannot take."""
        problems: dict[str, str] = {}
        needed, readers = self._asks()
        for name, step in needed:
            if name not in given:
                problems[name] = f"{step.path!r} needs the input field {name!r}, which is missing: add it to the input"
        for step in readers:
            for name, detail in _misfits(step, given):
                problems.setdefault(name, f"input field {name!r} does not fit {step.path!r}: {detail}")
        if problems:
            raise InputError(f"the input of flow {self.name!r} cannot be used: " + "; ".join(problems.values()))

    def _asks(self) -> tuple[list[tuple[str, Step]], list[Step]]:
        """Give the fields that the run's input must have, and the steps that read it; worked out once."""
        if self._asked is None:
            needed = [(name, step) for name, (step, _) in self.input_fields().items()]
            self._asked = needed, [step for step in self.steps.values() if _reads_input(step)]
        return self._asked

    def validate(self, problems: list[GraphError]) -> Graph:
        """Give the graph itself, or raise all its problems: those found while building it and those found here."""
        unknown = {up for step in self.steps.values() for up in step.deps if up not in self.steps}
        found = [*problems, *([] if unknown else self.check())]
        if found:
            raise GraphError.of(found)
        self._asks()  # here, so that no run's start waits for it
        return self


def _unusable(step: Step) -> Iterator[GraphError]:
    """Give the annotations that no value can be checked against."""
    signature = step.processor.signature
    annotations = {} if signature.takes_input else {p.name: p.annotation for p in signature.parameters}
    for name, annotation in {**annotations, "return": signature.returns}.items():
        try:
            adapter(annotation)
        except DefinitionError as error:
            yield TypeMismatchError(
                f"{step.path!r}: the annotation of {name!r} cannot be used: {str(error).splitlines()[0]}",
                node=step.path,
                field=name,
                remedy="annotate it with plain types, a pydantic model, a dataclass or Any",
            )


def _fills_a_model(step: Step) -> bool:
    """Tell whether the run's input alone fills the Input of the step's class."""
    model = step.processor.signature.input_model
    return model is not None and not step.args and not any(d.has_value for d in step.deps.values())


def _reads_input(step: Step) -> bool:
    return _fills_a_model(step) or any(arg[0] == "input" for arg in step.args.values())


def _misfits(step: Step, given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give the fields of a run's input that the step would take, but cannot, each with the reason."""
    signature = step.processor.signature
    if signature.input_model is not None and _fills_a_model(step):
        try:
            signature.input_model.model_validate(given)
        except ValidationError as error:
            for problem in error.errors():
                field, *inner = problem["loc"] or ("(all of it)",)
                if problem["type"] != "missing" or inner:
                    yield str(field), ".".join(map(str, [*inner, problem["msg"]]))
    for name, arg in step.args.items():
        parameter = signature.parameter(name)
        if arg[0] == "input" and arg[1:] and arg[1] in given and parameter is not None:
            try:
                adapter(parameter.annotation).validate_python(given[arg[1]])
            except ValueError as error:
                yield arg[1], f"it takes {_show(parameter.annotation)}, and {first_problem(error)}"


def value_sources(step: Step) -> set[str]:
    """Give the upstreams whose output the step's arguments read."""
    used = {path for arg in step.args.values() for path in sources(arg)}
    return used if step.over is None else used | set(sources(step.over))


def _mismatch(step: Step, parameter: str, target: Any, origin: str, detail: str) -> TypeMismatchError:
    return TypeMismatchError(
        f"{step.path!r}: parameter {parameter!r} takes {_show(target)}, which {origin} cannot feed"
        + (f" ({detail})" if detail else ""),
        node=step.path,
        field=parameter,
        remedy="change one of the two annotations, or put a step between them that converts",
    )


def _list_of(annotation: Any) -> Any:
    return list[Any] if annotation is EMPTY else list[annotation]


def _dict_of(annotation: Any) -> Any:
    return dict[str, Any] if annotation is EMPTY else dict[str, annotation]


def first_problem(error: ValueError) -> str:
    """Say in one line what is wrong; of pydantic's errors, the first."""
    errors = getattr(error, "errors", None)
    return str(errors()[0]["msg"]) if callable(errors) else str(error)


def _show(annotation: Any) -> str:
    return (
        annotation.__qualname__
        if isinstance(annotation, type) and not hasattr(annotation, "__args__")
        else str(annotation)
    )
