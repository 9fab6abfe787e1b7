"""Publishes what a run's state releases: segments, single nodes, and what waits for the run's end."""

from __future__ import annotations

import json
from typing import Any

from flowq.core.context import FlowContext
from flowq.plan import Plan, Region, region_from_json
from flowq.runtime.canvas.signatures import Signatures
from flowq.runtime.canvas.tasks import know
from flowq.runtime.scripts import Delivery
from flowq.runtime.state import State


def publish(context: FlowContext, app: Any, delivery: Delivery) -> None:
    """Publish what a script asks for; raises what Celery raises if the broker does not take it."""
    if delivery.key == "then":
        _publish(app, app.signature(json.loads(delivery.document)))
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
    with app.producer_or_acquire() as producer:
        for region in regions:
            signatures.region(region).apply_async(producer=producer, add_to_parent=False)


def _publish(app: Any, signature: Any) -> None:
    with app.producer_or_acquire() as producer:
        signature.apply_async(producer=producer, add_to_parent=False)
