"""Reads a Celery canvas as plain data, by Celery's rules: a signature is a dict, and what JSON makes of it is as good.

::

    chain, group, chord, map, starmap, chunks ──read──▶ calls of tasks, in sequence or side by side

A chord is its header and then its body. Groups in groups are one group, an empty chain is nothing, an empty group
between other steps of a chain is no step, and a group of one in a chain is its only member. Partial arguments and
options of a chain, group or chord go where Celery sends them: to the tasks at its head, to all members, or to header
and body.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from flowq.core.errors import DefinitionError, GraphError

CARRIED = frozenset({"queue", "time_limit", "soft_time_limit"})
"""The options that a flow knows."""

# fmt: off
WITHOUT_MEANING = frozenset({
    "task_id", "root_id", "parent_id", "group_id", "group_index", "reply_to", "chord", "chord_size", "stamped_headers",
    "replaced_task_nesting", "serializer", "compression", "retry", "retry_policy", "ignore_result", "add_to_parent",
    "shadow", "delivery_mode", "mandatory", "interval", "max_retries",
})
# fmt: on
"""Options about Celery's messages and books, which a flow has none of; the last two say how a chord is polled for."""

REMEDIES = {
    "link_error": "remove it, and read the run's failures, or let a flow's step depend on the task by optional()",
    "countdown": "remove it, and submit the flow when it may start",
    "eta": "remove it, and submit the flow when it may start",
    "expires": "remove it, and cancel the run when it is not wanted any more",
    "priority": "remove it, or name a queue that has workers of its own",
    "exchange": "name the queue instead",
    "routing_key": "name the queue instead",
    "headers": "pass it to the task as an argument",
    "chain": "import the canvas as it was before it was applied",
}

KNOWN_TYPES = "write it with chain, group, chord, map, starmap or chunks"

MAPS = {"celery.map": "map", "celery.starmap": "starmap"}
"""Celery's own tasks that call another one over a list, in one go."""

BUILT_IN = frozenset({"celery.chain", "celery.group", "celery.chord", "celery.chunks", *MAPS})

MAX_LABEL = 180
"""Characters of a node's name, which leaves room for a number."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a task."""

    task: str
    label: str
    """What its node is called."""
    args: list[Any]
    kwargs: dict[str, Any]
    takes_given: bool
    """What the tasks before it gave comes first among its arguments (an immutable signature: not at all)."""
    options: Mapping[str, Any]
    links: tuple[Canvas, ...]


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other, each with what the one before gave."""

    steps: tuple[Canvas, ...]
    links: tuple[Canvas, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Side by side, all with the same."""

    members: tuple[Canvas, ...]


Canvas: TypeAlias = Call | Sequence | Group


