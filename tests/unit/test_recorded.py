"""A result's nodes are made when they are first asked for, and nobody who looks at it sees a difference."""

from __future__ import annotations

import copy
import gc
import pickle  # noqa: TID251 - what is tried is what people may do with a result
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pydantic import BaseModel, TypeAdapter

from flowq import Failure, FailureKind, FlowResult, FlowStatus, MissingReason, NodeResult, NodeStatus
from flowq.client.reading import RunReader
from flowq.core.config import Settings
from flowq.core.processor import EMPTY
from flowq.core.result import with_nodes_later
from flowq.plan import Edge, Node, Plan
from flowq.results import MemoryStore, ResultsManager
from flowq.runtime.state import Record, State

BEGAN, ENDED = datetime.fromtimestamp(1000, UTC), datetime.fromtimestamp(1001.5, UTC)
NODES = (
    Node("load", "steps:load"),
    Node("check", "steps:check"),
    Node("each", "steps:each", edges=(Edge(0, True, "load"),), over=("node", 0)),
    Node("sum", "steps:sum", edges=(Edge(1, False, "check"), Edge(2, True, "each"))),
)
PLAN, MAPPING = Plan(NODES, output=3), Plan(NODES[:3], output=2)
LABELS = ["load", "check", "each", "each[0]", "each[1]", "sum"]


def record(status: NodeStatus, more: str = "") -> bytes:
    return str(Record(status, 1, 0, 7, BEGAN, ENDED, "host/1", more)).encode()


def failure(message: str) -> Failure:
    return Failure(kind=FailureKind.ERROR, type="ValueError", message=message, traceback=f"{message} at line 1")


DONE = {key: record(NodeStatus.COMPLETED) for key in ("0", "1", "2.0", "2.1", "3")} | {
    "2": record(NodeStatus.COMPLETED, "2,2,2,")
}
BYPASSED = DONE | {"1": record(NodeStatus.FAILED)}
FAILED = {
    "0": DONE["0"],
    "1": record(NodeStatus.FAILED),
    "2": record(NodeStatus.FAILED, "2,2,2,failed"),
    "2.0": record(NodeStatus.FAILED),
    "2.1": record(NodeStatus.COMPLETED),
    "3": str(Record(NodeStatus.UPSTREAM_FAILED, more="upstream_failed")).encode(),
}
FAILURES = {"1": failure("no rows"), "2.0": failure("no number"), "0": failure("mended since")}


class Kept:
    """A state store with one run."""

    def __init__(self, records: Mapping[str, bytes], plan: Plan = PLAN) -> None:
        self._plan = plan
        self._records = {key.encode(): text for key, text in records.items()}
        self.reads: list[str] = []

    def plan(self, _: str) -> Plan:
        return self._plan

    def record_texts(self, _: str, __: Sequence[str] | None = None) -> dict[bytes, bytes]:
        self.reads.append("records")
        return self._records

    def failure_texts(self, _: str) -> dict[bytes, bytes]:
        self.reads.append("failures")
        return {key.encode(): failure.model_dump_json().encode() for key, failure in FAILURES.items()}

    def values(self, _: str, keys: Sequence[str]) -> list[bytes | None]:
        self.reads.append("values")
        return [f"j{10 * len(key)}".encode() for key in keys]


def read(kept: Kept, status: FlowStatus = FlowStatus.COMPLETED) -> FlowResult:
    times = {"submitted": "1000000", "ended": "1001500"}
    head = {"plan": "p", "name": "etl", "process_id": "etl", "status": status.value} | times
    return RunReader(cast("State", kept), ResultsManager(MemoryStore(), Settings()), "r", head).result(EMPTY)


@pytest.fixture
def parsed(monkeypatch) -> list[bytes]:
    """The records that were parsed."""
    found: list[bytes] = []
    parse = Record.parse

    def noted(text: bytes) -> Record:
        found.append(text)
        return parse(text)

    monkeypatch.setattr(Record, "parse", staticmethod(noted))
    return found


# ── What is made when ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_wants_the_output_has_no_record_parsed(parsed):
    result = read(Kept(DONE))
    assert (result.output, result.status, result.error, result.end_time) == (10, FlowStatus.COMPLETED, None, ENDED)
    assert result.raise_for_status() is result
    assert parsed == []


def test_of_a_map_that_is_the_output_its_own_record_is_parsed(parsed):
    assert read(Kept(DONE, MAPPING)).output == [30, 30]
    assert parsed == [DONE["2"]]


def test_who_wants_the_nodes_has_each_parsed_once(parsed):
    result = read(Kept(DONE))
    assert list(result.nodes) == LABELS
    assert sorted(parsed) == sorted(DONE.values())
    assert result.nodes is result.nodes
    assert (result.failures, result.bypassed) == ({}, {})
    assert len(parsed) == len(DONE)


def test_the_failures_are_read_with_the_result_and_nothing_is_read_later():
    kept = Kept(BYPASSED)
    result = read(kept)
    assert kept.reads == ["records", "failures", "values"]
    assert result.failures == {"check": FAILURES["1"]}
    assert result.bypassed == {"sum": {"check": MissingReason.FAILED}}
    assert kept.reads == ["records", "failures", "values"]
    assert read(none := Kept(DONE)).failures == {}
    assert none.reads == ["records", "values"], "no node has failed"


