"""Parents and children, gates and order: shown by when the nodes noted that they began and ended."""

import pytest

from flowq import FlowStatus, FlowType, MissingReason, NodeStatus
from tests.conformance.engines.effects import by_node
from tests.conformance.engines.flows import nesting as flows
from tests.conformance.engines.flows.nesting import gather, group, noted


class Times:
    """When the nodes of a run were at work, as they noted it."""

    def __init__(self, log, result):
        self.start = {node: found[0].at for node, found in by_node(log, result.run_id, "start").items()}
        self.end = {node: found[-1].at for node, found in by_node(log, result.run_id, "end").items()}

    def assert_order(self, before, after):
        assert self.end[before] < self.start[after], f"{after} began before {before} had ended"


def test_a_parent_gathers(run, log):
    end, inner = gather("end"), gather("inner")
    inner.register_to(end)
    noted("a").register_to(inner)
    noted("b").register_to(inner)
    noted("c").register_to(end)
    result = run(end, {"log": log})
    nothing: dict[str, list[str]] = {"upstreams": []}
    assert result.output == {"inner": {"a": nothing, "b": nothing}, "c": nothing}
    assert result.output.inner.a.upstreams == []


def test_a_parent_with_a_processor_joins(run, log):
    end, inner = group("end"), group("inner")
    inner.register_to(end)
    for name in "ab":
        noted(name).register_to(inner)
    result = run(end, {"log": log})
    assert result.output == {"upstreams": ["inner"]}
    times = Times(log, result)
    times.assert_order("inner/a", "inner")
    times.assert_order("inner/b", "inner")
    times.assert_order("inner", "end")


def test_sequential_children_run_one_after_the_other(run, log):
    end = group("end", FlowType.SEQUENTIAL)
    for name in ["first", "second", "third"]:
        noted(name).register_to(end)
    result = run(end, {"log": log})
    assert result.status is FlowStatus.COMPLETED
    times = Times(log, result)
    times.assert_order("first", "second")
    times.assert_order("second", "third")
    assert result.output == {"upstreams": ["first", "second", "third"]}


def test_sequential_children_that_are_parents(run, log):
    """All of a child's children wait for the child before."""
    end, inner = group("end", FlowType.SEQUENTIAL), group("inner")
    noted("first").register_to(end)
    inner.register_to(end)
    last = noted("last")
    last.register_to(end)
    for name in "ab":
        noted(name).register_to(inner)
    times = Times(log, run(end, {"log": log}))
    for name in "ab":
        times.assert_order("first", f"inner/{name}")
    times.assert_order("inner", "last")


def test_a_failed_child_of_a_sequence_stops_it(run, log):
    end = group("end", FlowType.SEQUENTIAL)
    for name in ["first", "second", "third"]:
        noted(name, fails=name == "second").register_to(end)
    result = run(end, {"log": log})
    assert result.status is FlowStatus.FAILED
    assert result.nodes["third"].status is NodeStatus.UPSTREAM_FAILED
    assert "third" not in Times(log, result).start


def test_children_wait_for_what_their_parent_waits_for(run, log):
    end, inner, innermost = group("end"), group("inner"), group("innermost")
    first = noted("first")
    first.register_to(end)
    inner.register_to(end, required_deps=[first.process_id])
    innermost.register_to(inner)
    noted("deep").register_to(innermost)
    noted("free").register_to(end)
    result = run(end, {"log": log})
    times = Times(log, result)
    times.assert_order("first", "inner/innermost/deep")
    times.assert_order("inner/innermost/deep", "inner/innermost")


@pytest.mark.parametrize("kind", ["required_deps", "optional_deps"])
def test_a_gate_that_fails(run, log, kind):
    end, inner = group("end"), group("inner")
    first = noted("first", fails=True)
    first.register_to(end, optional=True)
    inner.register_to(end, optional=True, **{kind: [first.process_id]})
    noted("child").register_to(inner)
    result = run(end, {"log": log})
    assert result.status is FlowStatus.COMPLETED
    if kind == "required_deps":
        assert result.nodes["inner/child"].status is NodeStatus.UPSTREAM_FAILED
        assert result.bypassed == {"end": {"first": MissingReason.FAILED, "inner": MissingReason.UPSTREAM_FAILED}}
    else:
        assert result.nodes["inner/child"].status is NodeStatus.COMPLETED
        Times(log, result).assert_order("first", "inner/child")
        reason = {"first": MissingReason.FAILED}
        assert result.bypassed == {"inner": reason, "end": reason}


def test_a_child_that_depends_on_a_flow_above_its_parent(run, log):
    end, inner = group("end"), group("inner")
    first, child = noted("first"), noted("child")
    first.register_to(end)
    inner.register_to(end)
    child.register_to(inner, required_deps=[first.process_id])
    result = run(end, {"log": log})
    assert result.status is FlowStatus.COMPLETED
    Times(log, result).assert_order("first", "inner/child")


def test_after_orders_without_a_value(run, log):
    result = run(flows.ordered, {"log": log})
    assert result.output == 3
    times = Times(log, result)
    times.assert_order("early", "late")
    times.assert_order("other", "late")


def test_after_an_optional_failure(run, log):
    result = run(flows.ordered_after_a_failure, {"log": log})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == 3
    Times(log, result).assert_order("stamp_and_fail", "late")


def test_after_a_required_failure(run, log):
    result = run(flows.ordered_after_a_required_failure, {"log": log})
    assert result.status is FlowStatus.FAILED
    assert result.nodes["late"].status is NodeStatus.UPSTREAM_FAILED
    assert "late" not in Times(log, result).start


def test_flows_in_a_flow(run, log):
    result = run(flows.outer, {"log": log, "value": 1})
    assert result.output == (1 + 10) + (1 + 10 + 10)
    times = Times(log, result)
    times.assert_order("inner/left", "inner_2/left")
    times.assert_order("inner/right", "inner_2/left")
    assert set(result.nodes) == {
        *("inner", "inner/left", "inner/right", "inner/add"),
        *("inner_2", "inner_2/left", "inner_2/right", "inner_2/add"),
        "add",
    }


def test_a_nested_flow_after_a_step(run, log):
    result = run(flows.gated, {"log": log})
    assert result.output == 15
    times = Times(log, result)
    times.assert_order("early", "inner/left")
    times.assert_order("early", "inner/right")


def test_after_a_nested_flow_is_after_all_of_it(run, log):
    result = run(flows.waits_for_the_whole_of_a_nested_flow, {"log": log})
    times = Times(log, result)
    times.assert_order("inner_side/side", "late")
    times.assert_order("inner_side/main", "late")


def test_an_optional_nested_flow_that_fails(run, log):
    result = run(flows.optional_nested, {"log": log})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == 8
    assert result.nodes["inner_that_fails"].status is NodeStatus.UPSTREAM_FAILED


def test_several_outputs(run, log):
    result = run(flows.several_outputs, {"log": log, "value": 7})
    assert result.output == {"first": 7, "both": [7, 2], "constant": 5, "input": 7}
