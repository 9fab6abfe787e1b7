"""What is read and stored of large runs comes in pieces: no call holds Redis for long, and many letters need few."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.connection import AbstractConnection

from flowq import Flow, FlowConfig, FlowContext, NodeStatus
from flowq.core.config import Settings
from flowq.core.errors import StateError
from flowq.core.result import Failure
from flowq.core.types import FailureKind
from flowq.plan import Plan
from flowq.runtime import rows
from flowq.runtime.events import Ref
from flowq.runtime.rows import rows_of
from flowq.runtime.state import CHUNK, Record, State
from flowq.standalone import EmbeddedServer
from tests.integration.control_flows import Counts
from tests.integration.gated_flows import gated

PIECE = 2000
"""As large as a piece is here: documents of thousands of like nodes are packed to little."""

MANY = 5000


@pytest.fixture
def context() -> Iterator[FlowContext]:
    with EmbeddedServer() as server:
        context = FlowContext(Settings(broker_url=server.url, state_url=server.redis_url))
        yield context
        context.close()


@contextmanager
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Count what is sent to Redis at once."""
    sent: list[object] = []
    send = AbstractConnection.send_packed_command

    def counted(self: Any, command: Any, *options: Any, **more: Any) -> Any:
        sent.append(command)
        return send(self, command, *options, **more)

    with monkeypatch.context() as patched:
        patched.setattr(AbstractConnection, "send_packed_command", counted)
        yield lambda: len(sent)


def wide(nodes: int) -> Plan:
    """Give the plan of a parent with so many children."""
    parent = Flow(None, FlowConfig(name="all"))
    for number in range(nodes):
        Flow(Counts(), FlowConfig(name=f"n{number}")).register_to(parent)
    made: Plan = parent.plan()
    return made


def test_the_records_of_a_large_run_are_read_in_pieces_and_exactly(context, monkeypatch):
    state = State.of(context)
    records = {Ref(0, item): Record(NodeStatus.COMPLETED, attempt=item, worker="w") for item in range(MANY)}
    state.client.hset(state.keys.nodes("run"), mapping={ref.key: str(record) for ref, record in records.items()})
    with round_trips(monkeypatch) as sent:
        assert state.all_records("run") == records
    assert sent() >= MANY / (2 * CHUNK)
    assert state.client.info("commandstats").keys().isdisjoint({"cmdstat_hgetall"})


def test_so_are_its_failures(context):
    state = State.of(context)
    failures = {
        f"0.{item}": Failure(kind=FailureKind.ERROR, type="ValueError", message=str(item)) for item in range(MANY)
    }
    texts = {key: failure.model_dump_json() for key, failure in failures.items()}
    state.client.hset(state.keys.failures("run"), mapping=texts)
    assert state.failures("run") == failures
    assert state.client.info("commandstats").keys().isdisjoint({"cmdstat_hgetall"})


def test_a_large_plan_is_stored_in_small_pieces_and_read_back_as_it_was(context, monkeypatch):
    monkeypatch.setattr(rows, "PIECE", PIECE)
    plan, state = wide(4000), State.of(context)
    assert dict(rows_of(plan).fields).keys() > {"document", "document:3"}
    for piece in rows_of(plan).pieces(1000):
        assert sum(map(len, piece[1::2])) <= PIECE or len(piece) == 2
        assert max(map(len, piece[1::2])) <= PIECE + 10 * 4000, "one row has all edges of its node"
        state.scripts.define(plan=plan.hash, values=piece)
    assert state.plan(plan.hash).document == plan.document


def test_a_plan_of_which_a_piece_is_gone_is_said_to_be_gone(context, monkeypatch):
    monkeypatch.setattr(rows, "PIECE", PIECE)
    plan, state = wide(4000), State.of(context)
    for piece in rows_of(plan).pieces(1000):
        state.scripts.define(plan=plan.hash, values=piece)
    state.client.hdel(state.keys.plan(plan.hash), "document:1")
    with pytest.raises(StateError, match="is not in the state store"):
        state.plan(plan.hash)


def test_many_dead_letters_are_read_in_few_round_trips(context, monkeypatch):
    state = State.of(context)
    runs = [gated.submit("path", "log", context=context).run_id for _ in range(60)]
    failure = Failure(kind=FailureKind.LOST, type="flowq.WorkerLost", message=secrets.token_hex(4))
    for at, run in enumerate(runs):
        state.client.hset(state.keys.nodes(run), "0", str(Record(NodeStatus.FAILED, attempt=3)))
        state.client.hset(state.keys.failures(run), "0", failure.model_dump_json())
        state.client.zadd(state.keys.dead, {f"{run} 0": 1000 * at})
    state.client.zadd(state.keys.dead, {f"{runs[0]} 1": 1, "gone 0": 2})
    with round_trips(monkeypatch) as sent:
        letters = context.client.dead_letters()
    assert [letter.run_id for letter in letters] == runs[::-1]
    assert {(letter.flow, letter.node, letter.failure) for letter in letters} == {("gated", "waits", failure)}
    assert sent() <= 6, "the last script may have to be loaded"
    assert state.client.zcard(state.keys.dead) == len(runs), "those that were retried, or are gone, are dropped"
