"""Workers on flowq's own transport: beside Celery's, through restarts of Redis, and when they are killed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from celery import Celery

from flowq import FlowContext, Settings
from flowq.runtime.app import make_app
from flowq.standalone import EmbeddedContext, EmbeddedServer
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from flowq.testing.keyspace import clear
from tests.conformance.engines.flows import maps
from tests.integration import interop_fleets

EAGER = {"renew_s": 0.3, "sweep_s": 0.3}
AWAY_S = 30 if os.environ.get("FLOWQ_THOROUGH") else 3
BACK_S = 10


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    with fleet(2, [maps], settings=EAGER) as started:
        yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear(workers)


def client_of(context: FlowContext) -> Any:
    return context.service("state").client


def consumers(context: FlowContext) -> list[bytes]:
    return list(client_of(context).zrange("_flowq.consumers", 0, -1))


def test_it_is_what_workers_use(context):
    assert len(consumers(context)) == 2
    assert maps.chained.submit(4, context=context).result(30).output == 54
    assert client_of(context).keys("unacked*") == []


def test_remote_control_goes_on(context):
    app = context.celery_app
    assert sorted(app.control.inspect(timeout=5).ping()) == sorted(
        name for reply in app.control.ping(timeout=2) for name in reply
    )
    assert app.connection().as_uri() == context.server.url


def test_a_worker_that_leaves_leaves_nothing(server):
    with fleet(1, [maps], server=server) as context:
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
        with closing(FlowContext(Settings(**given, transport=transport))) as context:
            with interop_fleets.workers(context, commands, env):
                handles = [maps.run_time_list.submit(40, context=context) for _ in range(4)]
                results = [handle.result(30) for handle in handles]
            ran = {(node.worker or "").partition("@")[0] for result in results for node in result.nodes.values()}
            assert ran == {"w1", "w2"}


def test_a_worker_is_killed_with_messages_in_its_hands(server):
    """A message of a team's own: no sweep of flowq's would send it again."""
    with fleet(2, [maps], settings=EAGER, server=server) as context:
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
    with fleet(2, [maps], settings=EAGER, server=server) as context:
        assert maps.chained.submit(4, context=context).result(30).output == 54
        app, before = context.celery_app, [worker.pid for worker in context.workers.processes if worker.alive]
        server.kill()
        time.sleep(away_s)  # the length of the outage is what is tested
        server.restart()
        with app.connection_for_write() as connection:
            wait_until(lambda: len(taking(connection, context)) == 2, BACK_S, lambda: taking(connection, context))
        assert maps.chained.submit(4, context=context).result(30).output == 54
        assert [worker.pid for worker in context.workers.processes if worker.alive] == before


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
