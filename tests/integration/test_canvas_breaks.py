"""Canvases whose messages are lost, doubled or forged, whose workers die, and whose nodes fail: each run ends as it
should, and every outcome is recorded once."""

from __future__ import annotations

import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery.result import AsyncResult

from flowq import FlowStatus, NodeStatus
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.engines.effects import by_node, effects
from tests.conformance.engines.flows import digests, maps
from tests.conformance.engines.shapes import Shape, blast, chain, evaluate, fork_join, montage
from tests.conformance.leftovers import clear_now
from tests.integration import canvas_flows as flows

TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def quick() -> Iterator[EmbeddedContext]:
    """Workers that take messages for lost after half a second."""
    settings = {"lease_s": 1.5, "renew_s": 0.3, "sweep_s": 0.2}
    with fleet(2, [flows], settings=settings, events=True) as started:
        yield started


@pytest.fixture(scope="module")
def patient() -> Iterator[EmbeddedContext]:
    """Workers that take no message for lost before a test is over."""
    with fleet(2, [flows, digests, maps], settings={"lease_s": 120, "sweep_s": 0.2}) as started:
        yield started


@pytest.fixture
def context(quick) -> Iterator[EmbeddedContext]:
    yield quick
    clear_now(quick)


@pytest.fixture
def calm(patient) -> Iterator[EmbeddedContext]:
    yield patient
    clear_now(patient)


@pytest.fixture
def log(tmp_path) -> str:
    """Where the nodes of a test write down what they did."""
    return str(tmp_path / "effects")


class Queue:
    """A queue of the broker that no worker consumes before ``open``."""

    def __init__(self, context: EmbeddedContext) -> None:
        self.name = f"held-{uuid.uuid4().hex[:8]}"
        self.client = State.of(context).client
        self._control = context.celery_app.control

    def wait(self, count: int) -> None:
        wait_until(lambda: self.client.llen(self.name) >= count, TIMEOUT_S, lambda: self.client.llen(self.name))

    def open(self) -> None:
        replies = self._control.add_consumer(self.name, reply=True, limit=2, timeout=10)
        assert len(replies) == 2, replies


@pytest.fixture
def queue(context) -> Queue:
    return Queue(context)


def starts(log: str, run: str) -> dict[str, int]:
    return {name: len(found) for name, found in by_node(log, run, "start").items()}


def completions(context: EmbeddedContext, run: str) -> Counter[str]:
    """Give how often each node was recorded as completed."""
    state = State.of(context)
    return Counter(key for key, status, *_ in state.told(run) if key != "run" and status == "completed")


def lost(context: EmbeddedContext, run: str) -> int:
    """Give how many messages were taken for lost."""
    state = State.of(context)
    return int(state.client.hget(state.keys.run(run), "lost") or 0)


def check_once(context: EmbeddedContext, handle: Any, log: str) -> None:
    """Check that every node is recorded once, and has run at least once."""
    nodes = handle.result(TIMEOUT_S).nodes
    assert completions(context, handle.run_id) == {str(i): 1 for i in range(len(nodes))}
    assert starts(log, handle.run_id).keys() == nodes.keys()


# --- messages -------------------------------------------------------------------------------------------------------


def test_the_message_of_a_node_is_lost(context, queue, log):
    handle = flows.line(queue.name).submit(1, log, context=context, dispatch="canvas")
    queue.wait(1)
    assert queue.client.delete(queue.name) == 1
    queue.open()
    assert handle.result(TIMEOUT_S).output == 4
    assert lost(context, handle.run_id) >= 1
    check_once(context, handle, log)


def test_the_first_message_of_a_run_is_lost(context, queue, log):
    handle = flows.cancelled(queue.name).submit(1, log, context=context, dispatch="canvas")
    queue.wait(1)
    assert queue.client.delete(queue.name) == 1
    queue.wait(1)  # it was sent again
    assert lost(context, handle.run_id) >= 1


