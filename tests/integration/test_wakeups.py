"""What a submit costs: one script, and wake-ups of constant size, whatever the size of the flow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from flowq import Flow, FlowContext, Settings
from flowq.runtime.state import State
from flowq.standalone import EmbeddedServer
from tests.conformance.engines.flows.digests import as_class_form
from tests.conformance.engines.shapes import chain, fork_join, layered
from tests.property.calls import called

QUEUE = "flowq"
LARGE = {f"n{i}": [f"n{i - 100}"] if i >= 100 else [] for i in range(10_000)}


@pytest.fixture(scope="module")
def large() -> Flow:
    return as_class_form(LARGE)


@pytest.fixture(scope="module")
def server():
    with EmbeddedServer() as running:
        yield running


@pytest.fixture
def context(server):
    """Give a context without any worker behind it."""
    made = FlowContext(Settings(broker_url=server.url, state_url=server.redis_url))
    made.service("state").client.flushall()
    yield made
    made.close()


def messages(context: FlowContext) -> list[bytes]:
    found: list[bytes] = context.service("state").client.lrange(QUEUE, 0, -1)
    return found


def calls(context: FlowContext) -> dict[str, int]:
    stats: dict[str, Any] = context.service("state").client.info("commandstats")
    return {name.removeprefix("cmdstat_"): found["calls"] for name, found in stats.items()}


def submit(flow: Flow, context: FlowContext, more: int = 0) -> None:
    flow.submit({"log": "x" * more}, context=context)


@pytest.mark.parametrize("name", ["a node", "a chain", "a fork", "layers", "10,000 nodes", "a large input"])
def test_a_wake_up_is_small_whatever_it_is_for(context, name):
    shape = {
        "a node": chain(1),
        "a chain": chain(50),
        "a fork": fork_join(300),
        "layers": layered(10, 20, seed=1),
        "10,000 nodes": LARGE,
        "a large input": chain(2),
    }[name]
    submit(as_class_form(shape), context, more=100_000 if name == "a large input" else 0)
    (message,) = messages(context)  # one for the queue, though nobody is there yet
    assert len(message) < 1024
    assert json.loads(message)["headers"]["task"] == "flowq.drain"


def test_submitting_ten_thousand_nodes_is_one_script_once_the_plan_is_there(context, large):
    submit(as_class_form(chain(1)), context)  # connects, and loads the scripts
    submit(large, context)
    scripts = called(State.of(context).client)
    before = calls(context)
    submit(large, context)
    after = calls(context)
    assert called(State.of(context).client) - scripts == 1
    assert after["info"] - before["info"] == 1  # that is this test's own
    assert after.get("lpush", 0) - before.get("lpush", 0) <= 1
    assert int(context.service("state").client.hlen(f"flowq:plan:{large.plan().hash}")) >= 10_001


def test_a_plan_that_is_known_is_not_sent_again(context, large):
    client = context.service("state").client
    submit(large, context)

    def received() -> int:
        return int(client.info("stats")["total_net_input_bytes"])

    before, scripts = received(), called(client)
    submit(large, context)
    assert received() - before < 5_000
    assert called(client) - scripts == 1
