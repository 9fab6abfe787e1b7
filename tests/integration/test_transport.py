"""Workers on flowq's own transport: beside Celery's, through restarts of Redis, and when they are killed."""

from __future__ import annotations

import importlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from celery import Celery

from flowq import FlowContext, Settings
from flowq.runtime.app import make_app
from flowq.runtime.transport import quarantine
from flowq.standalone import EmbeddedContext, EmbeddedServer, WorkerProcesses
from flowq.testing import wait_until
from tests.conformance.engines.flows import maps
from tests.conformance.leftovers import clear_now
from tests.integration import interop_fleets
from tests.integration.eager_fleets import client_of, consumers, eager, pids

AWAY_S = 30 if os.environ.get("FLOWQ_THOROUGH") else 3
BACK_S = 10


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    with eager() as started:
        yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear_now(workers)


def test_it_is_what_workers_use(context):
    wait_until(lambda: len(consumers(context)) == 2, 10, lambda: consumers(context))
    assert maps.chained.submit(4, context=context).result(30).output == 54
    assert client_of(context).keys("unacked*") == []


def test_remote_control_goes_on(context):
    app = context.celery_app
    everybody = {"timeout": 5, "limit": len(pids(context))}  # else it would listen for so long in any case
    assert sorted(app.control.inspect(**everybody).ping()) == sorted(
        name for reply in app.control.ping(**everybody) for name in reply
    )
    assert app.connection().as_uri() == context.server.url


def test_a_worker_that_leaves_leaves_nothing(server):
    with eager(1, server=server) as context:
        wait_until(lambda: len(consumers(context)) == 1)
        context.workers.stop()  # SIGTERM
        assert consumers(context) == []
        assert client_of(context).keys("*taken*") == []


@pytest.fixture
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as running:
        yield running


def test_workers_of_both_transports_share_a_queue(server):
    given = {"broker_url": server.url, "state_url": server.redis_url, "sweep_s": 0.3}
    env = {f"FLOWQ_{name.upper()}": str(value) for name, value in given.items()}
    plain = interop_fleets.including(maps.__name__)
    commands = [["env", f"FLOWQ_TRANSPORT={transport}", *plain] for transport in ("flowq", "celery")]
    for transport in ("flowq", "celery"):
        with (
            closing(FlowContext(Settings(**given, transport=transport))) as context,
            interop_fleets.workers(context, commands, env),
        ):
            ran: set[str] = set()
            while ran != {"w1", "w2"}:  # one may be quick enough to leave the other none
                ran |= who_runs(context)


def who_runs(context: FlowContext) -> set[str]:
    handles = [maps.run_time_list.submit(40, context=context) for _ in range(4)]
    nodes = [node for handle in handles for node in handle.result(30).nodes.values()]
    return {(node.worker or "").partition("@")[0] for node in nodes}


def test_a_worker_is_killed_with_messages_in_its_hands(server):
    """A message of a team's own: no sweep of flowq's would send it again."""
    with eager(server=server) as context:
        client, app = client_of(context), context.celery_app
        later: dict[str, Any] = {"queue": "flowq", "countdown": 3600, "ignore_result": True}
        for _ in range(20):
            app.send_task("flowq.drain", ("flowq", "x"), **later)
        wait_until(lambda: len(held(client)) == 20, 10)
        holding = {key.rpartition(b":")[2] for key in client.scan_iter(match="flowq:taken:*")}
        assert len(holding) == 2
        context.workers.kill(1)
        left = wait_until(lambda: one_consumer_holds_all(client, 20), 40, lambda: held(client))
        assert left in holding


def held(client: Any) -> list[bytes]:
    return [raw for key in client.scan_iter(match="flowq:taken:*") for raw in client.lrange(key, 0, -1)]


def one_consumer_holds_all(client: Any, count: int) -> bytes | None:
    keys = list(client.scan_iter(match="flowq:taken:*"))
    if len(keys) == 1 and client.llen(keys[0]) == count:
        return bytes(keys[0].rpartition(b":")[2])
    return None


@pytest.mark.parametrize("away_s", [0, AWAY_S])
def test_redis_goes_away_and_comes_back(server, away_s):
    with eager(server=server) as context:
        assert maps.chained.submit(4, context=context).result(30).output == 54
        app, before = context.celery_app, pids(context)
        server.kill()
        time.sleep(away_s)  # the length of the outage is what is tested
        server.restart()
        with app.connection_for_write() as connection:
            wait_until(lambda: len(taking(connection, context)) == 2, BACK_S, lambda: taking(connection, context))
        assert maps.chained.submit(4, context=context).result(30).output == 54
        assert pids(context) == before