@pytest.mark.parametrize("is_redelivered", [True, False])
def test_a_message_is_delivered_twice(context, queue, log, is_redelivered):
    handle = flows.fork(queue.name).submit(1, log, context=context, dispatch="canvas")
    queue.wait(2)
    for text in queue.client.lrange(queue.name, 0, -1):
        message = json.loads(text)
        if not is_redelivered:
            message["properties"]["delivery_tag"] = str(uuid.uuid4())
        queue.client.rpush(queue.name, json.dumps(message))
    queue.open()
    assert handle.result(TIMEOUT_S).output == 10
    check_once(context, handle, log)


def test_the_message_of_a_chord_part_is_lost(context, queue, log):
    handle = flows.fork(queue.name).submit(1, log, context=context, dispatch="canvas")
    queue.wait(2)
    assert queue.client.rpop(queue.name)
    queue.open()
    assert handle.result(TIMEOUT_S).output == 10
    assert lost(context, handle.run_id) >= 1
    check_once(context, handle, log)


def test_the_keys_in_which_celery_counts_a_chord_are_lost(context, queue, log):
    handle = flows.fork(queue.name).submit(1, log, context=context, dispatch="canvas")
    queue.wait(2)
    wait_until(lambda: handle.node("part0").status is NodeStatus.COMPLETED, TIMEOUT_S)

    def counted() -> list[bytes]:
        return list(queue.client.scan_iter("flowq:celery:*taskset*", count=1000))

    queue.client.delete(*wait_until(counted, TIMEOUT_S))
    queue.open()
    assert handle.result(TIMEOUT_S).output == 10
    check_once(context, handle, log)


def test_a_worker_is_killed_while_it_runs_a_node(context, log):
    handle = flows.killed.submit(1, log, context=context, dispatch="canvas")
    wait_until(lambda: "never_done_at_first" in starts(log, handle.run_id), TIMEOUT_S)
    worker = int((handle.node("never_done_at_first").worker or "")[1])  # w1@host/pid, w2@host/pid
    context.workers.kill(worker)
    try:
        result = handle.result(TIMEOUT_S)
    finally:
        context.workers.restart(worker)
        context.workers.wait_ready()
    assert result.output == 3
    assert result.nodes["never_done_at_first"].attempt == 2
    check_once(context, handle, log)


# --- forged messages ------------------------------------------------------------------------------------------------


def forged(run: str) -> list[Any]:
    """Give arguments that no canvas has sent; a node's key is "1" in a run of two."""
    wrong = ["99", "-1", "1.0", "0.5", "x", "", "1 1", "1" * 400]
    odd: list[Any] = [(), (run,), (None, None), (7, 1), ({"a": 1}, ["b"]), ([], {}), (run, 1), (run, None), (True, "1")]
    return [*odd, ("nobody", "1"), ("nobody:nodes", "1"), (f"{run}:events", "1"), *((run, key) for key in wrong)]


def test_forged_messages(context, queue, log, tmp_path):
    """Nothing runs that should not, and the workers live on."""
    app, name = context.celery_app, f"{flows.__name__}:step"
    path = tmp_path / "go"
    handle = flows.gated.submit(1, str(path), log, context=context, dispatch="canvas")
    ended = flows.line().submit(1, log, context=context)
    assert ended.result(TIMEOUT_S).output == 4
    wait_until(lambda: starts(log, handle.run_id), TIMEOUT_S)
    before = starts(log, ended.run_id)
    # On a queue of their own: the first message of the queue after them shows that they have been read.
    for args in [*forged(handle.run_id), *forged(ended.run_id), (handle.run_id, "1"), (ended.run_id, "1")]:
        app.send_task(name, args=args, queue=queue.name)
        if len(args) == 2:
            app.send_task("nobody:knows", args=args, queue=queue.name, task_id=f"{args[0]}.{args[1]}")
    for kwargs in ({}, {"flow": 1}, {"flow": ["a"], "args": 7}, {"run": 1}):
        for task in ("flowq.flow", "flowq.result", "flowq.join", "flowq.drain"):
            app.send_task(task, kwargs=kwargs, queue=queue.name)
    queue.open()
    wait_until(lambda: not queue.client.llen(queue.name), TIMEOUT_S)
    assert starts(log, handle.run_id) == {"gate": 1}
    path.touch()
    assert handle.result(TIMEOUT_S).output == 2
    check_once(context, handle, log)
    assert starts(log, ended.run_id) == before
    assert flows.line(queue.name).submit(1, log, context=context, dispatch="canvas").result(TIMEOUT_S).output == 4
    assert all(process.alive for process in context.workers.processes)


