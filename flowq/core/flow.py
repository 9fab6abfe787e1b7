"""The class form: flows around processors, registered to parents."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from flowq.core.args import Arg
from flowq.core.binding import bind
from flowq.core.config import Dispatch, FlowConfig
from flowq.core.context import FlowContext
from flowq.core.errors import (
    DefinitionError,
    DuplicateDependencyError,
    DuplicateNameError,
    GraphError,
    InputError,
    SelfDependencyError,
    UnknownDependencyError,
)
from flowq.core.graph import Dependency, Graph, Step
from flowq.core.handle import Handle
from flowq.core.processor import Processor, describe
from flowq.core.registry import REGISTRY
from flowq.core.result import FlowResult
from flowq.core.runnable import Runnable
from flowq.core.structural import COLLECT
from flowq.core.task import WRITER, Task, task
from flowq.core.types import DependencyType, FlowType

if TYPE_CHECKING:
    from flowq.core.function import FunctionFlow

Dependencies = Iterable["str | Flow"] | Mapping[str, "str | Flow"]


class Flow(Runnable):
    """A named unit: one processor and its configuration. With children it is a graph, and its processor joins them.

    Args:
        processor: an object with ``process(input_data[, dependencies])``, a ``@task`` function, or None for a parent
            that only gathers ``{child: output}``.
        config: name, placement, retries and so on. What it leaves open, a task's own options decide.
        process_id: identifies this flow for ``required_deps`` and ``optional_deps``; made up if not given.
        context: where it runs; None: the default context at the time of running.
    """

    def __init__(
        self,
        processor: Any,
        config: FlowConfig,
        process_id: str | None = None,
        *,
        context: FlowContext | None = None,
    ) -> None:
        super().__init__(context)
        self.processor = processor
        self.config = _effective(processor, config)
        self.name = config.name
        self.process_id = process_id or str(uuid.uuid4())
        self._described = _described(processor)
        self._parent: Flow | None = None
        self._optional = False
        self._deps: list[tuple[str, DependencyType, str]] = []
        """What it depends on: process id, kind, and the parameter it feeds ("": flowq finds it)."""
        self.children: list[Flow] = []
        """In the order of registration."""
        REGISTRY.add_flow(self)

    @staticmethod
    def from_canvas(sig: Any, *, name: str | None = None, context: FlowContext | None = None) -> FunctionFlow[..., Any]:
        """Make a Celery canvas of registered tasks a flow: one node for each signature, named after its task.

        ::

            report = Flow.from_canvas(chord([load.s("a"), load.s("b")], merge.s()) | publish.s())
            report.submit()
            Flow.from_canvas(add.s(2) | mul.s(3)).run(args=[4])  # as canvas.apply_async(args=[4]): (4 + 2) * 3

        Its output is what Celery's would be: the last task's, or the list of a group's. Its failures are flowq's: every
        edge is a required dependency, so what follows a failed task is UPSTREAM_FAILED at once, and nothing waits for
        ever. ``queue`` and time limits are taken over, ``max_retries`` and the like from the registered tasks. Tasks
        that are linked run after what they are linked to; the output does not wait for them, but the run does.

        Args:
            sig: a signature, chain, group or chord (also of maps, starmaps and chunks), or the same as JSON.
            name: the flow's name; by default the task's, or ``chain``, ``group`` or ``chord``.
            context: where it runs; None: the default context at the time of running.

        Raises:
            DefinitionError: this is no canvas.
            GraphError: it says what a flow cannot express; ``.problems`` lists all of that.
        """
        reader = (context or FlowContext.get_instance()).service("from_canvas")
        flow: FunctionFlow[..., Any] = reader(sig, name=name, context=context)
        return flow

    def register_to(
        self,
        parent_flow: Flow,
        required_deps: Dependencies | None = None,
        optional_deps: Dependencies | None = None,
        *,
        optional: bool = False,
    ) -> None:
        """Make this flow a child of another one.

        Args:
            parent_flow: runs after all its children, with them as its dependencies.
            required_deps: process ids of flows that must complete before this one starts; or, for a function's
                parameters, ``{parameter: process id}``.
            optional_deps: process ids of flows that must have settled; if one did not complete, it is bypassed.
            optional: the parent can do without this child.

        Raises:
            GraphError: the flow has a parent already, or would contain itself. All else is checked when the graph
                is built, so that all its problems are reported together.
        """
        if self._parent is not None:
            raise DuplicateNameError(
                f"{self.name!r} is already a child of {self._parent.name!r}",
                node=self.name,
                field="parent_flow",
                remedy="make a second Flow around the same processor",
            )
        ancestor: Flow | None = parent_flow
        while ancestor is not None:
            if ancestor is self:
                raise SelfDependencyError(
                    f"{self.name!r} cannot be registered to {parent_flow.name!r}: it would contain itself",
                    node=self.name,
                    field="parent_flow",
                    remedy="register it to a flow that is not below it",
                )
            ancestor = ancestor._parent
        self._parent = parent_flow
        self._optional = optional
        self._deps = [
            *_listed(required_deps, DependencyType.REQUIRED, self.name, "required_deps"),
            *_listed(optional_deps, DependencyType.OPTIONAL, self.name, "optional_deps"),
        ]
        parent_flow.children.append(self)
        changed: Flow | None = self
        while changed is not None:
            changed._compiled = None
            changed = changed._parent

    async def execute(
        self, input_data: Mapping[str, Any] | BaseModel | None = None, *, context: FlowContext | None = None
    ) -> FlowResult:
        """Run here, in this process and its pools: no Redis, no Celery."""
        return await self._execute(_plain(input_data), context)

    def run(
        self, input_data: Mapping[str, Any] | BaseModel | None = None, *, context: FlowContext | None = None
    ) -> FlowResult:
        """Do the same as ``execute``, for code without an event loop."""
        return self._run(_plain(input_data), context)

    def submit(
        self,
        input_data: Mapping[str, Any] | BaseModel | None = None,
        *,
        context: FlowContext | None = None,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Handle:
        """Enqueue for the workers and return at once.

        Args:
            input_data: the run's input.
            context: None: the flow's own, or the process's default one.
            dispatch: ``pull`` (workers take ready nodes) or ``canvas`` (each node is a Celery task of its own); None:
                as the settings say.
            deadline_s: seconds after which the run fails if it has not ended.
            idempotency_key: while a run of this flow that was submitted with the same key is kept, give that one
                instead of starting another.

        Raises:
            InputError: the input does not fit the flow.
            IdempotencyError: the key was used for something else.
            OverloadedError: there has been no room for another run for ``submit_wait_s``.
            StoreUnavailableError: the state store cannot be reached.
        """
        options = {"dispatch": dispatch, "deadline_s": deadline_s, "idempotency_key": idempotency_key}
        return self._submit(_plain(input_data), context, **options)

    async def asubmit(
        self,
        input_data: Mapping[str, Any] | BaseModel | None = None,
        *,
        context: FlowContext | None = None,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> Handle:
        """Do the same as ``submit`` without blocking the event loop."""
        options = {"dispatch": dispatch, "deadline_s": deadline_s, "idempotency_key": idempotency_key}
        return await self._asubmit(_plain(input_data), context, **options)

    def _plain_input(self, one: Any) -> Mapping[str, Any]:
        return _plain(one)

    def submit_as(self, run: str, args: list[Any], kwargs: dict[str, Any], **options: Any) -> Handle:
        given: dict[str, Any] = {}
        for arg in (*args, kwargs):  # a mapping that a task before has returned comes first; later fields win
            given |= _plain(arg)
        return self._submit(given, run=run, **options)

    def canvas(
        self, input_data: Mapping[str, Any] | BaseModel | None = None, *, context: FlowContext | None = None
    ) -> Any:
        """Give this flow, with this input, as a Celery canvas: one run, which starts when the canvas is applied.

        Its last task is the run's result under the run's id: ``flow.canvas(...).apply_async().get()``.
        """
        return self._canvas(_plain(input_data), context)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """In the body of a ``@flow``: place this flow's processor there as a step."""
        if WRITER.get() is None:
            raise DefinitionError(f"flow {self.name!r} is not called: use run, execute or submit")
        if self.children:
            raise DefinitionError(f"flow {self.name!r} has children; only a single flow can be placed in a @flow")
        options = {name: getattr(self.config, name) for name in self.config.model_fields_set}
        return task(self.processor, **options)(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<flow {self.name}>"

    def _build(self) -> Graph:
        return _Builder(self).build()


class _Builder:
    """Writes the tree below one flow down as steps."""

    def __init__(self, root: Flow) -> None:
        self.root = root
        self.problems: list[GraphError] = []
        self.flows: dict[str, Flow] = {}
        """By path, parents before children."""
        self.paths: dict[str, str] = {}
        """Process id to path."""

    def build(self) -> Graph:
        self._place(self.root, self.root.name)
        steps: dict[str, Step] = {}
        for path, flow in self.flows.items():
            parent = self.paths[flow._parent.process_id] if flow is not self.root and flow._parent else None
            steps[path] = Step(path, parent, flow.config, flow._described)
        explicit = {path: self._depend(steps[path], flow) for path, flow in self.flows.items() if flow is not self.root}
        for path, flow in self.flows.items():
            self._join(steps, path, flow)
        for path, flow in self.flows.items():
            if flow.processor is None:
                steps[path].args = _collect(flow, self)
            elif not flow._described.signature.takes_input:
                steps[path].args = bind(steps[path], explicit.get(path, {}))
        root = self.root
        return Graph(root.name, root.process_id, steps, output=root.name).validate(self.problems)

    def _place(self, root: Flow, path: str) -> None:
        pending = [(root, path)]
        while pending:
            flow, path = pending.pop()
            while path in self.flows:
                self.problems.append(
                    DuplicateNameError(
                        f"{path!r}: two flows have this name",
                        node=path,
                        field="name",
                        remedy="give one of them another FlowConfig.name",
                    )
                )
                path += "'"
            self.flows[path] = flow
            self.paths[flow.process_id] = path
            prefix = "" if flow is self.root else f"{path}/"
            pending.extend((child, prefix + child.name) for child in reversed(flow.children))

    def _depend(self, step: Step, flow: Flow) -> dict[str, str]:
        """Add the declared edges and give those that name the parameter they feed."""
        explicit: dict[str, str] = {}
        for process_id, kind, parameter in flow._deps:
            path = self.paths.get(process_id)
            field = "required_deps" if kind is DependencyType.REQUIRED else "optional_deps"
            if process_id == flow.process_id:
                self.problems.append(
                    SelfDependencyError(
                        f"{step.path!r} depends on itself",
                        node=step.path,
                        field=field,
                        remedy="remove it from its own dependencies",
                    )
                )
            elif path is None:
                self.problems.append(
                    UnknownDependencyError(
                        f"{step.path!r} depends on {process_id!r}, which is no flow of this graph",
                        node=step.path,
                        field=field,
                        remedy="register that flow to the same parent (or one above), and pass its process_id",
                    )
                )
            elif path in step.deps:
                self.problems.append(
                    DuplicateDependencyError(
                        f"{step.path!r} names its dependency {path!r} twice",
                        node=step.path,
                        field=field,
                        remedy="name it once",
                    )
                )
            else:
                step.deps[path] = Dependency(kind)
                if parameter:
                    explicit[parameter] = path
        return explicit

    def _join(self, steps: dict[str, Step], path: str, flow: Flow) -> None:
        before: str | None = None
        for child in flow.children:
            child_path = self.paths[child.process_id]
            kind = DependencyType.OPTIONAL if child._optional else DependencyType.REQUIRED
            steps[path].depend(child_path, Dependency(kind))
            if flow.config.flow_type is FlowType.SEQUENTIAL and before is not None:
                steps[child_path].depend(before, Dependency(DependencyType.REQUIRED))
            before = child_path


def _collect(flow: Flow, builder: _Builder) -> dict[str, Arg]:
    outputs = ((child.name, ("step", builder.paths[child.process_id])) for child in flow.children)
    return {"value": ("dict", tuple(outputs))}


def _described(processor: Any) -> Processor:
    if processor is None:
        return COLLECT
    if isinstance(processor, Task):
        return processor.describe()
    if callable(processor) and not hasattr(processor, "process"):
        wrapped: Task[..., Any] = task(processor)
        return wrapped.describe()
    return REGISTRY.add(describe(processor))


def _effective(processor: Any, config: FlowConfig) -> FlowConfig:
    if isinstance(processor, Task):
        own = {name: getattr(processor.config, name) for name in processor.config.model_fields_set}
        given = {name: getattr(config, name) for name in config.model_fields_set}
        return config.model_copy(update=own | given)
    return config


def _listed(
    deps: Dependencies | None, kind: DependencyType, name: str, field: str
) -> list[tuple[str, DependencyType, str]]:
    if isinstance(deps, str):
        raise UnknownDependencyError(
            f"{name!r}: {field} is a string", node=name, field=field, remedy="pass a list of process ids"
        )
    pairs = deps.items() if isinstance(deps, Mapping) else (("", dep) for dep in deps or ())
    return [(dep.process_id if isinstance(dep, Flow) else dep, kind, parameter) for parameter, dep in pairs]


def _plain(input_data: Mapping[str, Any] | BaseModel | None) -> Mapping[str, Any]:
    if isinstance(input_data, BaseModel):
        return input_data.model_dump(mode="json")
    if input_data is not None and not isinstance(input_data, Mapping):
        raise InputError(f"the input of a flow is a mapping or a model, not {type(input_data).__name__}")
    return input_data or {}
