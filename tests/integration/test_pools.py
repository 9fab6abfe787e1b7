"""Pools whose processes come and go: children that Celery replaces, and pools that grow and shrink under load."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from flowq import FlowContext, FlowStatus, Settings
from flowq.runtime.state import State
from flowq.standalone import EmbeddedServer
from flowq.testing import wait_until
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import maps
from tests.integration import interop_fleets

NODES = 40
"""So many children run one each, or twenty run two, where children are replaced that soon."""
SHORT = {"lease_s": 3, "renew_s": 0.3, "sweep_s": 0.3}


@contextmanager
def worker(*options: str) -> Iterator[FlowContext]:
    """Start one worker of the deployment's app, with these options of Celery's."""
    with EmbeddedServer() as server:
        given: dict[str, Any] = {"broker_url": server.url, "state_url": server.redis_url, **SHORT}
        env = {f"FLOWQ_{name.upper()}": str(value) for name, value in given.items()}
        plain = [sys.executable, "-m", "celery", "-A", "workers.app", "worker", "-n", "{name}@test"]
        command = ["env", f"FLOWQ_INCLUDE={maps.__name__}", *plain, *options]
        with closing(FlowContext(Settings(**given))) as context, interop_fleets.workers(context, [command], env):
            yield context


def check(handle: Any, log: str) -> None:
    """See that each node of a run has run, once, and was recorded so."""
    result = handle.result(60)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, sum(range(NODES)))
    assert {node.attempt for node in result.nodes.values()} == {1}
    ran = Counter(effect.node for effect in effects(log, handle.run_id))
    assert (len(ran), set(ran.values())) == (NODES, {1})


OPTIONS = {
    "max-tasks": ("-c", "2", "--max-tasks-per-child", "2"),
    "max-memory": ("-c", "2", "--max-memory-per-child", "1"),
    "autoscale": ("--autoscale", "3,1"),
}


@pytest.fixture(scope="module", params=OPTIONS)
def context(request) -> Iterator[FlowContext]:
    with worker(*OPTIONS[request.param]) as started:
        yield started


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_children_are_replaced_and_nothing_is_lost(context, tmp_path, dispatch):
    log = str(tmp_path / "log")
    handle = maps.many_noted.submit(NODES, log, context=context, dispatch=dispatch)
    check(handle, log)
    state = State.of(context)
    # Those that were replaced are struck off, too.
    wait_until(lambda: state.client.zcard(state.keys.holders) <= 4, 20)


def test_a_pool_that_grows_and_shrinks_loses_nothing(tmp_path):
    log = str(tmp_path / "log")
    with worker("-c", "1") as context:
        control = context.celery_app.control
        answer = {"reply": True, "timeout": 10, "destination": ["w1@test"]}
        handle = maps.many_noted.submit(NODES, log, context=context)
        for _ in range(3):
            assert control.pool_grow(2, **answer)
            assert control.pool_shrink(1, **answer)  # refused if all are busy
        check(handle, log)
        assert maps.chained.submit(4, context=context).result(30).output == 54