# --- what Celery shows ----------------------------------------------------------------------------------------------


@contextmanager
def events_of(context: EmbeddedContext) -> Iterator[Callable[[str, str], list[str]]]:
    """Listen as Flower does; gives what tells the events of a node's task, by the run's id and the node's key."""
    app = context.celery_app
    found: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": found.append})
        listening = threading.Thread(target=receiver.capture, kwargs={"limit": None, "wakeup": False}, daemon=True)
        listening.start()
        with app.events.default_dispatcher() as dispatcher:
            wait_until(lambda: dispatcher.send("test-listening") or found, TIMEOUT_S)
        try:
            # What was sent outside of its segment has an id of its own: the node's, and four bytes more.
            yield lambda run, key: [
                event["type"]
                for event in found
                if event.get("uuid") == f"{run}.{key}" or str(event.get("uuid")).startswith(f"{run}.{key}.")
            ]
        finally:
            receiver.should_stop = True
            listening.join(5)


def state_of(context: EmbeddedContext, run: str, key: str) -> str:
    return str(AsyncResult(f"{run}.{key}", app=context.celery_app).state)


def test_a_node_fails(context, log):
    with events_of(context) as events:
        handle = flows.fails_in_the_middle.submit(1, log, context=context, dispatch="canvas")
        result = handle.result(TIMEOUT_S)
        assert (result.status, result.output) == (FlowStatus.COMPLETED, [2, None])
        assert {name: node.status for name, node in result.nodes.items()} == {
            "first": NodeStatus.COMPLETED,
            "broken": NodeStatus.FAILED,
            "after": NodeStatus.UPSTREAM_FAILED,
            "either": NodeStatus.COMPLETED,
        }
        keys = {name: str(key) for key, name in enumerate(result.nodes)}
        wait_until(lambda: "task-failed" in events(handle.run_id, keys["broken"]), TIMEOUT_S)
        wait_until(lambda: "task-succeeded" in events(handle.run_id, keys["either"]), TIMEOUT_S)
        assert events(handle.run_id, keys["either"]).count("task-succeeded") == 1, "Celery alone tells of it"
    assert state_of(context, handle.run_id, keys["broken"]) == "FAILURE"
    failure = AsyncResult(f"{handle.run_id}.{keys['broken']}", app=context.celery_app)
    assert (type(failure.result), str(failure.result)) == (ValueError, "told to fail")
    assert starts(log, handle.run_id) == {"first": 1, "broken": 1, "either": 1}


def test_a_node_is_skipped(context, log):
    with events_of(context) as events:
        handle = flows.skips.submit(1, log, context=context, dispatch="canvas")
        result = handle.result(TIMEOUT_S)
        assert (result.status, result.output) == (FlowStatus.COMPLETED, [2, None])
        assert result.nodes["nothing"].status is NodeStatus.SKIPPED
        key = str(list(result.nodes).index("nothing"))
        wait_until(lambda: "task-succeeded" in events(handle.run_id, key), TIMEOUT_S)
        assert "task-failed" not in events(handle.run_id, key)
    assert starts(log, handle.run_id) == {"first": 1, "nothing": 1, "either": 1}


def test_a_run_is_cancelled(context, queue, log):
    with events_of(context) as events:
        handle = flows.cancelled(queue.name).submit(1, log, context=context, dispatch="canvas")
        queue.wait(1)
        wait_until(lambda: starts(log, handle.run_id), TIMEOUT_S)
        assert handle.cancel() is FlowStatus.CANCELLED
        queue.open()
        wait_until(lambda: by_node(log, handle.run_id, "stopped"), TIMEOUT_S)
        parts = ("0", "1")
        wait_until(lambda: all("task-revoked" in events(handle.run_id, key) for key in parts), TIMEOUT_S)
        wait_until(lambda: {state_of(context, handle.run_id, key) for key in parts} == {"REVOKED"}, TIMEOUT_S)
    assert starts(log, handle.run_id) == {"endless": 1}
    assert {node.status for node in handle.result(TIMEOUT_S).nodes.values()} == {NodeStatus.CANCELLED}


