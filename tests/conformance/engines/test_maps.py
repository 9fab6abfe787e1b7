"""Fan-out over a list: one node per item, the list of their outputs downstream."""

import pytest

from flowq import FailureKind, FlowStatus, MissingReason, NodeStatus
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import maps as flows

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED


def test_over_a_known_list(run):
    result = run(flows.known_list, {})
    assert result.output == [2, 4, 6]
    assert {name: node.status for name, node in result.nodes.items()} == {
        "double": COMPLETED,
        "double[0]": COMPLETED,
        "double[1]": COMPLETED,
        "double[2]": COMPLETED,
    }


def test_over_a_known_list_into_a_step(run):
    assert run(flows.known_list_summed, {}).output == 12


def test_over_a_list_in_the_input(run):
    assert run(flows.list_in_the_input, {"items": [1, 2, 3, 4]}).output == 20


@pytest.mark.parametrize("count", [0, 1, 7])
def test_over_a_list_known_at_run_time(run, count):
    result = run(flows.run_time_list, {"count": count})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == sum(2 * item for item in range(count))
    assert sum(name.startswith("double[") for name in result.nodes) == count
    assert result.nodes["double"].status is COMPLETED


def test_an_empty_map_as_the_flows_output(run):
    assert run(flows.map_as_output, {"count": 0}).output == []
    assert run(flows.list_in_the_input, {"items": []}).output == 0


def test_more_items_than_one_call_opens(run, log):
    count = 1100
    result = run(flows.many_noted, {"count": count, "log": log})
    assert result.output == sum(range(count))
    assert sorted(effect.more for effect in effects(log, result.run_id)) == list(range(count))


def test_over_what_is_no_list(run):
    result = run(flows.not_a_list, {"count": 3})
    assert result.status is FlowStatus.FAILED
    failure = result.nodes["double"].failure
    assert (failure.kind, failure.type) == (FailureKind.INPUT, "flowq.core.errors.ArgumentError")
    assert "'double'" in failure.message
    assert "return a list" in failure.message
    assert result.nodes["total"].status is NodeStatus.UPSTREAM_FAILED
    assert set(result.nodes) == {"no_list", "double", "total"}


def test_over_a_list_that_holds_outputs(run):
    assert run(flows.mixed_list, {"count": 3}).output == [12, 10, 12]


def test_map_of_a_map(run):
    result = run(flows.of_a_map, {"count": 5})
    assert result.output == 4 * sum(range(5))
    assert result.nodes["double_2[4]"].status is COMPLETED


def test_chained_maps(run):
    assert run(flows.chained, {"count": 4}).output == 6 + 4 * 12


def test_in_other_placements(run):
    assert run(flows.placed_elsewhere, {"count": 6}).output == 4 * sum(range(6))


def test_a_failed_item_fails_what_requires_the_whole(run):
    result = run(flows.with_required_total, {"count": 4, "bad": [2], "skip": []})
    assert result.status is FlowStatus.FAILED
    assert result.nodes["picky[2]"].failure.message == "2 is bad"
    assert result.nodes["picky"].status is FAILED
    assert result.nodes["total"].status is NodeStatus.UPSTREAM_FAILED
    assert result.error == "picky[2]: ValueError: 2 is bad"
    # The other items are not stopped.
    assert [result.nodes[f"picky[{item}]"].status for item in range(4)] == [COMPLETED, COMPLETED, FAILED, COMPLETED]


def test_a_failed_item_leaves_a_gap_for_what_can_do_without(run):
    result = run(flows.with_optional_total, {"count": 4, "bad": [2], "skip": []})
    assert result.status is FlowStatus.COMPLETED
    assert result.output == [0, 1, None, 3]
    assert result.bypassed == {"total_of_some": {"picky[2]": MissingReason.FAILED}}
    assert set(result.failures) == {"picky[2]"}


def test_a_skipped_item(run):
    required = run(flows.with_required_total, {"count": 3, "bad": [], "skip": [1]})
    assert required.status is FlowStatus.COMPLETED
    assert required.nodes["total"].status is SKIPPED
    assert required.nodes["picky"].status is SKIPPED
    optional = run(flows.with_optional_total, {"count": 3, "bad": [], "skip": [1]})
    assert optional.output == [0, None, 2]
    assert optional.bypassed == {"total_of_some": {"picky[1]": MissingReason.SKIPPED}}


def test_failed_and_skipped_items(run):
    result = run(flows.with_optional_total, {"count": 5, "bad": [1, 4], "skip": [2]})
    assert result.output == [0, None, None, 3, None]
    assert result.nodes["picky"].status is FAILED
    assert result.bypassed["total_of_some"] == {
        "picky[1]": MissingReason.FAILED,
        "picky[2]": MissingReason.SKIPPED,
        "picky[4]": MissingReason.FAILED,
    }


def test_all_items_failed(run):
    result = run(flows.with_optional_total, {"count": 2, "bad": [0, 1], "skip": []})
    assert result.output == [None, None]


def test_over_an_upstream_that_failed(run):
    result = run(flows.over_a_failed_upstream, {})
    assert result.status is FlowStatus.COMPLETED
    assert result.nodes["double"].status is NodeStatus.UPSTREAM_FAILED
    assert result.output == [-1]
    assert result.bypassed == {"total_of_some": {"double": MissingReason.UPSTREAM_FAILED}}
