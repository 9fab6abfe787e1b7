"""What processors get from upstream, and what callers get from a run."""

import copy
import json
from datetime import UTC, datetime

import pytest

from flowq import (
    DependencyData,
    Failure,
    FailureKind,
    FlowResult,
    FlowStatus,
    MissingReason,
    NodeResult,
    NodeStatus,
    Record,
    RunFailed,
)

VALUES = {"load": Record(rows=[1, 2]), "measure": [1, None, 3]}
MISSING = {"clean": MissingReason.TIMED_OUT, "measure[1]": MissingReason.FAILED}


@pytest.fixture
def loads() -> list[str]:
    return []


@pytest.fixture
def deps(loads) -> DependencyData:
    def load(name: str):
        loads.append(name)
        return VALUES[name]

    return DependencyData(load, ("load", "clean", "measure"), MISSING)


# ── DependencyData ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_sync_code_reads_a_mapping(deps):
    assert deps["load"].rows == [1, 2]
    assert deps["clean"] is None
    assert dict(deps) == {"load": {"rows": [1, 2]}, "clean": None, "measure": [1, None, 3]}
    assert list(deps) == ["load", "clean", "measure"]
    assert len(deps) == 3
    assert "load" in deps
    assert "nobody" not in deps


async def test_async_code_awaits(deps):
    assert (await deps.get("load")).rows == [1, 2]
    assert await deps.get("clean") is None
    assert await deps.get_all() == dict(deps)


def test_values_are_loaded_when_asked_for_and_once(deps, loads):
    assert loads == []
    assert deps.missing("clean") is MissingReason.TIMED_OUT
    assert list(deps) == ["load", "clean", "measure"]
    assert loads == []
    _ = deps["load"], deps["load"], deps["clean"]
    assert loads == ["load"]


def test_why_something_is_missing(deps):
    assert deps.missing("clean") is MissingReason.TIMED_OUT
    assert deps.missing("load") is None
    assert deps.missing("measure[1]") is MissingReason.FAILED
    assert deps.missing("measure[0]") is None
    assert deps.missing("measure") is MissingReason.FAILED
    assert deps.missing() == MISSING


def test_what_is_asked_for_may_be_changed(deps):
    deps.missing().clear()
    assert deps.missing("clean") is MissingReason.TIMED_OUT


@pytest.mark.parametrize("ask", [lambda deps: deps["nobody"], lambda deps: deps.missing("nobody")])
def test_an_unknown_name_lists_the_known_ones(deps, ask):
    with pytest.raises(KeyError, match=r"'nobody' is no dependency of this flow; it has 'load', 'clean', 'measure'"):
        ask(deps)


async def test_an_unknown_name_in_async_code(deps):
    with pytest.raises(KeyError, match="'nobody' is no dependency"):
        await deps.get("nobody")


def test_without_dependencies():
    empty = DependencyData(lambda name: None, (), {})
    assert dict(empty) == {}
    assert not empty
    with pytest.raises(KeyError, match="it has none"):
        empty["x"]


# ── Record ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_record_is_a_dict_whose_keys_read_as_attributes():
    record = Record({"a": 1, "b": {"c": {"d": 2}}, "rows": [{"x": 1}]})
    assert record.a == record["a"] == 1
    assert record.b.c.d == 2
    assert record == {"a": 1, "b": {"c": {"d": 2}}, "rows": [{"x": 1}]}
    assert json.loads(json.dumps(record)) == record
    assert copy.deepcopy(record) == record
    assert type(copy.deepcopy(record)) is Record


def test_methods_of_dict_win_over_keys():
    record = Record({"items": 5})
    assert callable(record.items)
    assert record["items"] == 5


def test_a_field_that_is_not_there():
    with pytest.raises(AttributeError, match="no field 'b'; there are 'a'"):
        _ = Record(a=1).b
    with pytest.raises(AttributeError, match="there are none"):
        _ = Record().b
    assert not hasattr(Record(a=1), "b")


# ── FlowResult ────────────────────────────────────────────────────────────────────────────────────────────────────────


def result(status: FlowStatus, **fields) -> FlowResult:
    now = datetime.now(UTC)
    return FlowResult(run_id="r", process_id="p", name="etl", status=status, start_time=now, **fields)


def test_what_failed_and_what_was_bypassed():
    failure = Failure(kind=FailureKind.ERROR, type="ValueError", message="no")
    nodes = {
        "bad": NodeResult(name="bad", status=NodeStatus.FAILED, failure=failure),
        "good": NodeResult(name="good", status=NodeStatus.COMPLETED, missing={"bad": MissingReason.FAILED}),
    }
    found = result(FlowStatus.COMPLETED, nodes=nodes)
    assert found.failures == {"bad": failure}
    assert found.bypassed == {"good": {"bad": MissingReason.FAILED}}


def test_a_completed_run_gives_itself():
    found = result(FlowStatus.COMPLETED)
    assert found.raise_for_status() is found


@pytest.mark.parametrize("status", [FlowStatus.FAILED, FlowStatus.CANCELLED, FlowStatus.RUNNING])
def test_any_other_raises_with_the_story(status):
    with pytest.raises(RunFailed, match=f"run r of 'etl' is {status}: load: ValueError: no"):
        result(status, error="load: ValueError: no").raise_for_status()
    with pytest.raises(RunFailed, match="no node failed"):
        result(status).raise_for_status()


def test_a_result_is_plain_data():
    found = result(FlowStatus.FAILED, output={"a": 1}, error="no")
    assert FlowResult.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("status", "final"),
    [("pending", False), ("running", False), ("completed", True), ("failed", True), ("cancelled", True)],
)
def test_which_statuses_of_a_run_are_final(status, final):
    assert FlowStatus(status).is_final is final


def test_which_statuses_of_a_node_are_final():
    open_ones = {NodeStatus.PENDING, NodeStatus.READY, NodeStatus.RUNNING}
    assert {status for status in NodeStatus if not status.is_final} == open_ones