def test_a_retry_keeps_the_canvas(calm, log):
    handle = flows.lucky.submit(1, log, context=calm, dispatch="canvas")
    seen = set()

    def is_over() -> bool:
        seen.add(state_of(calm, handle.run_id, "1"))
        return handle.status().is_final

    wait_until(is_over, TIMEOUT_S)
    assert "RETRY" in seen
    assert handle.result().output == 3
    assert lost(calm, handle.run_id) == 0
    assert starts(log, handle.run_id) == {"first": 1, "third_time_lucky": 3, "last": 1}


# --- nothing is broken ----------------------------------------------------------------------------------------------


def nested(fan: int = 4) -> Shape:
    shape: Shape = {"top": []}
    for i in range(fan):
        inner = [f"leaf{i}x{j}" for j in range(fan)]
        shape |= {f"split{i}": ["top"], **{name: [f"split{i}"] for name in inner}, f"join{i}": inner}
    return shape | {"bottom": [f"join{i}" for i in range(fan)]}


SHAPES: dict[str, Shape] = {
    "chain": chain(30),
    "fork-join": fork_join(20),
    "nested chords": nested(),
    "40 x 2": blast(40, 2),
    "N": {"a": [], "b": [], "c": ["a"], "d": ["a", "b"], "e": ["c", "d"]},
    "Montage": montage(6),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_healthy_run_needs_no_help(calm, log, shape):
    handle = digests.as_class_form(shape).submit({"log": log}, context=calm, dispatch="canvas")
    assert handle.result(TIMEOUT_S).output == evaluate(shape)
    assert lost(calm, handle.run_id) == 0
    assert starts(log, handle.run_id) == dict.fromkeys(shape, 1)


def test_no_worker_has_died(quick, patient):
    for started in (quick, patient):
        assert all(process.alive for process in started.workers.processes)


def test_a_canvas_object_whose_message_is_lost(context, queue, log):
    result = flows.line(queue.name).canvas(1, log, context=context).apply_async()
    queue.wait(1)
    queue.client.delete(queue.name)
    queue.open()
    assert result.get(timeout=TIMEOUT_S, follow_parents=False) == 4


def test_a_retried_node_ends_as_a_success(calm, log):
    handle = flows.lucky.submit(1, log, context=calm, dispatch="canvas")
    assert handle.result(TIMEOUT_S).status is FlowStatus.COMPLETED
    result = AsyncResult(f"{handle.run_id}.1", app=calm.celery_app)
    wait_until(lambda: result.state == "SUCCESS", TIMEOUT_S, lambda: result.state)


def test_healthy_maps_need_no_help(calm, log):
    handle = maps.chained.submit(4, context=calm, dispatch="canvas")
    assert handle.result(TIMEOUT_S).output == 6 + 4 * 12
    noted = maps.many_noted.submit(50, log, context=calm, dispatch="canvas")
    assert noted.result(TIMEOUT_S).output == sum(range(50))
    assert len(effects(log)) == 50
    assert [lost(calm, run.run_id) for run in (handle, noted)] == [0, 0]


def test_a_map_gives_its_lease_up_while_it_sends():
    settings = {"lease_s": 120, "renew_s": 0.02, "sweep_s": 0.2}
    with fleet(2, [maps], settings=settings) as context:
        handle = maps.run_time_list.submit(1500, context=context, dispatch="canvas")
        assert handle.result(TIMEOUT_S).output == 1500 * 1499
        assert lost(context, handle.run_id) == 0


def test_a_producer_keeps_nothing_of_what_it_has_published(calm, log):
    backend = calm.celery_app.backend
    before = len(backend.result_consumer.subscribed_to)
    shape = blast(40)
    handle = digests.as_class_form(shape).submit({"log": log}, context=calm, dispatch="canvas")
    assert handle.result(TIMEOUT_S).status is FlowStatus.COMPLETED
    assert len(backend.result_consumer.subscribed_to) == before
