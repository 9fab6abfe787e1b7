"""Whole flows inside a user's own Celery chains, groups and chords, and runs as Celery canvases of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from celery import Signature, chain, chord, group
from celery.result import AsyncResult

from flowq import FlowStatus, InputError, NodeStatus, RunFailed, UnknownFlowError
from flowq.core.config import Dispatch
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from flowq.testing.keyspace import clear, open_keys, runs
from flowq.testing.rabbitmq import RabbitServer, find_rabbitmq_server
from tests.conformance.engines.effects import by_node, effects
from tests.integration import interop_flows as flows

TIMEOUT_S = 30.0


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def workers(request) -> Iterator[EmbeddedContext]:
    settings: dict[str, Any] = {"renew_s": 0.3, "sweep_s": 0.3}
    with ExitStack() as stack:
        if request.param == "rabbitmq":
            if find_rabbitmq_server() is None:
                pytest.skip("no rabbitmq-server is installed on this machine")
            settings["broker_url"] = stack.enter_context(RabbitServer()).url
        yield stack.enter_context(fleet(2, [flows], settings=settings))


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear(workers)


@pytest.fixture(params=["pull", "canvas"])
def dispatch(request) -> Dispatch:
    found: Dispatch = request.param
    return found


@pytest.fixture
def log(tmp_path) -> str:
    """Where the nodes of a test write down what they did."""
    return str(tmp_path / "effects")


@pytest.fixture
def path(tmp_path) -> Path:
    """What opens a gate, or is written by a task."""
    found: Path = tmp_path / "path"
    return found


class Signatures:
    """Makes the signatures of a test."""

    def __init__(self, context: EmbeddedContext, dispatch: Dispatch) -> None:
        self.app: Any = context.celery_app
        self._options: dict[str, Any] = {"context": context, "dispatch": dispatch}

    def task(self, task: Any, *args: Any, **kwargs: Any) -> Any:
        return self.app.signature(task.name, args=args, kwargs=kwargs)

    def flow(self, flow: Any, *args: Any, **kwargs: Any) -> Any:
        return flow.signature(*args, **kwargs, **self._options)


@pytest.fixture
def sig(context, dispatch) -> Signatures:
    return Signatures(context, dispatch)


def outcome(signature: Any) -> Any:
    return signature.apply_async().get(timeout=TIMEOUT_S)


# --- whole flows as tasks -------------------------------------------------------------------------------------------


def test_a_flow_is_a_task_and_a_run_of_the_same_id(sig, context):
    result = sig.flow(flows.etl, 3).apply_async()
    assert result.get(timeout=TIMEOUT_S) == 13
    assert AsyncResult(result.id, app=sig.app).get(timeout=TIMEOUT_S) == 13
    run = context.client.handle(result.id).result(TIMEOUT_S)
    assert (run.status, run.output, len(run.nodes)) == (FlowStatus.COMPLETED, 13, 5)
    assert runs(context) == [result.id]


def test_in_a_chain(sig):
    flow = sig.flow(flows.etl)
    assert outcome(chain(sig.task(flows.tenfold, 2), flow, sig.task(flows.ended))) == ["ended", 64]


def test_keyword_arguments(sig):
    assert outcome(sig.flow(flows.etl, x=3, add=100)) == 113
    assert outcome(chain(sig.task(flows.tenfold, 2), sig.flow(flows.etl, add=100))) == 164


def test_two_flows_in_a_chain(sig, context):
    assert outcome(chain(sig.flow(flows.etl, 1), sig.flow(flows.etl), sig.task(flows.ended))) == ["ended", 25]
    assert len(runs(context)) == 2


def test_what_failed_ends_the_chain(sig, path):
    last = sig.task(flows.write_down, path=str(path))
    result = chain(sig.task(flows.tenfold, 2), sig.flow(flows.bad), last).apply_async()
    for part in (result.parent, result):  # Celery says of all that would have followed that it has failed too
        with pytest.raises(RunFailed, match=r"'bad' failed; node 'broken': ValueError: the model is down"):
            part.get(timeout=TIMEOUT_S)
    assert not path.exists()


def test_in_the_header_of_a_chord(sig):
    header = [sig.flow(flows.etl, 1), sig.task(flows.tenfold, 5), sig.flow(flows.etl, 2)]
    assert outcome(chord(header, sig.task(flows.collected))) == ["collected", [7, 50, 10]]


def test_a_failure_in_the_header_of_a_chord(sig):
    header = [sig.flow(flows.etl, 1), sig.flow(flows.bad, 2)]
    with pytest.raises(Exception, match=r"node 'broken': ValueError: the model is down"):
        outcome(chord(header, sig.task(flows.collected)))


def test_before_a_chord(sig):
    header = [sig.task(flows.tenfold), sig.task(flows.tenfold)]
    assert outcome(chain(sig.flow(flows.etl, 1), chord(header, sig.task(flows.collected)))) == ["collected", [70, 70]]


def test_as_the_body_of_a_chord(sig):
    body = chain(sig.task(flows.collected), sig.task(flows.ended))
    header = [chain(sig.task(flows.tenfold, 1), sig.flow(flows.etl)), sig.flow(flows.etl, 1)]
    assert outcome(chord(header, body)) == ["ended", ["collected", [34, 7]]]
    given = sig.flow(flows.etl, 1).set(immutable=True)
    assert outcome(chord([sig.task(flows.tenfold, 1), sig.task(flows.tenfold, 2)], given)) == 7


def test_in_a_group(sig):
    assert outcome(group([sig.flow(flows.etl, i) for i in range(4)])) == [4, 7, 10, 13]


def test_nested(sig):
    inner = chord([sig.flow(flows.etl, 1), sig.flow(flows.etl, 2)], sig.task(flows.collected))
    outer = chord([chain(inner, sig.task(flows.ended)), sig.flow(flows.etl, 0)], sig.task(flows.collected))
    assert outcome(outer) == ["collected", [["ended", ["collected", [7, 10]]], 4]]


def test_an_immutable_signature_ignores_what_came_before(sig):
    flow = sig.flow(flows.etl, 3).set(immutable=True)
    assert outcome(chain(sig.task(flows.tenfold, 2), flow, sig.task(flows.ended))) == ["ended", 13]


def test_the_class_form_merges_the_mapping_that_came_before(sig):
    given = sig.flow(flows.scaled, {"rows": [1, 2], "factor": 2})
    assert outcome(given) == {"rows": [2, 4]}
    merged = sig.flow(flows.scaled, {"factor": 3}, offset=1)  # later ones win
    assert outcome(chain(sig.task(flows.rows_of, 3), merged)) == {"rows": [1, 4, 7]}


def test_links(sig, path, tmp_path):
    result = sig.flow(flows.etl, 3).apply_async(link=sig.task(flows.write_down, path=str(path)))
    assert result.get(timeout=TIMEOUT_S) == 13
    wait_until(lambda: path.exists() and path.read_text() == "13", TIMEOUT_S)
    told = tmp_path / "told"
    error = sig.task(flows.write_error_down, path=str(told))
    result = sig.flow(flows.bad, 3).apply_async(link_error=error)
    with pytest.raises(RunFailed):
        result.get(timeout=TIMEOUT_S)
    wait_until(lambda: told.exists() and told.read_text().startswith("RunFailed: run "), TIMEOUT_S)
    assert "node 'broken': ValueError: the model is down" in told.read_text()


def test_links_on_error_of_a_chain(sig, path):
    last = chain(sig.flow(flows.bad, 1), sig.task(flows.ended))
    last.apply_async(link_error=sig.task(flows.write_error_down, path=str(path)))
    wait_until(lambda: path.exists() and path.read_text().startswith("RunFailed: run "), TIMEOUT_S)


def test_input_that_does_not_fit(sig, context):
    with pytest.raises(InputError, match="input 'x' cannot be used"):
        outcome(sig.flow(flows.etl, "three"))
    with pytest.raises(InputError, match="takes"):
        outcome(sig.flow(flows.etl, 1, 2, 3))
    with pytest.raises(InputError, match="the arguments cannot be sent as JSON"):
        sig.flow(flows.etl, object())
    assert runs(context) == []


def test_an_unknown_flow(context):
    with pytest.raises(UnknownFlowError, match="does not know the flow 'nobody'; add its module to FLOWQ_INCLUDE"):
        outcome(context.client.signature("nobody", "", [], {}, None))


def test_a_cancelled_run_fails_the_task(sig, context, path, log):
    ended = path.with_name("ended")
    last = sig.task(flows.write_down, path=str(ended))
    result = chain(sig.flow(flows.gated, 1, str(path), log), last).apply_async()
    wait_until(lambda: effects(log), TIMEOUT_S)
    assert context.client.handle(result.parent.id).cancel() is FlowStatus.CANCELLED
    with pytest.raises(RunFailed, match="'gated' was cancelled"):
        result.parent.get(timeout=TIMEOUT_S)
    assert not ended.exists()
    assert [effect.node for effect in effects(log)] == ["gate"]


# --- runs as canvases -----------------------------------------------------------------------------------------------


def test_a_canvas_ends_with_the_result_of_its_run(context):
    canvas = flows.etl.canvas(4, context=context)
    assert isinstance(canvas, Signature)
    (run,) = runs(context)
    assert context.client.handle(run).status() is FlowStatus.PENDING  # it waits until somebody applies it
    result = canvas.apply_async()
    assert result.id == run
    assert result.get(timeout=TIMEOUT_S) == 16
    assert context.client.handle(run).result(TIMEOUT_S).output == 16


def test_a_canvas_that_is_applied_twice_is_one_run(context, log):
    canvas = flows.counted.canvas(4, log, context=context)
    results = [canvas.apply_async() for _ in range(2)]
    assert [result.get(timeout=TIMEOUT_S) for result in results] == [8, 8]
    assert outcome(canvas) == 8  # also when it has ended
    (run,) = runs(context)
    assert {name: len(found) for name, found in by_node(log, run, "start").items()} == dict.fromkeys(
        ("noted", "noted_2", "noted_3"), 1
    )


def test_a_canvas_that_fails(context):
    result = flows.bad.canvas(4, context=context).apply_async()
    with pytest.raises(RunFailed, match=r"node 'broken': ValueError: the model is down"):
        AsyncResult(result.id, app=context.celery_app).get(timeout=TIMEOUT_S)
    with pytest.raises(ValueError, match="the model is down"):
        result.get(timeout=TIMEOUT_S)  # Celery looks at what came before first
    found = context.client.handle(result.id).result(TIMEOUT_S)
    assert [node.status for node in found.nodes.values()] == [
        NodeStatus.COMPLETED,
        NodeStatus.FAILED,
        NodeStatus.UPSTREAM_FAILED,
    ]


def test_a_canvas_with_a_failure_that_its_run_can_do_without(context):
    assert outcome(flows.tolerant.canvas(4, context=context)) == [5, None]


def test_a_canvas_in_a_chain(context):
    ended = context.celery_app.signature(flows.ended.name)
    assert outcome(chain(flows.etl.canvas(4, context=context), ended)) == ["ended", 16]
    assert outcome(chain(flows.scaled.canvas({"rows": [5]}, context=context), ended)) == ["ended", {"rows": [5]}]


def test_canvases_in_a_chord(context):
    collected = context.celery_app.signature(flows.collected.name)
    header = [flows.etl.canvas(x, context=context) for x in (1, 2)]
    assert outcome(chord(header, collected)) == ["collected", [7, 10]]


def test_a_canvas_that_is_never_applied_leaves_nothing_for_ever(context):
    client = State.of(context).client
    flows.etl.canvas(4, context=context)
    (run,) = runs(context)
    assert open_keys(context) == []
    assert client.exists(f"flowq:run:{run}", f"flowq:run:{run}:due") == 2
