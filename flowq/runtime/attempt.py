"""One attempt of a node, from its inputs to its outcome. Both engines run their nodes through here.

::

    resolve the processor ─▶ bind its parameters ─▶ call it, within its time ─▶ check and encode what it returns
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from typing import Any, NamedTuple

from flowq.core.attempt import CURRENT, AttemptInfo
from flowq.core.errors import (
    ArgumentError,
    AttemptTimeout,
    OutputError,
    PlanError,
    Skip,
    UnknownProcessorError,
)
from flowq.core.processor import EMPTY, Processor
from flowq.core.registry import Registry
from flowq.core.result import Failure, Record
from flowq.core.types import FailureKind
from flowq.execution import Interruptible, TimeUp
from flowq.plan import Node
from flowq.results.codec import BYTES, JSON, decode, decode_as, encode, json_of
from flowq.runtime.inputs import ABSENT, Inputs

MAX_TRACEBACK = 8000
"""Characters of a traceback that are kept: its end, which is where the error was raised."""

MAX_MESSAGE = 4000
"""Characters of an exception's message that are kept."""

PLAIN = {type(None), bool, int, float, str, bytes, list, tuple, dict}
"""What most processors return; to look whether an object can be awaited takes longer than many of them."""

MAX_WAIT_S = 30 * 86400.0
"""An exception cannot ask for a longer wait until the next attempt."""

GRACE_S = 1.0
"""How much longer than its timeout an async processor may take to unwind before it is interrupted by force."""


class Outcome(NamedTuple):
    """How an attempt ended: with a value, with a failure, or (neither) skipped."""

    value: bytes | None = None
    failure: Failure | None = None
    retry: bool = False
    """The failure is of a kind that another attempt may mend."""
    error: BaseException | None = None
    """What the attempt raised, for whoever shows it as Python's; not kept when the outcome goes to another process."""
    retry_after_s: float | None = None
    """How long the next attempt is to wait, if the one that failed said so by an attribute of its exception."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Outcome, (self.value, self.failure, self.retry, None, self.retry_after_s)

    @property
    def timed_out(self) -> bool:
        return self.failure is not None and self.failure.kind is FailureKind.TIMEOUT


def perform(registry: Registry, info: AttemptInfo, inputs: Inputs, scope: Interruptible) -> Outcome:
    """Run an attempt in this thread. It never raises, but for KeyboardInterrupt.

    ``scope`` is not entered yet; it keeps the time, and others may stop the attempt through it.
    """
    node, timeout_s = inputs.node, scope.timeout_s
    token = CURRENT.set(info)
    try:
        processor = registry.resolve(node.processor, node.config)
        arguments = bind(processor, inputs)
        if timeout_s is not None and processor.signature.is_async:
            # Its loop cancels it first; the interruption is for one that never yields.
            scope.timeout_s = timeout_s + GRACE_S
        with scope:
            returned = processor.call(**arguments)
            if _is_awaitable(returned):
                returned = asyncio.run(_in_loop(returned, timeout_s, scope))
        return Outcome(value=_checked(returned, processor, inputs))
    except TimeUp:
        return timed_out(info, node, timeout_s)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return failed(error, node)
    finally:
        CURRENT.reset(token)


async def perform_async(registry: Registry, info: AttemptInfo, inputs: Inputs, timeout_s: float | None) -> Outcome:
    """Run an attempt on the running event loop. Only cancellation is raised."""
    token = CURRENT.set(info)
    try:
        processor = registry.resolve(inputs.node.processor, inputs.node.config)
        arguments = bind(processor, inputs)
        with Interruptible(None if processor.signature.is_async else timeout_s):
            returned = processor.call(**arguments)
        if _is_awaitable(returned):
            returned = await _awaited(returned, timeout_s)
        return Outcome(value=_checked(returned, processor, inputs))
    except TimeUp:
        return timed_out(info, inputs.node, timeout_s)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError) and _is_cancelled():
            raise
        return failed(error, inputs.node)
    finally:
        CURRENT.reset(token)


def _is_cancelled() -> bool:
    """Tell whether somebody cancels the engine's own task; else the processor awaited what was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _is_awaitable(returned: Any) -> bool:
    return type(returned) not in PLAIN and inspect.isawaitable(returned)


async def _in_loop(awaitable: Any, timeout_s: float | None, scope: Interruptible) -> Any:
    """Await in a loop of its own, which an interruption wakes up."""
    loop = asyncio.get_running_loop()
    scope.wake = lambda: loop.is_closed() or loop.call_soon_threadsafe(_nothing)
    return await _awaited(awaitable, timeout_s)


def _nothing() -> None:
    """Give a waiting loop something to do."""


async def _awaited(awaitable: Any, timeout_s: float | None) -> Any:
    scope = asyncio.timeout(timeout_s)
    try:
        async with scope:
            return await awaitable
    except TimeoutError:
        if scope.expired():
            raise TimeUp from None
        raise  # the processor's own


def bind(processor: Processor, inputs: Inputs) -> dict[str, Any]:
    """Give all that the processor is called with.

    Raises:
        ArgumentError: a value does not fit its parameter.
    """
    signature = processor.signature
    kwargs: dict[str, Any] = {}
    if signature.takes_input:
        kwargs[signature.parameters[0].name] = _input_of(processor, inputs)
    else:
        for name, arg in inputs.node.args:
            data = inputs.value(arg)
            if data is ABSENT:
                continue
            if arg[0] == "node" and inputs.is_missing(arg[1]):
                kwargs[name] = None
                continue
            parameter = signature.parameter(name)
            try:
                kwargs[name] = decode_as(data, EMPTY if parameter is None else parameter.annotation)
            except ValueError as error:
                raise ArgumentError(_misfit(inputs.node, name, error)) from error
        if not signature.needed <= kwargs.keys():
            name = next(p.name for p in signature.parameters if p.is_needed and p.name not in kwargs)
            raise ArgumentError(
                f"node {inputs.node.path!r}: parameter {name!r} gets no value: the run's input has no such field; add"
                " it to the input"
            )
    if signature.dependencies is not None:
        kwargs[signature.dependencies] = inputs.dependencies()
    return kwargs


