"""What goes in, what goes between, what comes out; and what may not."""

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from flowq import (
    FailureKind,
    Flow,
    FlowConfig,
    FlowStatus,
    FlowType,
    InputError,
    Record,
    UnknownProcessorError,
    flow,
    task,
)
from flowq.testing.keyspace import runs
from tests.conformance.engines.conftest import submit
from tests.conformance.engines.flows import values as flows

LEAFS = [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]


def test_a_model_comes_back_as_its_class(run):
    result = run(flows.typed_model, {"names": ["a", "long one", "b"]})
    assert isinstance(result.output, flows.Row)
    assert result.output.name == "long one"
    assert result.output.at is not None


def test_a_dataclass_comes_back_as_its_class(run):
    assert run(flows.typed_dataclass, {"x": 3}).output == flows.Point(-3, 3)


def test_a_list_of_models_from_a_map(run):
    result = run(flows.typed_list, {"names": ["a", "bb"]})
    assert result.output == [flows.Row(name="a", size=1), flows.Row(name="bb", size=2)]


def test_defaults_hold_where_nothing_is_passed(run):
    assert run(flows.with_defaults, {"item": 4}).output == 18


def test_special_numbers_survive(run):
    result = run(flows.specials, {})
    assert result.output == ["nan", "inf", "-inf", "-0.0", "0.30000000000000004", "1.152921504606847e+18"]


@pytest.mark.parametrize("size", [0, 1, 4096, 300_001])
def test_bytes_stay_bytes(run, size):
    result = run(flows.of_bytes, {"size": size})
    assert result.output == flows.some_bytes(size)[::-1]


def test_large_values(run):
    expected = sum(flows.large(20_000)) % 2**31
    assert run(flows.of_large_values, {"size": 20_000}).output == expected


def test_large_items_of_a_map(run):
    assert run(flows.of_large_items, {"size": 8000, "count": 5}).output == [8000] * 5


def test_a_large_input(run):
    text = secrets.token_hex(25_000)
    assert run(flows.of_large_input, {"text": text}).output == 50_000


def test_large_values_lie_in_the_store(flowq_context):
    handle = flows.of_large_values.submit(size=20_000)
    handle.result(30)
    state = flowq_context.service("state")
    stored = state.client.hgetall(state.keys.results(handle.run_id))
    assert len(stored) == 1  # two nodes gave the same value: it is kept once, under its digest
    assert min(map(len, stored.values())) > flowq_context.settings.inline_bytes
    in_the_run = state.client.hgetall(state.keys.values(handle.run_id))
    assert max(map(len, in_the_run.values())) <= flowq_context.settings.inline_bytes


# ── failures that name the node, the field and the remedy ─────────────────────────────────────────────────────────────


def test_an_output_that_is_no_json(run):
    result = run(flows.unserialisable, {})
    failure = result.nodes["an_object"].failure
    assert (failure.kind, failure.type) == (FailureKind.OUTPUT, "flowq.core.errors.OutputError")
    assert "'an_object'" in failure.message
    assert "(object)" in failure.message
    assert "return plain data" in failure.message
    assert result.status is FlowStatus.FAILED


def test_an_output_that_breaks_its_model(run):
    result = run(flows.breaks_its_model, {})
    failure = result.nodes["broken_model"].failure
    assert (failure.kind, failure.type) == (FailureKind.OUTPUT, "flowq.core.errors.OutputError")
    assert "'broken_model'" in failure.message
    assert "'rows.0.size'" in failure.message
    assert "change" in failure.message


def test_an_output_that_breaks_its_classes_output(run):
    result = run(Flow(flows.Model(), FlowConfig(name="model")), {"count": 11})
    failure = result.nodes["model"].failure
    assert failure.kind is FailureKind.OUTPUT
    assert "'model'" in failure.message
    assert "'count'" in failure.message
    assert run(Flow(flows.Model(), FlowConfig(name="model")), {"count": 10}).output == {"count": 10}


def test_an_output_over_the_limit(run):
    result = run(flows.oversized, {"size": 60_000})
    failure = result.nodes["too_large"].failure
    assert (failure.kind, failure.type) == (FailureKind.OUTPUT, "flowq.core.errors.ValueTooLargeError")
    assert "'too_large'" in failure.message
    assert "over the limit of 1000000" in failure.message
    assert "FLOWQ_MAX_VALUE_BYTES" in failure.message


