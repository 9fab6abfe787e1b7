"""Publishes what a run's state releases: segments, single nodes, and what waits for the run's end."""

from __future__ import annotations

import json
import os
from threading import Lock
from typing import Any

from flowq.core.context import FlowContext
from flowq.plan import Plan, Region, region_from_json
from flowq.runtime.canvas.signatures import Signatures
from flowq.runtime.canvas.tasks import know
from flowq.runtime.replies import Delivery
from flowq.runtime.state import State

_PUBLISHING = Lock()
"""A nested canvas takes several connections of Celery's pool one after the other: threads would block each other."""


def publish(context: FlowContext, app: Any, delivery: Delivery) -> None:
    """Publish what a script asks for; raises what Celery raises if the broker does not take it."""
    if delivery.key == "then":
        app.signature(json.loads(delivery.document)).apply_async(add_to_parent=False)
        return
    plan = State.of(context).plan(delivery.plan)
    know(app, plan)
    signatures = Signatures(context, app, delivery.run, plan)
    if delivery.document:
        _publish(app, signatures.region(region_from_json(json.loads(delivery.document))))
    else:
        _publish(app, signatures.node(delivery.key, alone=True))


def publish_regions(context: FlowContext, app: Any, run: str, plan: Plan, regions: list[Region]) -> None:
    """Publish regions; raises what Celery raises if the broker does not take them."""
    know(app, plan)
    signatures = Signatures(context, app, run, plan)
    for region in regions:
        _publish(app, signatures.region(region))


def _publish(app: Any, signature: Any) -> None:
    with _PUBLISHING:
        result = signature.apply_async(add_to_parent=False)
    _forget(app, result)


def _forget(app: Any, result: Any) -> None:
    """Stop waiting for results that nobody asks for: the parts of a chord subscribe to theirs, ignored or not.

    Celery gives no way to it: those that wait are objects of a group that it has dropped.
    """
    pending = getattr(app.backend, "_pending_results", None)
    todo = [result] if pending is not None else []
    while todo:
        found = todo.pop()
        if found is None:
            continue
        todo += [found.parent, *(getattr(found, "results", None) or ())]
        waiting = [mapping.pop(found.id, None) for mapping in pending or ()]
        if any(waiting):
            app.backend.on_result_fulfilled(found)


def _renew_lock() -> None:
    # A thread of the parent may have held it when the child was forked.
    global _PUBLISHING
    _PUBLISHING = Lock()


os.register_at_fork(after_in_child=_renew_lock)
