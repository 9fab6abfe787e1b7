"""The Celery app of the deployment, and a Celery app that a team already has."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flowq import FlowContext, Settings
from flowq.runtime.state import State
from flowq.standalone import EmbeddedServer, WorkerProcesses
from flowq.testing import wait_until
from tests.conformance.engines.flows import maps

TEAM = """
import os
from celery import Celery
from flowq import FlowContext, flow, task

app = Celery("team", broker=os.environ["TEAM_BROKER"], backend=os.environ["TEAM_BROKER"])
app.conf.task_default_queue = "team"
app.conf.worker_prefetch_multiplier = 7
app.conf.broker_connection_retry_on_startup = True
before = app.conf.table(with_defaults=True), set(app.tasks)
context = FlowContext(celery_app=app)

@app.task
def own(x):
    return x + 1

@task
def double(x: int) -> int:
    return 2 * x

@flow(context=context)
def doubled(x: int) -> int:
    return double(double(x))

@app.task
def starts_a_flow(x):
    return doubled.submit(x).run_id
"""


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


@contextmanager
def celery_worker(app: str, context: FlowContext, env: dict[str, str], *options: str) -> Iterator[WorkerProcesses]:
    argv = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", "{name}@test", "-c", "1", *options]
    state = State.of(context)

    def ready() -> set[str]:
        return {name.decode().partition("@")[0] for name in state.client.zrange(state.keys.workers, 0, -1)}

    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    with WorkerProcesses(1, argv, ready=ready, env={"PYTHONPATH": path, **env}) as started:
        started.wait_ready(30)
        yield started
        started.stop(grace_s=0)  # nothing runs any more


def test_the_app_of_the_deployment_as_it_is(server):
    """`celery -A workers.app worker`, with nothing but FLOWQ_* variables."""
    context = FlowContext(Settings(broker_url=server.url, state_url=server.redis_url))
    env = {
        "FLOWQ_BROKER_URL": server.url,
        "FLOWQ_STATE_URL": server.redis_url,
        "FLOWQ_INCLUDE": f"workers.flows,{maps.__name__}",
    }
    with celery_worker("workers.app", context, env):
        assert maps.chained.submit(4, context=context).result(30).output == 6 + 4 * 12
    context.close()


def test_the_broker_alone_says_where_the_state_is(server):
    """FLOWQ_BROKER_URL is enough if the broker is Redis, also on a socket with a number of its own."""
    url = server.url.replace("virtual_host=0", "virtual_host=5")
    context = FlowContext(Settings(broker_url=url))
    env = {"FLOWQ_BROKER_URL": url, "FLOWQ_INCLUDE": maps.__name__}
    with celery_worker("workers.app", context, env):
        assert maps.chained.submit(4, context=context).result(30).output == 6 + 4 * 12
        assert context.service("state").client.connection_pool.connection_kwargs["db"] == 5
    context.close()


@pytest.fixture
def team(server, tmp_path, monkeypatch):
    (tmp_path / "team_app.py").write_text(TEAM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TEAM_BROKER", server.url)
    monkeypatch.setenv("FLOWQ_INCLUDE", "team_app")
    module = importlib.import_module("team_app")
    yield module
    module.context.close()
    module.app.close()
    del sys.modules["team_app"]


def test_an_app_that_a_team_already_has(team, server, tmp_path):
    context = team.context
    assert context.celery_app is team.app
    assert team.app.conf.table(with_defaults=True) == team.before[0]  # its configuration is left alone
    own = {"flowq.drain", "flowq.flow", "flowq.join", "flowq.result"}
    assert set(team.app.tasks) - team.before[1] == {*own, "team_app.own", "team_app.starts_a_flow"}
    assert context.settings.queue == "team"
    env = {"TEAM_BROKER": server.url, "FLOWQ_INCLUDE": "team_app"}
    with celery_worker("team_app", context, env):
        assert team.doubled.submit(3).result(30).output == 12
        assert team.own.delay(1).get(timeout=30) == 2  # its own tasks go on
        run = team.starts_a_flow.delay(5).get(timeout=30)
        assert context.client.handle(run).result(30).output == 20


def test_a_worker_says_goodbye(server):
    context = FlowContext(Settings(broker_url=server.url, state_url=server.redis_url))
    state = State.of(context)
    with celery_worker("workers.app", context, {"FLOWQ_BROKER_URL": server.url}) as workers:
        assert state.client.hgetall("flowq:queue:flowq:slots") != {}
        workers.stop()  # SIGTERM
    wait_until(lambda: not state.client.exists(state.keys.workers, "flowq:queue:flowq:slots"), 5)
    context.close()
