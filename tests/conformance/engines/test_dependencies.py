"""Required and optional upstreams that did not complete: who runs, who does not, and what is said about it."""

import pytest

from flowq import Flow, FlowConfig, FlowStatus, FlowType, MissingReason, NodeStatus
from tests.conformance.engines.flows import dependencies as flows
from tests.conformance.engines.flows.dependencies import parent, step

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
UPSTREAM_FAILED = NodeStatus.UPSTREAM_FAILED


def statuses(result):
    return {name: node.status for name, node in result.nodes.items()}


def test_a_failed_required_and_a_failed_optional_upstream(run):
    end = parent()
    needed, wanted, node = step("needed", "fail"), step("wanted", "fail"), step("node")
    for child in (needed, wanted):
        child.register_to(end)
    node.register_to(end, required_deps=[needed.process_id], optional_deps=[wanted.process_id])
    result = run(end, {})
    assert result.status is FlowStatus.FAILED
    assert statuses(result) == {
        "needed": FAILED,
        "wanted": FAILED,
        "node": UPSTREAM_FAILED,
        "end": UPSTREAM_FAILED,
    }
    assert result.output is None
    assert result.bypassed == {}
    assert set(result.failures) == {"needed", "wanted"}
    assert result.error == "needed: ValueError: told to fail\nwanted: ValueError: told to fail"
    assert "told to fail" in result.traceback
    assert result.nodes["node"].attempt == 0


def test_only_an_optional_upstream_failed(run):
    end = Flow(None, FlowConfig(name="end"))
    wanted, needed, node = step("wanted", "fail"), step("needed"), step("node")
    wanted.register_to(end, optional=True)
    needed.register_to(end)
    node.register_to(end, required_deps=[needed.process_id], optional_deps=[wanted.process_id])
    result = run(end, {})
    assert result.status is FlowStatus.COMPLETED
    assert result.error is None
    assert statuses(result) == {"wanted": FAILED, "needed": COMPLETED, "node": COMPLETED, "end": COMPLETED}
    assert result.output["node"] == {"saw": {"needed": True, "wanted": False}, "missing": {"wanted": "failed"}}
    assert result.output["wanted"] is None
    assert result.bypassed == {
        "node": {"wanted": MissingReason.FAILED},
        "end": {"wanted": MissingReason.FAILED},
    }
    assert result.failures["wanted"].message == "told to fail"


@pytest.mark.parametrize("child_is_optional", [False, True])
def test_a_failure_below_a_nested_parent(run, child_is_optional):
    end, inner = parent(), parent("inner")
    inner.register_to(end, optional=True)
    bad, good = step("bad", "fail"), step("good")
    bad.register_to(inner, optional=child_is_optional)
    good.register_to(inner)
    result = run(end, {})
    inner_status = COMPLETED if child_is_optional else UPSTREAM_FAILED
    assert statuses(result) == {
        "inner/bad": FAILED,
        "inner/good": COMPLETED,
        "inner": inner_status,
        "end": COMPLETED,
    }
    assert result.status is FlowStatus.COMPLETED
    if child_is_optional:
        assert result.bypassed == {"inner": {"bad": MissingReason.FAILED}}
        assert result.output == {"saw": {"inner": True}, "missing": {}}
    else:
        assert result.bypassed == {"end": {"inner": MissingReason.UPSTREAM_FAILED}}
        assert result.output == {"saw": {"inner": False}, "missing": {"inner": "upstream_failed"}}


def test_a_required_child_that_fails_below_a_required_parent_fails_the_run(run):
    end, inner = parent(), parent("inner")
    inner.register_to(end)
    step("bad", "fail").register_to(inner)
    result = run(end, {})
    assert result.status is FlowStatus.FAILED
    assert statuses(result) == {"inner/bad": FAILED, "inner": UPSTREAM_FAILED, "end": UPSTREAM_FAILED}
    assert result.error == "inner/bad: ValueError: told to fail"


def test_a_skipped_required_upstream_skips(run):
    end = parent()
    first, second = step("first", "skip"), step("second")
    first.register_to(end)
    second.register_to(end, required_deps=[first.process_id])
    result = run(end, {})
    assert result.status is FlowStatus.COMPLETED  # every sink is completed, or skipped by condition
    assert statuses(result) == {"first": SKIPPED, "second": SKIPPED, "end": SKIPPED}
    assert result.output is None
    assert result.failures == {}