def test_bytes_that_show_at_run_time_alone_where_only_json_can_be(run):
    result = run(flows.map_of_hidden_bytes, {"xs": [1, 2]})
    assert result.status is FlowStatus.FAILED
    failure = result.nodes["hidden_bytes[0]"].failure
    assert failure.kind is FailureKind.OUTPUT
    assert "'hidden_bytes'" in failure.message
    assert "base64" in failure.message
    result = run(flows.list_of_hidden_bytes, {"x": 1})
    failure = result.nodes["list_of_hidden_bytes"].failure
    assert failure.kind is FailureKind.INPUT
    assert "'list_of_hidden_bytes'" in failure.message


def test_an_upstream_that_does_not_fit_the_parameter(run):
    result = run(flows.misfit, {})
    failure = result.nodes["takes_a_number"].failure
    assert (failure.kind, failure.type) == (FailureKind.INPUT, "flowq.core.errors.ArgumentError")
    assert "'takes_a_number'" in failure.message
    assert "'number'" in failure.message
    assert result.nodes["takes_a_number"].attempt == 1


# ── the run's input ───────────────────────────────────────────────────────────────────────────────────────────────────

BAD_INPUTS: dict[str, tuple[Callable[[], Any], dict[str, Any], str]] = {
    "missing": (lambda: Flow(flows.Load(), FlowConfig(name="load")), {"limit": 3}, r"'load'.*'path'.*add it"),
    "of the wrong type": (lambda: Flow(flows.Load(), FlowConfig(name="load")), {"path": 5}, r"'path'.*'load'"),
    "optional, of the wrong type": (
        lambda: Flow(flows.Load(), FlowConfig(name="load")),
        {"path": "a", "limit": "many"},
        r"'limit'.*'load'",
    ),
    "no JSON": (lambda: Flow(flows.Load(), FlowConfig(name="load")), {"path": "a", "more": object()}, r"'load'.*JSON"),
    "parameter of a function": (lambda: flows.typed_dataclass, {"x": "no number"}, r"'typed_dataclass'.*'x'"),
    "missing parameter": (lambda: flows.typed_dataclass, {}, r"'typed_dataclass'.*'x'"),
    "unknown parameter": (lambda: flows.typed_dataclass, {"x": 1, "y": 2}, r"'typed_dataclass'.*'y'"),
    "too large": (lambda: flows.of_large_input, {"text": "x" * 1_100_000}, r"'of_large_input'.*1000000"),
}


@pytest.mark.parametrize("case", BAD_INPUTS)
def test_a_bad_input_is_refused_before_anything_is_stored(run, engine, case, request, local_engine):
    make, given, message = BAD_INPUTS[case]
    flow = make()
    if engine == "local":
        with pytest.raises(InputError, match=message):
            run(flow, given)
        return
    fleet = request.getfixturevalue("flowq_context")
    client = fleet.service("state").client
    before = {key for key in client.scan_iter() if not key.startswith(b"flowq:queue")}
    with pytest.raises(InputError, match=message):
        submit(flow, given, fleet)
    assert {key for key in client.scan_iter() if not key.startswith(b"flowq:queue")} - before <= {b"flowq:sweep"}
    assert runs(fleet) == []


def test_a_processor_of_this_process_alone_is_refused_before_anything_is_stored(flowq_context):
    @task
    def local(text: str) -> int:
        return len(text)

    @flow
    def of_local(text: str) -> int:
        return local(text)

    text = secrets.token_hex(25_000)  # would go to the results store
    client = flowq_context.service("state").client
    before = set(client.scan_iter())
    with pytest.raises(UnknownProcessorError, match=r"node 'local'.*define it at the top of a module"):
        of_local.submit(text)
    assert set(client.scan_iter()) - before <= {b"flowq:sweep"}
    assert of_local.run(text).output == 50_000


def test_input_of_another_kind():
    with pytest.raises(InputError, match="mapping"):
        Flow(flows.Load(), FlowConfig(name="load")).run([1, 2])  # type: ignore[arg-type]


def test_a_model_as_input(run):
    given = flows.Load.Input(path="abc", limit=1)
    flow = Flow(flows.Load(), FlowConfig(name="load"))
    result = run(flow, given.model_dump())
    assert flow.run(given).output == result.output == {"rows": [3.0]}
    assert isinstance(result.output, Record)
    assert result.output.rows == [3.0]


# ── class form ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("placement", LEAFS)
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_dependencies_for_sync_and_async_code(run, is_async, placement):
    result = run(flows.report(placement, is_async=is_async), {"path": "abcd"})
    assert result.error is None
    expected = {"title": "t", "path": "abcd", "rows": [4.0] * 3, "mean": 4.0}
    assert {name: result.output[name] for name in expected} == expected
    assert result.nodes["stats"].status.value == "completed"
