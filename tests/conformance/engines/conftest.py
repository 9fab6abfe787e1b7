"""One suite, three ways to run it: the test's flow runs here and on real workers, and all must come to the same."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from flowq import Flow, FlowContext, FlowResult, FunctionFlow, Settings
from flowq.core.types import FailureKind
from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet, use
from tests.conformance.leftovers import clear_now

FLOWS = "tests.conformance.engines.flows"

ENGINE_SETTINGS: dict[str, Any] = {
    "lease_s": 2.0,
    "renew_s": 0.4,
    "sweep_s": 0.3,
    "inline_bytes": 2048,
    "max_value_bytes": 1_000_000,
}
"""Leases that a crash test can wait for, and limits that a small value passes."""

TIMEOUT_S = 60.0

Runner: TypeAlias = Callable[..., FlowResult]


@pytest.fixture(scope="session")
def flowq_fleet() -> Iterator[EmbeddedContext]:
    folder = importlib.import_module(FLOWS).__path__
    include = [f"{FLOWS}.{module.name}" for module in pkgutil.iter_modules(folder)]
    with fleet(2, include, settings=ENGINE_SETTINGS) as started:
        yield started


@pytest.fixture
def flowq_context(flowq_fleet: EmbeddedContext) -> Iterator[EmbeddedContext]:
    """Do what the plugin's fixture does; it waits for a sweep after each test."""
    with use(flowq_fleet):
        yield flowq_fleet
    clear_now(flowq_fleet)


@pytest.fixture(scope="session")
def local_engine() -> Iterator[FlowContext]:
    context = FlowContext(Settings(**ENGINE_SETTINGS))
    yield context
    context.close()


@pytest.fixture
def log(tmp_path: Path) -> str:
    """Where the nodes of a test write down what they did."""
    return str(tmp_path / "effects")


@pytest.fixture(params=["local", "pull", "canvas"])
def engine(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def run(engine: str, local_engine: FlowContext, request: pytest.FixtureRequest) -> Runner:
    """Run a flow to its end on the engine of this test; what workers give must be what the local engine gives.

    ``words=False``: the two may say it in other words.
    """

    def local(flow: Any, given: Mapping[str, Any], *, words: bool = True) -> FlowResult:
        return here(flow, given, local_engine)

    if engine == "local":
        return local
    context: FlowContext = request.getfixturevalue("flowq_context")

    def distributed(flow: Any, given: Mapping[str, Any], *, words: bool = True) -> FlowResult:
        result: FlowResult = submit(flow, given, context, engine).result(TIMEOUT_S)
        assert outcome(result, words=words) == outcome(local(flow, given), words=words)
        return result

    return distributed


def here(flow: Any, given: Mapping[str, Any], context: FlowContext) -> FlowResult:
    result: FlowResult = (
        flow.run(**given, context=context) if isinstance(flow, FunctionFlow) else flow.run(given, context=context)
    )
    return result


def submit(
    flow: Flow | FunctionFlow[..., Any], given: Mapping[str, Any], context: FlowContext, dispatch: Any = "pull"
) -> Any:
    if isinstance(flow, FunctionFlow):
        return flow.submit(**given, context=context, dispatch=dispatch)
    return flow.submit(given, context=context, dispatch=dispatch)


def outcome(result: FlowResult, *, words: bool = True) -> dict[str, Any]:
    """Give all of a result that does not depend on where and when the flow ran."""
    nodes = {}
    for name, node in result.nodes.items():
        failure = None
        if node.failure is not None:  # a lost node's message says which worker died
            message = node.failure.message if words and node.failure.kind is not FailureKind.LOST else None
            failure = (node.failure.kind, node.failure.type, message)
        nodes[name] = (node.status, node.attempt, node.missing, failure)
    return {"status": result.status, "output": result.output, "failed": sorted(result.failures), "nodes": nodes}