def test_a_skipped_optional_upstream_is_bypassed(run):
    end = parent()
    first, second = step("first", "skip"), step("second")
    first.register_to(end, optional=True)
    second.register_to(end, optional_deps=[first.process_id])
    result = run(end, {})
    assert result.status is FlowStatus.COMPLETED
    assert statuses(result) == {"first": SKIPPED, "second": COMPLETED, "end": COMPLETED}
    assert result.bypassed == {"second": {"first": MissingReason.SKIPPED}, "end": {"first": MissingReason.SKIPPED}}
    assert result.output == {"saw": {"first": False, "second": True}, "missing": {"first": "skipped"}}


def test_a_skipped_and_a_failed_required_upstream(run):
    """The first one to end decides; both ways the node does not run."""
    end = Flow(None, FlowConfig(name="end"))
    first, second, node = step("first", "skip"), step("second", "fail"), step("node")
    first.register_to(end, optional=True)
    second.register_to(end, required_deps=[first.process_id], optional=True)
    node.register_to(end, required_deps=[first.process_id, second.process_id], optional=True)
    result = run(end, {})
    assert statuses(result) == {"first": SKIPPED, "second": SKIPPED, "node": SKIPPED, "end": COMPLETED}
    assert result.output == {"first": None, "second": None, "node": None}


def test_a_timed_out_optional_upstream(run):
    end = parent()
    slow, node = Flow(flows.Sleeper(), FlowConfig(name="slow", timeout=0.2)), step("node")
    slow.register_to(end, optional=True)
    node.register_to(end, optional_deps=[slow.process_id])
    result = run(end, {})
    assert result.status is FlowStatus.COMPLETED
    assert statuses(result) == {"slow": FAILED, "node": COMPLETED, "end": COMPLETED}
    reason = MissingReason.TIMED_OUT
    assert result.bypassed == {"node": {"slow": reason}, "end": {"slow": reason}}
    assert result.output["missing"] == {"slow": "timed_out"}


def test_upstream_failed_is_passed_on_as_such(run):
    end = parent()
    bad, between, node = step("bad", "fail"), step("between"), step("node")
    bad.register_to(end, optional=True)
    between.register_to(end, required_deps=[bad.process_id], optional=True)
    node.register_to(end, optional_deps=[between.process_id])
    result = run(end, {})
    assert result.status is FlowStatus.COMPLETED
    assert result.bypassed["node"] == {"between": MissingReason.UPSTREAM_FAILED}
    assert result.bypassed["end"] == {"bad": MissingReason.FAILED, "between": MissingReason.UPSTREAM_FAILED}


def test_a_failed_sink_that_nothing_needs_fails_the_run(run):
    end = Flow(flows.Step(does="fail"), FlowConfig(name="end", flow_type=FlowType.PARALLEL))
    step("child").register_to(end)
    result = run(end, {})
    assert result.status is FlowStatus.FAILED
    assert statuses(result) == {"child": COMPLETED, "end": FAILED}


@pytest.mark.parametrize("placement", [FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE])
def test_every_placement_fails_skips_and_bypasses_alike(run, placement):
    end = Flow(flows.Step(), FlowConfig(name="end", flow_type=placement))
    bad = step("bad", "fail", flow_type=placement)
    skipped = step("skipped", "skip", flow_type=placement)
    after = step("after", flow_type=placement)
    bad.register_to(end, optional=True)
    skipped.register_to(end, optional=True)
    after.register_to(end, optional_deps=[bad.process_id, skipped.process_id])
    result = run(end, {})
    assert statuses(result) == {"bad": FAILED, "skipped": SKIPPED, "after": COMPLETED, "end": COMPLETED}
    assert result.bypassed["after"] == {"bad": MissingReason.FAILED, "skipped": MissingReason.SKIPPED}


def test_an_optional_parameter_gets_none(run):
    result = run(flows.optional_by_annotation, {"value": 7})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == [7, None]
    assert result.bypassed == {"both": {"broken": MissingReason.FAILED}}


def test_optional_as_a_word(run):
    result = run(flows.optional_by_word, {"value": 7})
    assert result.output == [None, 7]
    assert result.bypassed == {"both": {"broken": MissingReason.FAILED}}


def test_required_as_a_word(run):
    result = run(flows.required_by_word, {"value": 7})
    assert result.status is FlowStatus.FAILED
    assert statuses(result) == {"number": COMPLETED, "broken": FAILED, "both": UPSTREAM_FAILED}
    assert result.error == "broken: ValueError: told to fail with 7"


def test_a_skipped_optional_parameter(run):
    result = run(flows.skipped_upstream, {"value": 7})
    assert result.output == [7, None]
    assert result.bypassed == {"both": {"nothing": MissingReason.SKIPPED}}


def test_all_skipped(run):
    result = run(flows.only_skipped, {"value": 7})
    assert result.status is FlowStatus.COMPLETED
    assert result.output is None
    assert statuses(result) == {"nothing": SKIPPED, "number": SKIPPED}
