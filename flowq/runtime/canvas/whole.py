"""Whole flows as Celery tasks: they stand in anybody's chain, group or chord.

``flowq.flow`` submits the flow under its own task id and ends without a result; what Celery would do after it (the rest
of a chain, a chord, links) is parked with the run. ``flowq.result`` answers for it under the same id when the run ends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from kombu.utils import json

from flowq.core.context import FlowContext
from flowq.core.errors import InputError, RunFailed, RunNotFound, UnknownFlowError
from flowq.core.types import FlowStatus
from flowq.plan import Plan
from flowq.results.codec import decode
from flowq.runtime.canvas.signatures import FLOW, RESULT
from flowq.runtime.events import Ref
from flowq.runtime.missing import label
from flowq.runtime.remote import Loader
from flowq.runtime.state import State

STORIES = 3
"""So many of a run's failures are told in its own."""

_RUN_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def register(app: Celery, context: FlowContext) -> None:
    """Register both tasks with an app."""

    class FlowTask(_Whole):
        """Submits a flow."""

        name = FLOW
        acks_late = reject_on_worker_lost = True  # until it is submitted, its message is all there is

        def run(
            self,
            *previous: Any,
            flow: str,
            process_id: str = "",
            args: Sequence[Any] = (),
            kwargs: Mapping[str, Any] | None = None,
            dispatch: str | None = None,
        ) -> None:
            if not _RUN_ID.fullmatch(self.request.id):
                raise InputError(
                    f"flow {flow!r}: the task id {self.request.id!r} cannot name a run; use letters, digits, _ . -"
                )
            found = context.registry.flow(flow, process_id)
            if found is None:
                known = ", ".join(sorted(context.registry.flows)) or "none"
                raise UnknownFlowError(
                    f"this worker does not know the flow {flow!r}; add its module to FLOWQ_INCLUDE (known: {known})"
                )
            found.submit_as(
                self.request.id,
                [*previous, *args],
                dict(kwargs or {}),
                context=context,
                dispatch=dispatch,
                parked=_parked(self, self.request.id),
            )
            raise Ignore

    class ResultTask(_Whole):
        """Gives a run's result, once it has ended."""

        name = RESULT

        def run(self, run: str, asked: int = 0) -> Any:
            """Answer; ``asked``: by the run's end, and not by a canvas that has come so far."""
            state = State.of(context)
            if asked:
                return _result(context, state, run)
            status = state.scripts.park(run=run, message=_parked(self, run))
            if status is None:
                raise RunNotFound(f"there is no run {run!r}")
            if status == "parked":
                raise Ignore
            return _result(context, state, run)

        def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
            """Say that the run's end has been told, now that Celery has stored it and gone on."""
            State.of(context).scripts.told(run=args[0])

    app.register_task(FlowTask())
    app.register_task(ResultTask())


class _Whole(Task):  # type: ignore[misc]
    """What both are."""

    ignore_result = False
    typing = False
    throws = (RunFailed, InputError)


def _parked(task: Any, run: str) -> str:
    """Give the message of ``flowq.result`` that goes on as this task's would."""
    result = task.app.tasks[RESULT]
    queue = (task.request.delivery_info or {}).get("routing_key")
    signature = result.signature_from_request(task.request, args=(run, 1), kwargs={}, queue=queue)
    signature["task"] = RESULT
    signature["immutable"] = True
    for name in ("expires", "time_limit", "soft_time_limit", "headers", "retries", "origin", "exchange", "routing_key"):
        signature["options"].pop(name, None)
    return str(json.dumps(signature))  # type: ignore[no-untyped-call] # as the worker would write it


def _result(context: FlowContext, state: State, run: str) -> Any:
    """Give the output of an ended run as plain data.

    Raises:
        RunFailed: it did not complete.
        RunNotFound: it is not there any more.
    """
    head = state.head(run)
    status = FlowStatus(head["status"])
    plan = state.plan(head["plan"])
    if status is not FlowStatus.COMPLETED:
        raise RunFailed(f"run {run} of {head['name']!r} {_story(state, plan, run, status)}")
    if plan.output is None:
        return None
    if plan.nodes[plan.output].is_map:
        return decode(Loader(context, state).outputs_of_map(run, plan.output))
    (packed,) = state.values(run, [str(plan.output)])
    return None if packed is None else decode(context.results.unpack(run, packed))


def _story(state: State, plan: Plan, run: str, status: FlowStatus) -> str:
    if status is FlowStatus.CANCELLED:
        return "was cancelled"
    failures = list(state.failures(run).items())[:STORIES]
    told = (f"node {label(plan, Ref.parse(key))!r}: {failure.type}: {failure.message}" for key, failure in failures)
    return "; ".join(["failed", *told])