def taking(connection: Any, context: FlowContext) -> list[str]:
    """Give the connections that wait for a message."""
    return [
        client["id"]
        for client in client_of(context).client_list()
        if client["cmd"] in ("blmove", "evalsha") and "b" in client["flags"]
    ]


def test_other_brokers_and_other_apps_are_left_alone(server):
    def conf(**given: Any) -> Celery:
        with closing(FlowContext(Settings(state_url=server.redis_url, **given))) as context:
            return make_app(context).conf

    stock = Celery("stock").conf
    for given in ({"broker_url": "amqp://localhost"}, {"broker_url": server.url, "transport": "celery"}):
        found = conf(**given)
        assert found.broker_url == given["broker_url"]
        assert (found.broker_transport, found.worker_consumer) == (stock.broker_transport, stock.worker_consumer)


# ── an app that a team has ────────────────────────────────────────────────────────────────────────────────────────────

PAGE = Path(__file__).parents[2] / "docs" / "celery.md"

DEADLY = """
import os
import signal
from pathlib import Path
from team import app, context

app.conf.broker_transport_options = {"dead_s": 1}

@app.task(acks_late=True)
def act(what, log):
    if what == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    with Path(log).open("a") as file:
        file.write(what + "\\n")
"""


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The app that the documentation shows, and a task of its own that may end whichever process runs it."""
    shown = re.search(r"```python\n(# team\.py\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert shown
    place = tmp_path_factory.mktemp("team")
    (place / "team.py").write_text(shown[1])
    (place / "team_deadly.py").write_text(DEADLY)
    with EmbeddedServer() as server, pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(place))
        env = {"TEAM_BROKER": server.url, "FLOWQ_STATE_URL": server.redis_url, "FLOWQ_INCLUDE": "team_deadly"}
        for name, value in env.items():
            patch.setenv(name, value)
        module = importlib.import_module("team_deadly")
        yield module
        module.context.close()
        module.app.close()
        for name in ("team", "team_deadly"):
            del sys.modules[name]


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_a_teams_app_chooses_it_in_two_lines(team, pool):
    own, doubled = sys.modules["team"].own, sys.modules["team"].doubled
    with interop_fleets.workers(team.context, [interop_fleets.of_app("team_deadly", "-P", pool)], {}):
        wait_until(lambda: consumers(team.context), 10)
        own.apply_async((1,), ignore_result=True)
        handles = [doubled.submit(x, dispatch=dispatch) for x in range(10) for dispatch in ("pull", "canvas")]
        assert [handle.result(30).output for handle in handles] == [4 * x for x in range(10) for _ in range(2)]
        wait_until(lambda: client_of(team.context).llen("celery") == 0 and held(client_of(team.context)) == [], 10)


@pytest.mark.timeout(240)
def test_a_task_that_ends_its_whole_worker_is_set_aside_in_the_end(team, tmp_path):
    """Five workers die of it. Those that waited beside it are handled, and so is a flow."""
    log, client, act = tmp_path / "acts", client_of(team.context), team.act
    command = interop_fleets.of_app("team_deadly", "-P", "solo")
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    good = [f"good-{number}" for number in range(6)]
    for what in (*good[:2], "dies", *good[2:]):
        act.apply_async((what, str(log)), ignore_result=True)
    deaths = 0
    with WorkerProcesses(1, command, ready=set, env={"PYTHONPATH": path}) as workers:
        while True:
            (worker,) = workers.processes
            wait_until(lambda: not worker.alive or client.llen("celery:quarantine") == 1, 30, worker.log_tail)  # noqa: B023
            if worker.alive:
                break
            deaths += 1
            assert deaths <= 5
            workers.restart(1)
        assert deaths == 5
        (entry,) = quarantine.read(client, "celery:quarantine")
        assert entry.task.startswith("team_deadly.act ")
        assert sys.modules["team"].doubled.submit(3).result(60).output == 12
        wait_until(lambda: sorted(log.read_text().split()) == good, 30, log.read_text)
        assert quarantine.put_back(client, "celery:quarantine", entry)
        wait_until(lambda: not worker.alive, 30)  # it is tried again, as it was sent
        assert f"(task {entry.task})" in worker.log_tail(1000)
    client.delete(*client.keys("celery*"), *client.keys("_flowq*"))  # else it ends the next test's worker, too
