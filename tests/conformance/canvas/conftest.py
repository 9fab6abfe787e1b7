"""Celery canvases, imported as flows, on every way of running a flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from flowq import Flow, FlowContext, FlowResult
from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet, use
from tests.conformance.canvas import celery_tasks
from tests.conformance.leftovers import clear_now

DISPATCHES: dict[str, dict[str, Any]] = {"pull": {}, "canvas": {"dispatch": "canvas"}}
"""How a flow is submitted to workers, and what ``submit`` is told for that."""

TIMEOUT_S = 60.0

RunFlow: TypeAlias = Callable[..., FlowResult]


@pytest.fixture(scope="session")
def flowq_fleet() -> Iterator[EmbeddedContext]:
    with fleet(2, [celery_tasks.__name__]) as started:
        yield started


@pytest.fixture
def flowq_context(flowq_fleet: EmbeddedContext) -> Iterator[EmbeddedContext]:
    """Do what the plugin's fixture does; it waits for a sweep after each test."""
    with use(flowq_fleet):
        yield flowq_fleet
    clear_now(flowq_fleet)


@pytest.fixture(params=["local", *DISPATCHES])
def run_flow(request: pytest.FixtureRequest) -> RunFlow:
    """Import a canvas and run it to its end."""
    context: FlowContext = request.getfixturevalue("flowq_local" if request.param == "local" else "flowq_context")

    def run(canvas: Any, **given: Any) -> FlowResult:
        flow = Flow.from_canvas(canvas)
        if request.param == "local":
            return flow.run(**given, context=context)
        handle: Any = flow.submit(**given, context=context, **DISPATCHES[request.param])
        result: FlowResult = handle.result(TIMEOUT_S)
        return result

    return run
