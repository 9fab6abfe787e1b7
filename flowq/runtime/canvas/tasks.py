"""The Celery tasks of a canvas: one per processor, and three of flowq's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from celery import Task

from flowq.plan import Plan
from flowq.runtime.canvas.signatures import JOIN_TASK, imported_name, task_name

Answer: TypeAlias = Callable[[Task, str, str, bool], None]
"""What a node's task does: takes the task, the run, the node's key, and whether it stands outside of its segment."""

_KNOWN: WeakKeyDictionary[Any, set[str]] = WeakKeyDictionary()
"""By app: the plans whose nodes' tasks are registered."""

_ANSWERS: WeakKeyDictionary[Any, Answer] = WeakKeyDictionary()
"""By app."""


_STRUCTURE = {
    "celery.accumulate",
    "celery.backend_cleanup",
    "celery.chain",
    "celery.chord",
    "celery.chord_unlock",
    "celery.group",
}
"""Celery's own tasks that no canvas holds as a call of its own."""


class NodeTask(Task):  # type: ignore[misc]
    """A node of a run, under its processor's name.

    The run's state holds what it returns, and knows whether it ran. It is acknowledged late only so that a busy worker
    does not fetch one more message, and sit on it while others are idle.
    """

    acks_late = True
    ignore_result = True
    store_errors_even_if_ignored = True
    max_retries = None
    trail = False

    def run(self, run: str, key: str, alone: int = 0) -> None:
        _ANSWERS[self.app](self, run, key, bool(alone))


class JoinTask(Task):  # type: ignore[misc]
    """Ends a branch that has several ends, so that a chord can count it."""

    name = JOIN_TASK
    acks_late = False
    ignore_result = True
    trail = False

    def run(self) -> None:
        """Do nothing."""


def answer_with(app: Any, answer: Answer) -> None:
    """Say what node tasks of this app do."""
    _ANSWERS[app] = answer
    app.register_task(JoinTask())


def know(app: Any, plan: Plan) -> None:
    """Register the tasks that a plan's nodes are, as far as they are not known."""
    known = _KNOWN.setdefault(app, set())
    if plan.hash not in known:
        register(app, {task_name(node) for node in plan})
        known.add(plan.hash)


def register(app: Any, names: Iterable[str]) -> None:
    """Register tasks of nodes."""
    for name in names:
        if name not in app.tasks:
            app.register_task(type("NodeTask", (NodeTask,), {"name": name, "__module__": __name__})())


def register_imported(app: Any) -> None:
    """Register, for every task of the app's own, the one that runs it as a node."""
    own = [name for name in app.tasks if not name.startswith("flowq") and name not in _STRUCTURE]
    register(app, [imported_name(name) for name in own if not isinstance(app.tasks[name], NodeTask)])


def cut(task: Any) -> None:
    """Have Celery go on with nothing after this task: the run's state decides what runs."""
    request = task.request
    request.chain = request.chord = request.callbacks = request.errbacks = None
