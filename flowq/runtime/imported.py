"""A Celery canvas of registered tasks as a flow: every signature is a node, and every edge is a required dependency.

::

    canvas ──CanvasReader──▶ calls, in sequence or side by side ──CanvasWriter──▶ steps of CeleryTask
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from celery import Celery, current_app
from celery._state import _get_active_apps
from celery.app.trace import build_tracer
from celery.exceptions import Retry
from celery.states import IGNORED
from pydantic import BaseModel, ConfigDict, ValidationError

from flowq.core.attempt import AttemptInfo, current_attempt
from flowq.core.config import FlowConfig, RetryPolicy
from flowq.core.context import FlowContext
from flowq.core.errors import DefinitionError, GraphError, Skip, UnknownProcessorError
from flowq.core.function import FunctionFlow
from flowq.core.graph import Step
from flowq.core.processor import describe
from flowq.core.registry import REGISTRY
from flowq.core.structural import COLLECT
from flowq.core.task import WRITER, Output, Writer
from flowq.runtime.imported_canvas import MAPS, Call, Canvas, CanvasReader, Group, kind_of, label_of

UNLIMITED = 2**31 - 1
"""Attempts of a task whose ``max_retries`` is None."""

CELERY_RETRIES, CELERY_DELAY_S = 3, 180
"""Celery's own defaults: they hold for a task that the importing process does not know."""


class TaskRetry(Exception):
    """A Celery task asked for another attempt."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        """The countdown (or the time until the eta) that it asked for; None: it named none."""


class CeleryTask(BaseModel):
    """Runs the registered Celery task of this name, as Celery would: bound, with its hooks and signals.

    The input's ``given`` comes before ``args``, as partial arguments do. ``self.retry()`` leads to another attempt,
    and when these are used up the task fails with what made it retry; Ignore settles the node as SKIPPED, Reject as
    FAILED. To the task, the call is an eager one: ``self.request.id`` is the attempt's idempotency key,
    ``self.request.retries`` counts earlier attempts, and ``self.replace()`` runs the other canvas there and then.
    """

    model_config = ConfigDict(frozen=True)

    task: str

    def process(self, input_data: dict[str, Any]) -> Any:
        """Call the task.

        Raises:
            UnknownProcessorError: no Celery app of this process knows it.
        """
        args = [*(input_data.get("given") or ()), *input_data["args"]]
        kwargs = {**input_data["kwargs"], **(input_data.get("given_kwargs") or {})}
        names = [self.task, kwargs["task"]["task"]] if self.task in MAPS else [self.task]
        return _run(registered(*names), args, kwargs, current_attempt())


def registered(*names: str) -> Any:
    """Give the first of these tasks from a Celery app of this process that knows them all.

    Raises:
        UnknownProcessorError: there is none.
    """
    for app in _apps():
        if all(name in app.tasks for name in names):
            return app.tasks[names[0]]
    raise UnknownProcessorError(
        f"no Celery app of this process knows the task {names[-1]!r}: import its module where the worker starts, by"
        " FLOWQ_INCLUDE or the app's own imports"
    )


def _run(task: Any, args: list[Any], kwargs: dict[str, Any], info: AttemptInfo) -> Any:
    request = {
        "id": info.idempotency_key,
        "root_id": info.run_id,
        "task": task.name,
        "retries": info.attempt - 1,
        "is_eager": True,  # what it starts by itself is its own affair, and its retry is sent by nobody but flowq
        "delivery_info": {"is_eager": True},
    }
    ended = build_tracer(task.name, task, eager=True, app=task.app)(info.idempotency_key, args, kwargs, request)
    if ended.info is None:
        return ended.retval
    error = ended.info.retval
    if ended.info.state == IGNORED:
        raise Skip(str(error)) from error
    if isinstance(error, Retry):
        raise _another_attempt(task, error, args, kwargs) from (error.exc or error)
    raise error


def _another_attempt(task: Any, asked: Retry, args: list[Any], kwargs: dict[str, Any]) -> Exception:
    if asked.sig is not None and (list(asked.sig.args) != args or dict(asked.sig.kwargs) != kwargs):
        return DefinitionError(
            f"task {task.name!r} retries with other arguments, but every attempt of a node gets the same; keep what has"
            " changed elsewhere, under current_attempt().idempotency_key"
        )
    when = asked.when
    if isinstance(when, datetime):
        when = (when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)
        when = max(0.0, when.total_seconds())
    return TaskRetry(str(asked), when)


def from_canvas(sig: Any, *, name: str | None = None, context: FlowContext | None = None) -> FunctionFlow[..., Any]:
    """Make a canvas a flow (see ``Flow.from_canvas``)."""
    kind = kind_of(sig)
    reader = CanvasReader()
    canvas = reader.read(sig)

    def imported(args: list[Any] | None = None, kwargs: dict[str, Any] | None = None) -> Any:
        writer = WRITER.get()
        if writer is None:
            raise DefinitionError("an imported canvas is not called: use run, execute or submit")
        writer.problems.extend(reader.problems)
        done = CanvasWriter(writer).write(canvas, Given([] if args is None else args, {} if kwargs is None else kwargs))
        if done is None:
            return None
        if isinstance(canvas, Group) and len(done.value) == 1 and isinstance(done.value[0], list):
            return done.value[0]  # as Celery does: a canvas that is a group of one, which ends in a group, gives that
        return done.value

    imported.__name__ = imported.__qualname__ = name or kind or label_of(sig)
    flow: FunctionFlow[..., Any] = FunctionFlow(imported, FlowConfig(name=imported.__name__), {}, context)
    flow.validate()
    return flow


@dataclass(frozen=True, slots=True)
class Given:
    """What a call takes from those before it."""

    args: Any
    kwargs: Any = None
    after: tuple[Output, ...] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """What a part of a canvas gives, and the steps with which it ends."""

    value: Any
    """An output, or a list of such for a group."""
    ends: tuple[Output, ...]


class CanvasWriter:
    """Writes the calls of a canvas down as steps."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._parent = writer.parents[-1] if writer.parents else None

    def write(self, canvas: Canvas, given: Given) -> Done | None:
        """Write a part of a canvas down; None: it is empty."""
        if isinstance(canvas, Group):
            return self._group(canvas, given)
        done = self._call(canvas, given) if isinstance(canvas, Call) else self._sequence(canvas.steps, given)
        if done is not None:
            for link in canvas.links:
                self.write(link, self._following(done, link))
        return done

    def _call(self, call: Call, given: Given) -> Done:
        path = self._writer.path(call.label, explicit=False)
        processor = REGISTRY.add(describe(CeleryTask(task=call.task)))
        values = {"args": call.args, "kwargs": call.kwargs}
        if call.takes_given:
            values["given"] = given.args
            if given.kwargs is not None:
                values["given_kwargs"] = given.kwargs
        step = Step(path, self._parent, self._config(path.rpartition("/")[2], call), processor)
        output = self._writer.add(step, {"input_data": values}, given.after)
        return Done(output, (output,))

    def _sequence(self, steps: tuple[Canvas, ...], given: Given) -> Done | None:
        done: Done | None = None
        for step in steps:
            done = self.write(step, given if done is None else self._following(done, step)) or done
        return done

    def _group(self, group: Group, given: Given) -> Done:
        done = [done for member in group.members if (done := self.write(member, given)) is not None]
        values = [member.value for member in done]
        return Done(values, tuple(end for member in done for end in member.ends) or given.after)

    def _following(self, done: Done, canvas: Canvas) -> Given:
        """Give what the next part of the canvas takes."""
        if len(done.ends) > 1 and _heads(canvas) > 1:  # one step between them, and not an edge from each to each
            gathered = self._gather(done.value)
            return Given([gathered], after=(gathered,))
        return Given([done.value], after=done.ends)

    def _gather(self, values: list[Any]) -> Output:
        path = self._writer.path("gathered", explicit=False)
        config = FlowConfig(name=path.rpartition("/")[2])
        return self._writer.add(Step(path, self._parent, config, COLLECT), {"value": values}, ())

    def _config(self, name: str, call: Call) -> FlowConfig:
        task = _known(call)
        limits = [call.options.get(limit, getattr(task, limit, None)) for limit in ("time_limit", "soft_time_limit")]
        seconds = [limit for limit in limits if limit is not None]
        queue = call.options.get("queue")
        try:
            return FlowConfig(
                name=name,
                queue=getattr(queue, "name", queue),  # or kombu's Queue
                timeout=min(seconds, default=None),
                retries=_retries(task),
            )
        except ValidationError as error:
            for problem in error.errors():
                option = str(problem["loc"][0])
                what = f"task {call.task!r}: its {option} cannot be used: {problem['msg']}"
                self._writer.problems.append(GraphError(what, node=call.task, field=option, remedy="change it"))
            return FlowConfig(name=name)


