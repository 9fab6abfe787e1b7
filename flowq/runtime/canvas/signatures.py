"""From a region of a lowered plan to Celery's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import chain, chord, group
from celery.backends.base import DisabledBackend

from flowq.core.context import FlowContext
from flowq.core.processor import key_of
from flowq.plan import JOIN, Lowering, Node, Parallel, Plan, Region
from flowq.runtime.imported import CeleryTask
from flowq.runtime.monitor import resent_id, task_id
from flowq.runtime.state import State

FLOW = "flowq.flow"
"""A whole flow as a task: submits it with the task's own id, and has RESULT answer for it."""

RESULT = "flowq.result"
"""The result of a run as a task."""

_IMPORTED = key_of(CeleryTask)

JOIN_TASK = "flowq.join"
"""Does nothing; see ``flowq.plan.JOIN``."""


def task_name(node: Node) -> str:
    """Give the name of a node's task: its processor's, ``module:qualname``; of an imported task, ``flowq:`` and its."""
    if node.processor == _IMPORTED:
        return imported_name(CeleryTask.model_validate_json(node.config).task)
    return node.processor


def imported_name(task: str) -> str:
    """Give the name under which a node runs a task of the app's own."""
    return f"flowq:{task}"


def can_join(app: Any) -> bool:
    """Tell whether the app has a result backend: chords count in it."""
    return not isinstance(app.backend, DisabledBackend)


def lowering_of(context: FlowContext, plan: Plan) -> Lowering:
    """Give the plan's lowering for the context's Celery app."""
    return State.of(context).lowering(plan, chords=can_join(context.celery_app))


def canvas_of(context: FlowContext, run: str, plan: Plan, regions: list[Region]) -> tuple[Any, Any]:
    """Give the canvas that starts a run and ends with its result, and the signature of that."""
    signatures = Signatures(context, context.celery_app, run, plan)
    return signatures.with_result(regions), signatures.result()


def flow_signature(
    context: FlowContext,
    flow: str,
    process_id: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    dispatch: str | None,
) -> Any:
    """Give the signature of a whole flow."""
    call = {"flow": flow, "process_id": process_id, "args": list(args), "kwargs": dict(kwargs), "dispatch": dispatch}
    return context.celery_app.signature(FLOW, kwargs=call, options={"shadow": f"flow {flow}"})


class Signatures:
    """Makes the signatures of one run."""

    def __init__(self, context: FlowContext, app: Any, run: str, plan: Plan) -> None:
        self._settings = context.settings
        self._app, self._run, self._plan = app, run, plan

    def node(self, key: str, *, alone: bool = False) -> Any:
        """Give the task of a node or an item. ``alone``: outside of its segment."""
        node = self._plan.nodes[int(key.partition(".")[0])]
        args = (self._run, key, 1) if alone else (self._run, key)
        uuid = resent_id(self._run, key) if alone else task_id(self._run, key)
        return self._task(task_name(node), args, node.queue, task_id=uuid)

    def region(self, region: Region) -> Any:
        """Give a region as chain, group or chord."""
        if region == JOIN:
            return self._task(JOIN_TASK, (), "")
        if isinstance(region, int):
            return self.node(str(region))
        if isinstance(region, Parallel):
            return group([self.region(part) for part in region.parts], app=self._app)
        return self._series([self.region(part) for part in region.parts])

    def result(self) -> Any:
        """Give the task whose result is the run's, under the run's id."""
        return self._app.signature(
            RESULT, args=(self._run,), immutable=True, options={"task_id": self._run, **self._queue(RESULT, "")}
        )

    def with_result(self, regions: list[Region]) -> Any:
        """Give regions side by side, followed by the run's result."""
        first = self.region(regions[0]) if len(regions) == 1 else group(map(self.region, regions), app=self._app)
        return self._series([first, self.result()])

    def _series(self, parts: list[Any]) -> Any:
        """Chain signatures. A group that something follows becomes a chord: Celery's own chains would take ``group |
        group | group`` for less than that."""
        following: list[Any] = []
        for part in reversed(parts):
            if isinstance(part, group) and following:
                following = [chord(part, self._chain(following), app=self._app)]
            else:
                following.insert(0, part)
        return self._chain(following)

    def _chain(self, parts: list[Any]) -> Any:
        return parts[0] if len(parts) == 1 else chain(*parts, app=self._app)

    def _task(self, name: str, args: tuple[Any, ...], queue: str, **options: Any) -> Any:
        options = {**options, **self._queue(name, queue)}
        return self._app.signature(name, args=args, immutable=True, options=options)

    def _queue(self, name: str, queue: str) -> dict[str, str]:
        """Route a task: the flow's word holds, then the app's routes, then the context's default queue."""
        if queue:
            return {"queue": queue}
        default = self._settings.queue
        if default == self._app.conf.task_default_queue or self._app.amqp.router.lookup_route(name):
            return {}
        return {"queue": default}
