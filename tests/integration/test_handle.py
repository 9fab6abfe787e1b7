"""Handles: what a producer can ask of a run, from anywhere and at any time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq import FlowStatus, NodeStatus, RunNotFound, RunStatusError, flow, task
from flowq.client import NodeChange, Progress
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet, use
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import cancelling, dependencies, maps, nesting, values
from tests.conformance.leftovers import clear_now


@task
def waits_for_a_file(path: str) -> str:
    """Go on when the test says so."""
    deadline = time.monotonic() + 30
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)
    return Path(path).read_text()


@task
def upper(text: str) -> str:
    return text.upper()


@flow
def gated(path: str) -> str:
    return upper(waits_for_a_file(path))


def open_gate(path: Path) -> None:
    """Have the file be there with all its text at once: whoever waits for it reads it in that very moment."""
    written = path.with_suffix(".new")
    written.write_text("text")
    written.rename(path)


@pytest.fixture(scope="module")
def workers():
    modules = [cancelling, dependencies, maps, nesting, values, __name__]
    with fleet(2, modules, settings={"lease_s": 2, "renew_s": 0.3, "sweep_s": 0.3}) as started:
        yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear_now(workers)


def test_a_run_from_its_beginning_to_its_end(context, tmp_path):
    path = tmp_path / "go"
    handle = gated.submit(str(path), context=context)
    wait_until(lambda: handle.status() is FlowStatus.RUNNING)
    with pytest.raises(TimeoutError, match=f"run {handle.run_id} has not ended within 0.05 s; it is running"):
        handle.result(0.05)
    assert handle.output("upper") is None
    assert handle.node("waits_for_a_file").status is NodeStatus.RUNNING
    assert handle.node("upper").status is NodeStatus.PENDING
    assert handle.progress() == Progress(
        status=FlowStatus.RUNNING,
        is_paused=False,
        total=2,
        settled=0,
        completed=0,
        failed=0,
        skipped=0,
        upstream_failed=0,
    )
    assert handle.progress().share == 0.0
    open_gate(path)
    result = handle.result(20)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, "TEXT")
    assert handle.result() == result
    assert handle.output("waits_for_a_file") == "text"
    assert handle.progress().share == 1.0
    node = handle.node("upper")
    assert node == result.nodes["upper"]
    assert node.started_at is not None
    assert result.start_time <= node.started_at <= node.ended_at <= result.end_time  # type: ignore[operator]
    assert repr(handle) == f"<run {handle.run_id}>"


async def test_awaiting(context, tmp_path):
    path = tmp_path / "go"
    handle = await gated.asubmit(str(path), context=context)

    async def wait():
        return await handle

    waiting = [asyncio.create_task(wait()) for _ in range(3)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    open_gate(path)
    results = await asyncio.wait_for(asyncio.gather(*waiting), 20)
    assert [result.output for result in results] == ["TEXT"] * 3
    assert (await handle).output == "TEXT"


async def test_a_cancelled_wait_leaves_the_run_alone(context, tmp_path):
    path = tmp_path / "go"
    handle = await gated.asubmit(str(path), context=context)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(_result(handle), 0.05)
    open_gate(path)
    assert (await asyncio.wait_for(_result(handle), 20)).output == "TEXT"


async def _result(handle):
    return await handle


def test_a_handle_from_elsewhere(context):
    handle = values.typed_dataclass.submit(3, context=context)
    assert handle.result(20).output == values.Point(-3, 3)
    other = context.client.handle(handle.run_id)
    assert other.result(20).output == {"x": -3, "y": 3}  # it knows no types
    assert other.output("mirrored") == {"x": -3, "y": 3}


@pytest.mark.parametrize("run_id", ["0" * 32, "", "no-such-run", "*", "a:nodes"])
def test_a_run_that_is_not_there(context, run_id):
    with pytest.raises(RunNotFound, match="there is no run"):
        context.client.handle(run_id)
    with pytest.raises(RunNotFound):
        context.client.forget(run_id)


def test_forgetting(context, tmp_path):
    path = tmp_path / "go"
    handle = gated.submit(str(path), context=context)
    with pytest.raises(RunStatusError, match="cancel it, or wait for its end"):
        context.client.forget(handle.run_id)
    open_gate(path)
    handle.result(20)
    context.client.forget(handle.run_id)
    for ask in (handle.status, handle.result, handle.progress, handle.cancel, lambda: handle.node("upper")):
        with pytest.raises(RunNotFound):
            ask()


def test_nodes_by_path_and_by_name(context, tmp_path):
    handle = nesting.outer.submit(str(tmp_path / "log"), 1, context=context)
    result = handle.result(20)
    assert handle.node("inner/left") == result.nodes["inner/left"]
    assert handle.output("inner_2/add") == 21
    assert handle.output("inner_2") == 21
    with pytest.raises(KeyError, match=r"'left' names 2 nodes; there are .*inner/left"):
        handle.node("left")
    with pytest.raises(KeyError, match="'nobody' names no nodes"):
        handle.output("nobody")


def test_items_of_maps(context):
    handle = maps.with_optional_total.submit(4, [2], [], context=context)
    result = handle.result(20)
    assert handle.output("picky") == [0, 1, None, 3]
    assert handle.output("picky[1]") == 1
    assert handle.output("picky[2]") is None
    assert handle.node("picky[2]") == result.nodes["picky[2]"]
    assert handle.node("picky[2]").status is NodeStatus.FAILED
    assert handle.node("total_of_some").missing == result.nodes["total_of_some"].missing
    assert handle.progress().total == 1 + 1 + 4 + 1  # numbers, the map, its items, total_of_some
    assert handle.progress().failed == 2  # the item, and the map


@pytest.mark.parametrize("name", ["picky[9]", "picky[x]", "picky[", "numbers[0]", "picky[-1]", "picky[1]x"])
def test_items_that_are_not_there(context, name):
    handle = maps.with_optional_total.submit(4, [], [], context=context)
    handle.result(20)
    with pytest.raises(KeyError, match="names no node"):
        handle.node(name)
    with pytest.raises(KeyError, match="names no node"):
        handle.output(name)


def test_the_progress_of_what_failed(context):
    end = dependencies.parent()
    bad, after = dependencies.step("bad", "fail"), dependencies.step("after")
    skipped = dependencies.step("skipped", "skip")
    bad.register_to(end)
    after.register_to(end, required_deps=[bad])
    skipped.register_to(end, optional=True)
    handle = end.submit({}, context=context)
    handle.result(20)
    progress = handle.progress()
    assert (progress.settled, progress.failed, progress.upstream_failed, progress.skipped) == (4, 1, 2, 1)
    assert progress.share == 1.0


# ── events ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_events_from_the_beginning_to_the_end(context):
    handle = maps.run_time_list.submit(2, context=context)
    handle.result(20)
    events = list(handle.events())
    assert all(isinstance(event, NodeChange) for event in events)
    told = {(event.node, event.status, event.attempt) for event in events}
    names = ["numbers", "double", "double[0]", "double[1]", "total"]
    assert told == {(name, status, 1) for name in names for status in (NodeStatus.RUNNING, NodeStatus.COMPLETED)}
    at = {(event.node, event.status): i for i, event in enumerate(events)}
    assert at["numbers", NodeStatus.COMPLETED] < at["double", NodeStatus.RUNNING]
    assert at["double", NodeStatus.COMPLETED] < at["total", NodeStatus.RUNNING]
    assert all(event.worker.startswith(("w1@", "w2@")) for event in events)


def test_events_as_they_happen(context, tmp_path):
    path = tmp_path / "go"
    handle = gated.submit(str(path), context=context)
    events = handle.events(timeout=20)
    first = next(events)
    assert (first.node, first.status) == ("waits_for_a_file", NodeStatus.RUNNING)
    open_gate(path)
    rest = [(event.node, event.status) for event in events]
    assert rest == [
        ("waits_for_a_file", NodeStatus.COMPLETED),
        ("upper", NodeStatus.RUNNING),
        ("upper", NodeStatus.COMPLETED),
    ]


def test_events_that_do_not_come(context, tmp_path):
    handle = gated.submit(str(tmp_path / "go"), context=context)
    wait_until(lambda: handle.status() is FlowStatus.RUNNING)
    assert [event.node for event in handle.events(timeout=0.2)] == ["waits_for_a_file"]


def test_events_of_a_run_that_is_cancelled(context, tmp_path):
    log = str(tmp_path / "log")
    handle = cancelling.many_slow_items.submit(200, log, context=context)
    wait_until(lambda: len(effects(log)) > 2, 20)
    handle.cancel()
    assert len(list(handle.events())) > 2  # and it ends


# ── from a processor ──────────────────────────────────────────────────────────────────────────────────────────────────


@task
def submits_another(log: str) -> list[int]:
    handle = cancelling.many_slow_items.submit(8, log)
    began = time.monotonic()
    output: list[int] = handle.result(20).output
    assert time.monotonic() - began < 10, "it was not told of the end"
    return output


@flow
def submitting(log: str) -> list[int]:
    return submits_another(log)


def test_a_processor_may_submit_and_wait(context, tmp_path):
    """Here, in a child process of one that waits for runs itself; and in a worker."""
    log = str(tmp_path / "log")
    with use(context):
        assert cancelling.many_slow_items.submit(8, log).result(20).output == list(range(8))
        assert submitting.run(log).output == list(range(8))
        assert submitting.submit(log).result(20).output == list(range(8))


# ── many ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_many_runs_at_once(context):
    handles = [maps.chained.submit(i % 5, context=context) for i in range(60)]
    expected = [sum(range(n)) + n * 2 * sum(range(n)) for n in range(5)]
    assert [handle.result(60).output for handle in handles] == [expected[i % 5] for i in range(60)]


async def test_many_handles_awaited_at_once(context):
    handles = await asyncio.gather(*(maps.chained.asubmit(3, context=context) for _ in range(40)))
    results = await asyncio.wait_for(asyncio.gather(*(_result(handle) for handle in handles)), 60)
    assert {result.output for result in results} == {3 + 3 * 6}
