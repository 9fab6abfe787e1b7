"""submit_many: many runs of one flow, each of them as submit would start it. There are no workers here."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowq import (
    Flow,
    FlowConfig,
    FlowContext,
    IdempotencyError,
    InputError,
    OverloadedError,
    StoreFullError,
    StoreUnavailableError,
    flow,
    task,
)
from flowq.client.many import BATCH, SOURCES
from flowq.core.config import Settings
from flowq.results.codec import decode
from flowq.runtime.state import State
from flowq.standalone import EmbeddedServer
from tests.conformance.engines.flows.digests import as_class_form
from tests.conformance.engines.shapes import chain
from tests.property.calls import called, forget


@task
def doubled(number: int, text: str = "") -> int:
    return 2 * number


@flow
def doubling(number: int, text: str = "") -> int:
    return doubled(number, text)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as started:
        yield started


@pytest.fixture
def open_context(server) -> Iterator[Callable[..., FlowContext]]:
    opened: list[FlowContext] = []

    def open_one(**settings: Any) -> FlowContext:
        given: dict[str, Any] = {"submit_wait_s": 0.05, "broker_url": server.url, "state_url": server.redis_url}
        opened.append(FlowContext(Settings(**given | settings)))
        return opened[-1]

    yield open_one
    for context in opened:
        context.close()
    State.of(open_one()).client.flushall()
    opened[-1].close()


@pytest.fixture
def context(open_context) -> FlowContext:
    found: FlowContext = open_context()
    return found


def input_of(context: FlowContext, run: str) -> Any:
    return decode(context.results.unpack(run, State.of(context).run_input(run)))


def open_runs(context: FlowContext) -> set[str]:
    return {run.decode() for run in State.of(context).client.smembers("flowq:open")}


def ready(context: FlowContext) -> list[str]:
    found: list[bytes] = State.of(context).client.lrange("flowq:queue:flowq:process", 0, -1)
    return [entry.decode() for entry in found]


def stats(context: FlowContext) -> dict[str, int]:
    found: dict[str, Any] = State.of(context).client.info("commandstats")
    return {name.removeprefix("cmdstat_"): told["calls"] for name, told in found.items()}


def inputs(count: int, first: int = 0) -> Iterator[dict[str, Any]]:
    return ({"number": number} for number in range(first, first + count))


def test_handles_come_in_the_order_of_the_inputs(context):
    handles = doubling.submit_many(inputs(3 * BATCH + 7), context=context)
    runs = [handle.run_id for handle in handles]
    assert [input_of(context, run)["number"] for run in runs] == list(range(3 * BATCH + 7))
    assert open_runs(context) == set(runs)
    assert ready(context) == [f"{run} 0" for run in runs], "they are ready in that order, too"


async def test_in_async_code_and_in_the_class_form(context):
    flow = as_class_form(chain(2))
    handles = await flow.asubmit_many([{"log": "a"}, None, {}], context=context)
    assert [input_of(context, handle.run_id) for handle in handles] == [{"log": "a"}, {}, {}]


@pytest.mark.parametrize("many", [[], iter(())])
def test_none(context, many):
    assert doubling.submit_many(many, context=context) == []
    assert doubling.submit_many([], context=context, idempotency_keys=[]) == []
    assert open_runs(context) == set()


def test_a_batch_is_one_call_and_a_queue_without_workers_gets_one_wake_up(context):
    doubling.submit(0, context=context)
    State.of(context).client.delete("flowq:queue:flowq:drains", "flowq")
    client = State.of(context).client
    before, scripts = stats(context), called(client)
    doubling.submit_many(inputs(4 * BATCH), context=context)
    after = stats(context)
    assert called(client) - scripts == 4
    assert after["lpush"] - before.get("lpush", 0) == 1


@pytest.mark.parametrize(("width", "sizes"), [(SOURCES // 3, [3, 3, 2]), (2 * SOURCES, [1, 1])])
def test_runs_that_begin_with_many_nodes_are_fewer_in_a_call(context, monkeypatch, width, sizes):
    scripts, asked = State.of(context).scripts, list[int]()
    submit = scripts.submit

    def noted(**given: Any) -> Any:
        asked.append(len(given["runs"]))
        submitted = submit(**given)
        assert submitted.unfinished == [], "nothing is left to another call"
        return submitted

    monkeypatch.setattr(scripts, "submit", noted)
    wide = as_class_form({f"n{number}": [] for number in range(width)})
    handles = wide.submit_many([{"log": "a"}] * sum(sizes), context=context)
    assert asked == sizes
    assert [entry.split()[0] for entry in ready(context)] == [handle.run_id for handle in handles for _ in range(width)]


def test_so_many_wake_ups_are_sent_as_there_are_free_slots(context):
    state = State.of(context)
    state.scripts.register(worker="w", queues=["flowq"], slots=3)
    doubling.submit_many(inputs(2 * BATCH), context=context)
    assert state.client.llen("flowq") == 3


# ── what is refused ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({}, r"inputs\[70\]: flow 'doubling' takes .*'number'"),
        ({"number": "many"}, r"inputs\[70\]: flow 'doubling': input 'number' cannot be used"),
        ({"number": 1, "other": 2}, r"inputs\[70\]: .*'other'"),
        ({1: 2}, r"inputs\[70\]: .*strings"),
        (7, r"inputs\[70\]: .* a mapping of its parameters, not int"),
        ({"number": 1, "text": "x" * 2000}, r"inputs\[70\]: the input of flow 'doubling' is too large"),
    ],
)
def test_a_bad_input_is_named_by_its_place_and_nothing_is_started(open_context, bad, said):
    context = open_context(max_value_bytes=1000)
    with pytest.raises(InputError, match=said) as told:
        doubling.submit_many([*inputs(70), bad, *inputs(30)], context=context)
    assert told.value.started == ()
    assert open_runs(context) == set()
    assert ready(context) == []


def test_so_is_what_a_class_does_not_take(context):
    class Reads:
        def process(self, input_data: dict[str, Any]) -> dict[str, Any]:
            return input_data

    reading = Flow(processor=Reads(), config=FlowConfig(name="reading"))
    with pytest.raises(InputError, match=r"inputs\[1\]: the input of a flow is a mapping or a model, not int"):
        reading.submit_many([{}, 3], context=context)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"deadline_s": 0}, "deadline_s=0"),
        ({"dispatch": "letter"}, "dispatch='letter'"),
        ({"idempotency_keys": ["a"]}, "2 inputs and 1 idempotency_keys"),
        ({"idempotency_keys": ["a", "b", "c"]}, "2 inputs and 3 idempotency_keys"),
        ({"idempotency_keys": ["a", ""]}, r"idempotency_keys\[1\]=''"),
        ({"idempotency_keys": ["a", 1]}, r"idempotency_keys\[1\]=1"),
    ],
)
def test_so_are_options_that_make_no_sense(context, options, said):
    with pytest.raises(InputError, match=said):
        doubling.submit_many(inputs(2), context=context, **options)
    assert open_runs(context) == set()


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_call_with_keys_may_be_repeated(context):
    count = BATCH + 10
    keys = [f"key {number}" for number in range(count)]
    first = doubling.submit_many(inputs(count), context=context, idempotency_keys=keys)
    again = doubling.submit_many(inputs(count), context=context, idempotency_keys=iter(keys))
    assert [handle.run_id for handle in again] == [handle.run_id for handle in first]
    assert len(ready(context)) == count
    assert doubling.submit(7, context=context, idempotency_key="key 7").run_id == first[7].run_id, "as submit's"


def test_a_key_twice_is_one_run_and_with_another_input_an_error(context):
    one, two = doubling.submit_many([{"number": 1}, {"number": 1}], context=context, idempotency_keys=["a", "a"])
    assert one.run_id == two.run_id
    with pytest.raises(IdempotencyError, match=r"idempotency_keys\[0\] and \[1\] are the same, 'b'"):
        doubling.submit_many(inputs(2), context=context, idempotency_keys=["b", "b"])
    assert open_runs(context) == {one.run_id}


def test_a_key_that_was_used_for_another_input_leaves_the_others_started(context):
    used = doubling.submit(100, context=context, idempotency_key="1")
    with pytest.raises(
        IdempotencyError, match=rf"idempotency_keys\[1\] was used.* see run {used.run_id}.*2 of 3"
    ) as told:
        doubling.submit_many(inputs(3), context=context, idempotency_keys=["0", "1", "2"])
    assert [input_of(context, handle.run_id)["number"] for handle in told.value.started] == [0, 2]


# ── the store ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_store_that_goes_away_midway_is_said_with_what_was_started(context, monkeypatch):
    keys = [str(number) for number in range(3 * BATCH)]
    scripts, calls = State.of(context).scripts, 0
    submit = scripts.submit

    def lost(**given: Any) -> Any:
        nonlocal calls
        calls += 1
        submitted = submit(**given)
        if calls == 3:  # they are stored, and nobody knows
            raise StoreUnavailableError("away")
        return submitted

    monkeypatch.setattr(scripts, "submit", lost)
    with pytest.raises(StoreUnavailableError, match=f"away .{2 * BATCH} of {3 * BATCH} runs are started") as told:
        doubling.submit_many(inputs(3 * BATCH), context=context, idempotency_keys=keys)
    assert [input_of(context, handle.run_id)["number"] for handle in told.value.started] == list(range(2 * BATCH))
    handles = doubling.submit_many(inputs(3 * BATCH), context=context, idempotency_keys=keys)
    assert [handle.run_id for handle in handles[: 2 * BATCH]] == [handle.run_id for handle in told.value.started]
    assert len(ready(context)) == 3 * BATCH


def test_a_batch_that_the_store_refuses_is_not_there_and_does_not_hide_those_before_it(context, monkeypatch):
    state = State.of(context)
    submit = state.scripts.submit

    def then_full(**given: Any) -> Any:
        submitted = submit(**given)
        state.client.config_set("maxmemory", "1")
        return submitted

    monkeypatch.setattr(state.scripts, "submit", then_full)
    try:
        with pytest.raises(StoreFullError, match=rf"out of memory.*{BATCH} of {2 * BATCH}") as told:
            doubling.submit_many(inputs(2 * BATCH), context=context)
    finally:
        state.client.config_set("maxmemory", "0")
    assert {handle.run_id for handle in told.value.started} == open_runs(context)
    assert len(state.client.keys("flowq:run:*")) == BATCH


def test_a_server_without_memory_says_so(context):
    doubling.submit(0, context=context)
    client = State.of(context).client
    client.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreFullError, match="0 of 3"):
            doubling.submit_many(inputs(3), context=context)
    finally:
        client.config_set("maxmemory", "0")
    assert len(open_runs(context)) == 1


def test_calls_that_are_sent_again_change_nothing(context, monkeypatch):
    """The replies were lost with the connection, and the client has sent each call again."""
    client = State.of(context).client
    execute = client.execute_command

    def twice(*command: Any, **options: Any) -> Any:
        before = execute(*command, **options)
        if command[0] in ("FCALL", "EVALSHA"):
            assert execute(*command, **options) == before, "each call gives its reply again"
        return before

    doubling.submit(0, context=context).cancel()
    client.delete("flowq:queue:flowq:process", "flowq:queue:flowq:drains", "flowq")
    monkeypatch.setattr(client, "execute_command", twice)
    handles = doubling.submit_many(inputs(2 * BATCH), context=context)
    assert ready(context) == [f"{handle.run_id} 0" for handle in handles]
    assert State.of(context).client.hget(f"flowq:plan:{doubling.plan().hash}", "runs") == str(2 * BATCH).encode()
    assert State.of(context).client.llen("flowq") == 1


@pytest.mark.parametrize("lost", ["scripts", "plan"])
def test_what_the_server_has_forgotten_is_sent_again(context, lost):
    doubling.submit(0, context=context)
    client = State.of(context).client
    if lost == "scripts":
        forget(client)
    else:
        client.flushall()
    handles = doubling.submit_many(inputs(BATCH + 1), context=context)
    assert len(open_runs(context)) == len(handles) + (lost == "scripts")


# ── room ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_room_it_waits_and_then_says_what_was_started(open_context):
    context = open_context(max_open_runs=BATCH + 5)
    with pytest.raises(OverloadedError, match=f"{BATCH + 5} runs are open.*{BATCH + 5} of {2 * BATCH}") as told:
        doubling.submit_many(inputs(2 * BATCH), context=context)
    assert [input_of(context, handle.run_id)["number"] for handle in told.value.started] == list(range(BATCH + 5))


def test_with_room_again_it_goes_on_in_order(open_context, monkeypatch):
    context = open_context(max_open_runs=4, submit_wait_s=20)
    ended: list[str] = []

    def end_two(_: float) -> None:
        ended.extend(entry.split()[0] for entry in ready(context)[len(ended) : len(ended) + 2])
        for run in ended[-2:]:
            context.client.handle(run).cancel()

    monkeypatch.setattr("flowq.client.many.time.sleep", end_two)
    handles = doubling.submit_many(inputs(20), context=context)
    assert [entry.split()[0] for entry in ready(context)] == [handle.run_id for handle in handles]
    assert len(open_runs(context)) == 4


# ── inputs of another kind ────────────────────────────────────────────────────────────────────────────────────────────


def test_large_inputs_go_to_the_results_store_in_between(context):
    texts = ["a", secrets.token_hex(30_000), "b", secrets.token_hex(30_000), secrets.token_hex(30_000), "c"]
    handles = doubling.submit_many([{"number": 0, "text": text} for text in texts], context=context)
    assert [input_of(context, handle.run_id)["text"] for handle in handles] == texts
    assert ready(context) == [f"{handle.run_id} 0" for handle in handles]


def test_a_deadline_is_each_run_s_own(context):
    handles = doubling.submit_many(inputs(3), context=context, deadline_s=60)
    assert {entry.decode() for entry in State.of(context).client.zrange("flowq:timers", 0, -1)} == {
        f"{handle.run_id} deadline 0" for handle in handles
    }
