"""Many runs with real workers: started together, waited for together, read together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import flowq
from flowq import FlowStatus, NodeStatus, RunNotFound, flow, task
from flowq.client.gathering import TOGETHER
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet
from tests.conformance.engines.flows import maps
from tests.conformance.leftovers import clear_now
from tests.integration.gated_flows import SHORT, gated


@task
def halved(number: int) -> float:
    return 1 / (number - 3)


@task
def shown(number: float) -> str:
    return f"{number:.2f}"


@flow
def halving(number: int) -> str:
    return shown(halved(number))


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    with fleet(2, [__name__, maps, gated.function.__module__], settings=SHORT) as started:
        yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear_now(workers)


def calls(context: EmbeddedContext) -> dict[str, int]:
    found: dict[str, Any] = State.of(context).client.info("commandstats")
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in found.items()}


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_many_runs_come_to_what_each_of_them_would(context, dispatch):
    count = 30 if dispatch == "canvas" else 2 * TOGETHER + 20
    handles = halving.submit_many(({"number": n} for n in range(count)), context=context, dispatch=dispatch)
    results = list(flowq.results_of(handles, timeout=60))
    assert [result.run_id for result in results] == [handle.run_id for handle in handles]
    assert [result.output for result in results if result.status is FlowStatus.COMPLETED] == [
        f"{1 / (n - 3):.2f}" for n in range(count) if n != 3
    ]
    assert "ZeroDivisionError" in str(results[3].error)
    assert results[3].nodes["shown"].status is NodeStatus.UPSTREAM_FAILED
    assert [handle.result(1) for handle in handles[::7]] == results[::7]


def test_the_results_of_runs_that_have_ended_are_one_round_trip(context, monkeypatch):
    handles = halving.submit_many([{"number": n} for n in range(10, 60)], context=context)
    expected = list(flowq.results_of(handles, timeout=60))
    client = State.of(context).client
    asked: list[int] = []
    ask = client.ask

    def noted(commands: Any) -> Any:
        asked.append(len(commands))
        return ask(commands)

    monkeypatch.setattr(client, "ask", noted)
    monkeypatch.setattr(client, "execute_command", lambda *command, **_: pytest.fail(f"asked for {command[0]}"))
    assert list(flowq.results_of(handles)) == expected
    assert asked == [3 * 50]


def test_runs_of_several_flows_and_handles_from_elsewhere(context):
    one = halving.submit(5, context=context)
    two = maps.chained.submit(4, context=context)
    three = context.client.handle(two.run_id)
    outputs = [result.output for result in flowq.results_of([two, one, three, two], timeout=30)]
    assert outputs == [6 + 4 * 12, "0.50", 6 + 4 * 12, 6 + 4 * 12]


def test_a_map_that_is_a_run_s_output_and_has_more_items_than_a_look_brings(context):
    counts = (0, 3, 700)
    handles = maps.map_as_output.submit_many([{"count": count} for count in counts], context=context)
    results = list(flowq.results_of(handles, timeout=60))
    assert [len(result.output) for result in results] == list(counts)
    assert [len(result.nodes) for result in results] == [len(handle.result().nodes) for handle in handles]
    assert len(results[2].nodes) > 700


def test_it_gives_what_is_there_and_waits_for_the_rest(context, tmp_path):
    """There are two workers: both wait, and what ends first is not what is asked for first."""
    log, paths = str(tmp_path / "log"), [tmp_path / name for name in "ab"]
    handles = gated.submit_many([{"path": str(path), "log": log} for path in paths], context=context)
    results = flowq.results_of([handles[1], *handles], timeout=30)
    paths[1].touch()
    assert next(results).run_id == handles[1].run_id
    waiting = threading.Timer(0.2, paths[0].touch)
    waiting.start()
    assert [result.run_id for result in results] == [handle.run_id for handle in handles]
    waiting.join()


def test_a_wait_that_takes_too_long_names_the_run(context, tmp_path):
    (handle,) = gated.submit_many([{"path": str(tmp_path / "go"), "log": str(tmp_path / "log")}], context=context)
    with pytest.raises(TimeoutError, match=handle.run_id):
        list(flowq.results_of([handle], timeout=0.3))
    assert handle.status() is FlowStatus.RUNNING
    handle.cancel()
    assert [result.status for result in flowq.results_of([handle], timeout=0)] == [FlowStatus.CANCELLED]


def test_a_run_that_is_gone_is_said_when_it_is_its_turn(context):
    handles = halving.submit_many([{"number": 5}] * 3, context=context)
    assert len(list(flowq.results_of(handles, 30))) == 3
    context.client.forget(handles[1].run_id)
    results = flowq.results_of(handles, 30)
    assert next(results).output == "0.50"
    with pytest.raises(RunNotFound):
        next(results)


async def test_in_async_code(context):
    handles = await halving.asubmit_many([{"number": n} for n in range(4, 24)], context=context)
    results = await asyncio.to_thread(list, flowq.results_of(handles, timeout=30))
    assert [result.output for result in results] == [f"{1 / (n - 3):.2f}" for n in range(4, 24)]
    assert (await handles[0]).output == "1.00"


def test_without_any():
    assert list(flowq.results_of([])) == []