def _input_of(processor: Processor, inputs: Inputs) -> Any:
    """Give a class its input: the run's input, as its Input says.

    Fields that the run's input lacks come from required upstreams: from the one of that name, or from an upstream's
    field of that name. A class that takes dependencies may also read these itself, so what is still missing then is no
    error, and it gets the run's input as it is.
    """
    args = dict(inputs.node.args)
    parameter = processor.signature.parameters[0]
    given = dict(decode(inputs.value(args[parameter.name]))) if parameter.name in args else inputs.fields
    model = processor.signature.input_model
    if model is None:
        return Record(given)
    complete = dict(given)
    names = [info.alias or name for name, info in model.model_fields.items()]
    if not all(name in given for name in names):
        complete = _upstream_fields(inputs, names) | given
    missing = [
        info.alias or n
        for n, info in model.model_fields.items()
        if info.is_required() and (info.alias or n) not in complete
    ]
    if missing and processor.signature.dependencies is not None and any(edge.name for edge in inputs.node.edges):
        return Record(given)
    try:
        checked = model.model_validate(complete)
    except ValueError as error:
        raise ArgumentError(_misfit(inputs.node, parameter.name, error)) from error
    return checked if parameter.annotation is model else Record(checked.model_dump(by_alias=True))


def _upstream_fields(inputs: Inputs, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    dependencies = inputs.dependencies()
    for edge in inputs.node.edges:
        if edge.name and edge.required:
            value = dependencies[edge.name]
            if edge.name in names:
                found[edge.name] = value
            elif isinstance(value, dict):
                found.update({name: value[name] for name in names if name in value and name not in found})
    return found


def _checked(returned: Any, processor: Processor, inputs: Inputs) -> bytes:
    """Encode what a processor returned.

    Raises:
        OutputError: it breaks its type, or cannot be encoded where it is to go.
    """
    value = encode(returned, processor.signature.returns)
    if inputs.item is not ABSENT and value[:1] == BYTES:
        raise OutputError(
            "an item of a map returned bytes, which no list of outputs can hold; return text, such as base64"
        )
    return value


def failed(error: BaseException, node: Node) -> Outcome:
    """Give the outcome of an attempt that raised."""
    if isinstance(error, Skip):
        return Outcome()
    kind, retry, message = FailureKind.ERROR, node.retry.covers(error), _text_of(error)
    if isinstance(error, ArgumentError):
        kind, retry = FailureKind.INPUT, False
    elif isinstance(error, OutputError):
        kind, message = FailureKind.OUTPUT, f"node {node.path!r}: {message}"
    elif isinstance(error, (UnknownProcessorError, PlanError)):  # another worker may be of another version
        kind, retry = FailureKind.UNKNOWN_PROCESSOR, False
    text = _printable("".join(traceback.format_exception(error))[-MAX_TRACEBACK:])
    failure = Failure(kind=kind, type=_type_name(error), message=message, traceback=text)
    return Outcome(None, failure, retry, error, _wait_asked_by(error))


def _wait_asked_by(error: BaseException) -> float | None:
    """Read an exception's ``retry_after_s``, if it has a usable one."""
    seconds = getattr(error, "retry_after_s", None)
    return float(seconds) if isinstance(seconds, (int, float)) and 0 <= seconds < MAX_WAIT_S else None


def _text_of(error: BaseException) -> str:
    """Give an exception's message, whatever somebody made of it: a failure must not fail to be recorded."""
    try:
        message = str(error)
    except Exception as second:
        message = f"(its message cannot be had: {type(second).__name__})"
    return _printable(
        message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}… ({len(message)} characters)"
    )


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def timed_out(info: AttemptInfo, node: Node, timeout_s: float | None) -> Outcome:
    """Give the outcome of an attempt whose time ran out."""
    error = AttemptTimeout(f"node {info.node!r}: attempt {info.attempt} was stopped after its timeout of {timeout_s} s")
    failure = Failure(kind=FailureKind.TIMEOUT, type=_type_name(error), message=str(error))
    return Outcome(failure=failure, retry=node.retry.covers(error), error=error)


def expand(inputs: Inputs) -> list[bytes]:
    """Give a map's items, each encoded.

    Raises:
        ArgumentError: what it maps over is no list.
    """
    node = inputs.node
    assert node.over is not None
    data = inputs.value(node.over)
    items = None if data is ABSENT or data[:1] != JSON else decode(JSON + json_of(data))
    if not isinstance(items, list):
        raise ArgumentError(
            f"node {node.path!r}: map() takes a list of items, but got {type(items).__name__};"
            " have the upstream return a list"
        )
    return [encode(item) for item in items]


def _misfit(node: Node, parameter: str, error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    details = (
        error
        if not callable(errors)
        else "; ".join(f"{'.'.join(map(str, (parameter, *e['loc'])))}: {e['msg']}" for e in errors()[:3])
    )
    return f"node {node.path!r}: the value for parameter {parameter!r} does not fit: {details}"


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