def _heads(canvas: Canvas) -> int:
    """Count the calls that take what was given to a part of a canvas."""
    match canvas:
        case Call():
            return 1
        case Group(members):
            return sum(map(_heads, members))
        case _:
            return _heads(canvas.steps[0]) if canvas.steps else 0


def _apps() -> Iterator[Celery]:
    """Give the current app first: another one may have a task of the same name."""
    current = current_app._get_current_object()
    yield current
    yield from (app for app in tuple(_get_active_apps()) if app is not current)


def _known(call: Call) -> Any:
    """Give the task if this process has it; a producer may know tasks by their names alone."""
    try:
        return registered(call.task)
    except UnknownProcessorError:
        return None


def _retries(task: Any) -> RetryPolicy:
    """Give the task's retries as a policy: for TaskRetry alone, as in Celery all else is a failure."""
    limit = getattr(task, "max_retries", CELERY_RETRIES)
    delay_s = getattr(task, "default_retry_delay", CELERY_DELAY_S)
    backoff, jitter, max_delay_s = 1.0, 0.0, delay_s
    if getattr(task, "autoretry_for", ()):
        options = getattr(task, "retry_kwargs", {})
        limit = options.get("max_retries") or limit
        delay_s = max_delay_s = options.get("countdown", delay_s)
        factor = float(getattr(task, "retry_backoff", False))
        if factor:
            delay_s, backoff = max(1.0, factor), 2.0
            max_delay_s = getattr(task, "retry_backoff_max", 600)
            if getattr(task, "retry_jitter", True):  # Celery draws from [0, wait]: half of it, plus or minus all that
                delay_s, max_delay_s, jitter = delay_s / 2, max_delay_s / 2, 1.0
    return RetryPolicy(
        max_attempts=UNLIMITED if limit is None else limit + 1,
        delay_s=delay_s,
        backoff=backoff,
        max_delay_s=max_delay_s,
        jitter=jitter,
        retry_on=(TaskRetry,),
    )