def test_a_failed_run_tells_why_with_no_record_parsed(parsed):
    result = read(Kept(FAILED), FlowStatus.FAILED)
    assert result.error == "each[0]: ValueError: no number", "the other failure is behind an optional edge"
    assert result.traceback == "no number at line 1"
    assert parsed == []
    assert result.failures == {"check": FAILURES["1"], "each[0]": FAILURES["2.0"]}


def test_what_a_run_s_end_cancelled_is_told_by_what_it_was_when_it_was_read():
    result = read(Kept({"0": record(NodeStatus.RUNNING)}), FlowStatus.CANCELLED)
    assert {name: node.status for name, node in result.nodes.items()} == dict.fromkeys(
        ("load", "check", "each", "sum"), NodeStatus.CANCELLED
    )


def test_it_holds_nothing_of_the_store():
    kept = Kept(BYPASSED)
    result, alive = read(kept), weakref.ref(kept)
    del kept
    gc.collect()
    assert alive() is None
    assert list(result.nodes) == LABELS


def test_threads_that_ask_at_once_get_the_same():
    together = threading.Barrier(2, timeout=10)

    def make() -> dict[str, NodeResult]:
        together.wait()
        return {"a": NodeResult(name="a", status=NodeStatus.COMPLETED)}

    result = with_nodes_later(read(Kept(DONE)), make)
    found: list[dict[str, NodeResult]] = []
    threads = [threading.Thread(target=lambda: found.append(result.nodes)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1] is result.nodes
    assert list(found[0]) == ["a"]


# ── Nobody sees a difference ──────────────────────────────────────────────────────────────────────────────────────────


def late() -> FlowResult:
    """Give a result whose nodes nobody has asked for."""
    return read(Kept(BYPASSED))


def early() -> FlowResult:
    """Give the same result, made with its nodes."""

    def node(name: str, status: NodeStatus = NodeStatus.COMPLETED, **more: Any) -> NodeResult:
        times: dict[str, Any] = {"started_at": BEGAN, "ended_at": ENDED}
        return NodeResult(name=name, status=status, attempt=1, worker="host/1", **times, **more)

    nodes = {name: node(name) for name in LABELS}
    nodes["check"] = node("check", NodeStatus.FAILED, failure=FAILURES["1"])
    nodes["sum"] = node("sum", missing={"check": MissingReason.FAILED})
    return FlowResult(
        run_id="r",
        process_id="etl",
        name="etl",
        status=FlowStatus.COMPLETED,
        start_time=BEGAN,
        end_time=ENDED,
        output=10,
        error=None,
        traceback=None,
        nodes=nodes,
    )


class Report(BaseModel):
    """What holds a result."""

    result: FlowResult


USES: dict[str, Callable[[FlowResult], Any]] = {
    "itself": lambda result: result,
    "its nodes": lambda result: result.nodes,
    "its type": lambda result: type(result.nodes),
    "getattr": lambda result: getattr(result, "nodes"),  # noqa: B009 - another way to ask
    "length": lambda result: len(result.nodes),
    "order": lambda result: list(result.nodes.items()),
    "in": lambda result: ("each[1]" in result.nodes, "each[2]" in result.nodes, result.nodes.get("nobody")),
    "failures": lambda result: result.failures,
    "bypassed": lambda result: result.bypassed,
    "repr": repr,
    "str": str,
    "fields": dict,
    "vars": vars,
    "fields that were set": lambda result: result.model_fields_set,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "model_copy": lambda result: result.model_copy(),
    "model_copy, changed": lambda result: result.model_copy(update={"name": "other"}, deep=True),
    "pickle": lambda result: pickle.loads(pickle.dumps(result)),  # noqa: S301 - its own
    "dump": lambda result: result.model_dump(),
    "dump, the order": lambda result: list(result.model_dump()),
    "dump of what was set": lambda result: result.model_dump(exclude_unset=True, exclude_defaults=True),
    "dump of nodes": lambda result: result.model_dump(include={"nodes"}),
    "dump of the rest": lambda result: result.model_dump(mode="json", exclude={"nodes"}),
    "JSON": lambda result: result.model_dump_json(indent=1),
    "JSON by its type": lambda result: TypeAdapter(list[FlowResult]).dump_json([result]),
    "JSON of what holds it": lambda result: Report(result=result).model_dump_json(),
    "validated": lambda result: FlowResult.model_validate(result),
    "validated anew": lambda result: FlowResult.model_validate(result.model_dump()),
    "validated JSON": lambda result: FlowResult.model_validate_json(result.model_dump_json()),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_whatever_is_done_with_it_gives_the_same_as_if_the_nodes_had_been_there(use):
    assert use(late()) == use(early())
    result = late()
    use(result)
    assert use(result) == use(early())


def test_equality():
    assert late() == early()
    assert early() == late()
    assert late() == late()
    assert late().nodes == early().nodes
    assert early().nodes == late().nodes
    assert late() != read(Kept(DONE))
    assert read(Kept(DONE)) != early()
    assert late().nodes != {}


def test_it_has_no_hash():
    for result in (late(), early()):
        with pytest.raises(TypeError, match="unhashable type: 'dict'"):
            hash(result)


def test_its_schema():
    nodes = {"additionalProperties": {"$ref": "#/$defs/NodeResult"}, "title": "Nodes", "type": "object"}
    assert FlowResult.model_json_schema()["properties"]["nodes"] == nodes
    assert FlowResult.model_json_schema(mode="serialization")["properties"]["nodes"] == nodes