@dataclass(frozen=True, slots=True)
class Passed:
    """What a chain, group or chord passes on to a signature in it."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    is_cut: bool = False
    """It is immutable, so what came before it goes no further."""


NOTHING = Passed()


class CanvasReader:
    """Reads one canvas and collects what a flow cannot express, each once per task and option."""

    def __init__(self) -> None:
        self._problems: dict[tuple[str, str], GraphError] = {}

    @property
    def problems(self) -> list[GraphError]:
        return list(self._problems.values())

    def read(self, sig: Any, passed: Passed = NOTHING) -> Canvas:
        """Read a signature.

        Raises:
            DefinitionError: it is none.
        """
        match kind_of(sig):
            case "chain":
                return self._chain(sig, passed)
            case "group":
                return self._group(_tasks(sig), self._down(sig, passed))
            case "chord":
                return self._chord(sig, passed)
            case "chunks":
                return self._chunks(sig, passed)
            case "" | "map" | "starmap" | "xmap" | "xstarmap":
                return self._call(sig, passed)
            case kind:
                self._problem(sig, "subtask_type", f"flowq knows no canvas type {kind!r}", KNOWN_TYPES)
                return Sequence(())

    def _call(self, sig: Any, passed: Passed) -> Call:
        immutable = bool(sig.get("immutable"))
        args, kwargs = self._plain(sig, "args"), self._plain(sig, "kwargs")
        if not immutable:
            args, kwargs = [*passed.args, *args], {**kwargs, **passed.kwargs}
        options = {**self._options(sig), **passed.options}
        takes_given = not immutable and not passed.is_cut
        return Call(sig["task"], label_of(sig), args, kwargs, takes_given, options, self._links(sig))

    def _chain(self, sig: Any, passed: Passed) -> Canvas:
        passed = self._down(sig, passed)
        steps: list[Canvas] = []
        for task in _tasks(sig):
            if not _is_empty(task):
                steps.append(self._step(task, NOTHING if steps else passed))
        if not steps:  # nothing but empty groups gives an empty list; nothing at all gives nothing
            return next((empty for empty in map(self.read, _tasks(sig)) if isinstance(empty, Group)), Sequence(()))
        return Sequence(tuple(steps), self._links(sig))

    def _step(self, sig: Any, passed: Passed) -> Canvas:
        while kind_of(sig) == "group" and len(_tasks(sig)) == 1:
            passed, (sig,) = self._down(sig, passed), _tasks(sig)
        return self.read(sig, passed)

    def _group(self, tasks: Iterable[Any], passed: Passed) -> Group:
        members: list[Canvas] = []
        for member in (self.read(task, passed) for task in tasks):
            members.extend(member.members if isinstance(member, Group) else [member])
        return Group(tuple(members))

    def _chord(self, sig: Any, passed: Passed) -> Canvas:
        passed, parts = self._down(sig, passed), sig["kwargs"]
        header, body = parts.get("header") or (), parts.get("body")
        if isinstance(header, Mapping):
            header = _tasks(header) if kind_of(header) == "group" else [header]
        kwargs = {**(parts.get("kwargs") or {}), **passed.kwargs}
        group = self._group(header, Passed(passed.args, kwargs, passed.options, passed.is_cut))
        if body is None:
            self._problem(sig, "body", "a chord without a body gives nothing", "give it one, or use a group")
            return group
        return Sequence((group, self.read(body, Passed(options=passed.options))), self._links(sig))

    def _chunks(self, sig: Any, passed: Passed) -> Canvas:
        """Do what Celery does: make it a group, with one starmap for each chunk."""
        task, items, size = (sig["kwargs"][name] for name in ("task", "it", "n"))
        items = list(items)
        chunks = [items[start : start + size] for start in range(0, len(items), size)]
        starmaps = [
            {"task": "celery.starmap", "kwargs": {"task": task, "it": chunk}, "immutable": True} for chunk in chunks
        ]
        return Sequence((self._group(starmaps, self._down(sig, passed)),), self._links(sig))

    def _down(self, sig: Any, passed: Passed) -> Passed:
        """Add what a chain, group or chord says itself to what is passed on to it."""
        immutable = bool(sig.get("immutable"))
        if kind_of(sig) == "group" and _links(sig):
            self._problem(sig, "link", "a group gives no single result to link to", "link its members, or use a chord")
        return Passed(
            (*(() if immutable else passed.args), *self._plain(sig, "args")),
            {} if immutable else passed.kwargs,
            {**self._options(sig), **passed.options},
            passed.is_cut or immutable,
        )

    def _options(self, sig: Any) -> dict[str, Any]:
        options: Mapping[str, Any] = sig.get("options") or {}
        stamps = options.get("stamped_headers") or ()
        for option, value in options.items():
            known = option in CARRIED or option in WITHOUT_MEANING or option in stamps or option == "link"
            if not known and value not in (None, [], {}, ()):
                remedy = REMEDIES.get(option, "remove it; of the options, a flow knows queue, time limits and link")
                self._problem(sig, option, "a flow cannot express this option", remedy)
        return {option: options[option] for option in CARRIED if options.get(option) is not None}

    def _links(self, sig: Any) -> tuple[Canvas, ...]:
        return tuple(self.read(link) for link in _links(sig))

    def _plain(self, sig: Any, name: str) -> Any:
        value = sig.get(name) or ({} if name == "kwargs" else [])
        try:
            return _plain(value)
        except ValueError as error:
            self._problem(sig, name, f"{error} is no JSON", "pass plain data, or load it in the task")
            return type(value)()

    def _problem(self, sig: Any, field: str, what: str, remedy: str) -> None:
        task = sig["task"]
        self._problems.setdefault(
            (task, field), GraphError(f"task {task!r}, {field!r}: {what}", node=task, field=field, remedy=remedy)
        )


def kind_of(sig: Any) -> str:
    """Give a signature's canvas type; "": it is a single task's.

    Raises:
        DefinitionError: it is no signature.
    """
    if not isinstance(sig, Mapping) or not isinstance(sig.get("task"), str):
        shown = dict(sig) if isinstance(sig, Mapping) else sig  # a broken Signature cannot show itself
        raise DefinitionError(
            f"{shown!r:.80} is no Celery signature: pass task.s(…), a chain, group or chord of such, or its JSON"
        )
    task: str = sig["task"]
    return str(sig.get("subtask_type") or (task.removeprefix("celery.") if task in BUILT_IN else ""))


def label_of(sig: Any) -> str:
    """Give the short name of a signature's task, without what no node's name may contain."""
    task, suffix = sig["task"], ""
    if task in MAPS:
        task, suffix = sig["kwargs"]["task"]["task"], f"_{MAPS[task]}"
    short = task.rpartition(".")[2] or task
    return re.sub(r"[/\[\]\x00-\x1f]", "_", short)[:MAX_LABEL] + suffix


def _tasks(sig: Any) -> list[Any]:
    return list(sig["kwargs"].get("tasks") or ())


def _links(sig: Any) -> list[Any]:
    links = (sig.get("options") or {}).get("link") or []
    return [links] if isinstance(links, Mapping) else list(links)


def _is_empty(sig: Any) -> bool:
    kind = kind_of(sig)
    return (kind == "group" and not _tasks(sig)) or (kind == "chain" and all(map(_is_empty, _tasks(sig))))


def _plain(value: Any) -> Any:
    """Give a copy that JSON can hold as it is; ValueError names what it cannot.

    Celery's own serialiser also knows dates and the like: as text, they would reach the task as something else.
    """
    if value is None or isinstance(value, (str, int)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: _plain(item) for key, item in value.items()}
    raise ValueError(f"{value!r:.80} ({type(value).__name__})")
