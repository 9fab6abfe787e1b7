"""Whole flows inside a user's own Celery chains, groups and chords, and runs as Celery canvases of their own."""

from __future__ import annotations

import importlib
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Signature, chain, chord, group
from celery.result import AsyncResult

from flowq import FlowContext, FlowResult, FlowStatus, InputError, NodeStatus, RunFailed, Settings, UnknownFlowError
from flowq.core.config import Dispatch
from flowq.core.types import FailureKind
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext, EmbeddedServer
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from flowq.testing.keyspace import open_keys, runs
from flowq.testing.rabbitmq import RabbitServer, find_rabbitmq_server
from tests.conformance.engines.effects import by_node, effects
from tests.conformance.leftovers import clear_now
from tests.integration import interop_fleets
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
    clear_now(workers)


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
    with ThreadPoolExecutor() as pool:  # somebody waits in the same process
        waiting = pool.submit(result.parent.get, timeout=TIMEOUT_S)
        assert context.client.handle(result.parent.id).cancel() is FlowStatus.CANCELLED
        with pytest.raises(RunFailed, match="'gated' was cancelled"):
            waiting.result()
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
    with pytest.raises(RunFailed, match="the model is down"):
        result.get(timeout=TIMEOUT_S)
    found = context.client.handle(result.id).result(TIMEOUT_S)
    assert [node.status for node in found.nodes.values()] == [
        NodeStatus.COMPLETED,
        NodeStatus.FAILED,
        NodeStatus.UPSTREAM_FAILED,
    ]


def test_a_canvas_goes_by_its_run(context, tmp_path):
    """A node has failed that the run can do without."""
    app, path = context.celery_app, tmp_path / "error"
    told = app.signature(flows.write_error_down.name, kwargs={"path": str(path)})
    canvas = chain(flows.tolerant.canvas(4, context=context), app.signature(flows.ended.name))
    assert canvas.apply_async(link_error=told).get(timeout=TIMEOUT_S) == ["ended", [5, None]]
    assert not path.exists()


def test_what_follows_a_canvas_that_fails(context, tmp_path):
    app, path = context.celery_app, tmp_path / "error"
    told = app.signature(flows.write_error_down.name, kwargs={"path": str(path)})
    canvas = chain(flows.bad.canvas(4, context=context), app.signature(flows.ended.name))
    result = canvas.apply_async(link_error=told)
    with pytest.raises(RunFailed, match="the model is down"):
        result.get(timeout=TIMEOUT_S)
    wait_until(path.exists, TIMEOUT_S)


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


# --- other workers --------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


@contextmanager
def team_with(monkeypatch: pytest.MonkeyPatch, server: EmbeddedServer, backend: str | None) -> Iterator[Any]:
    """Give the team's module, with two workers; one of them is for the queue ``elsewhere``."""
    module = f"{__package__ or 'tests.integration'}.interop_team"
    env = {"TEAM_BROKER": server.url, "FLOWQ_INCLUDE": module, "FLOWQ_SWEEP_S": "0.3"}
    env |= {"TEAM_BACKEND": backend} if backend else {}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delitem(sys.modules, module, raising=False)
    team = importlib.import_module(module)
    try:
        commands = [interop_fleets.of_app(module), interop_fleets.of_app(module, "-Q", "elsewhere")]
        with interop_fleets.workers(team.context, commands, env):
            yield team
    finally:
        team.context.close()
        team.app.close()
        monkeypatch.delitem(sys.modules, module)


def workers_of(result: FlowResult) -> dict[str, str]:
    return {name: (node.worker or "").partition("@")[0] for name, node in result.nodes.items()}


def resent(context: FlowContext, run: str) -> Any:
    """Give how many messages of a canvas were taken for lost; None: none."""
    state = State.of(context)
    return state.client.hget(state.keys.run(run), "lost")


def test_an_app_that_a_team_already_has(server, monkeypatch):
    with team_with(monkeypatch, server, server.url) as team:
        assert team.app.conf.table(with_defaults=True) == team.before[0]  # its configuration is left alone
        added = {name for name in set(team.app.tasks) - team.before[1] if not name.startswith(team.__name__)}
        assert added == {"flowq.drain", "flowq.flow", "flowq.result", "flowq.join"}
        for dispatch in ("pull", "canvas"):
            assert team.diamond.submit(3, dispatch=dispatch).result(TIMEOUT_S).output == 14
            flow = team.diamond.signature(dispatch=dispatch)
            assert outcome(chain(team.own.s(2), flow, team.own.s())) == 15
        handle = team.diamond.submit(3, dispatch="canvas")
        assert workers_of(handle.result(TIMEOUT_S)) == dict.fromkeys(
            ("plain", "plain_2", "limited", "plain_3"), "w1"
        ) | {"routed": "w2"}
        assert resent(team.context, handle.run_id) is None
        registered = team.app.control.inspect(["w1@test"], timeout=5).registered("rate_limit")
        assert f"{team.__name__}:limited [rate_limit=600/m]" in registered["w1@test"]
        result = team.stopped.submit(1, dispatch="canvas").result(TIMEOUT_S)
        assert result.failures["endless"].type.endswith("SoftTimeLimitExceeded")


def test_an_app_without_result_backend(server, monkeypatch):
    with team_with(monkeypatch, server, None) as team:
        handles = [team.diamond.submit(3, dispatch="canvas") for _ in range(2)]
        assert [handle.result(TIMEOUT_S).output for handle in handles] == [14, 14]
        assert [resent(team.context, handle.run_id) for handle in handles] == [None, None]


def recorded(context: FlowContext, run: str) -> Counter[str]:
    """Give how often each node was recorded as completed."""
    state = State.of(context)
    return Counter(key for key, status, *_ in state.told(run) if key != "run" and status == "completed")


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_one_worker_of_two_does_not_know_the_module(server, dispatch, log):
    settings = Settings(broker_url=server.url, state_url=server.redis_url, sweep_s=0.3)
    with closing(FlowContext(settings)) as context:
        env = {"FLOWQ_BROKER_URL": server.url, "FLOWQ_STATE_URL": server.redis_url, "FLOWQ_SWEEP_S": "0.3"}
        commands = [interop_fleets.including(flows.__name__), interop_fleets.including()]
        with interop_fleets.workers(context, commands, env):
            handles = [flows.counted.submit(i, log, context=context, dispatch=dispatch) for i in range(3)]
            results = [handle.result(TIMEOUT_S) for handle in handles]
        assert [result.output for result in results] == [2 * i for i in range(3)]
        for result in results:
            assert set(workers_of(result).values()) == {"w1"}
            found = by_node(log, result.run_id, "start")
            assert {name: len(times) for name, times in found.items()} == dict.fromkeys(found, 1)
            assert recorded(context, result.run_id) == {"0": 1, "1": 1, "2": 1, "3": 1}


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_no_worker_knows_the_module(server, dispatch):
    given = {"broker_url": server.url, "state_url": server.redis_url, "sweep_s": 0.2, "unknown_s": 1}
    with closing(FlowContext(Settings(**given))) as context:
        env = {f"FLOWQ_{name.upper()}": str(value) for name, value in given.items()}
        with interop_fleets.workers(context, [interop_fleets.including()] * 2, env):
            result = flows.etl.submit(1, context=context, dispatch=dispatch).result(TIMEOUT_S)
    assert result.status is FlowStatus.FAILED
    assert {name: failure.kind for name, failure in result.failures.items()} == {"inc": FailureKind.UNKNOWN_PROCESSOR}
