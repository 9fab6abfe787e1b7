"""Graphs in the shapes of published workflows: every node ran once, after its upstreams, and gave what it must give.

That is shown by what the nodes wrote down themselves, and by an evaluation without any engine.
"""

import random
from collections.abc import Mapping

import pytest

from flowq import Flow, FlowConfig, FlowStatus, FlowType, MissingReason, NodeStatus
from tests.conformance.engines.effects import by_node
from tests.conformance.engines.flows.dependencies import step
from tests.conformance.engines.flows.digests import as_class_form, as_function_form
from tests.conformance.engines.shapes import SHAPES, Shape, evaluate, fork_join, layered, wide


def assert_ran_as_drawn(shape: Shape, result, log):
    assert result.status is FlowStatus.COMPLETED, result.error
    assert result.output == evaluate(shape)
    starts, ends = by_node(log, result.run_id, "start"), by_node(log, result.run_id, "end")
    assert starts.keys() == ends.keys() == shape.keys()
    assert {name for name, found in starts.items() if len(found) != 1} == set(), "ran more than once"
    early = [
        f"{name} began before {upstream} had ended"
        for name, upstreams in shape.items()
        for upstream in upstreams
        if starts[name][0].at < ends[upstream][0].at
    ]
    assert early == []


@pytest.mark.parametrize("shape", SHAPES)
def test_in_the_class_form(run, log, shape):
    graph = SHAPES[shape]()
    assert_ran_as_drawn(graph, run(as_class_form(graph), {"log": log}), log)


# The same plans again, so one large one is enough: what is larger here is the list that one call is given.
IN_FUNCTIONS = {name: make for name, make in SHAPES.items() if make is not wide}
IN_FUNCTIONS["1,102 nodes, one waits for 1,100"] = lambda: fork_join(1100)


@pytest.mark.parametrize("shape", IN_FUNCTIONS)
def test_in_the_function_form(run, log, shape):
    graph = IN_FUNCTIONS[shape]()
    assert_ran_as_drawn(graph, run(as_function_form(graph), {"log": log}), log)


@pytest.mark.parametrize("seed", range(6))
def test_in_mixed_placements(run, log, seed):
    graph = layered(8, 8, seed=100 + seed, edges=4)
    choose = random.Random(seed)
    placements = {name: choose.choice([FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]) for name in graph}
    result = run(as_class_form(graph, placements), {"log": log})
    assert_ran_as_drawn(graph, result, log)
    workers = {name: node.worker for name, node in result.nodes.items()}
    for name, upstreams in graph.items():
        if placements[name] is FlowType.INLINE and upstreams:  # it never left the worker of its last upstream
            assert workers[name] in {workers[upstream] for upstream in upstreams}


# ── failures and skips at random, against the rules as a page of Python ───────────────────────────────────────────────

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
REASONS = {
    FAILED: MissingReason.FAILED,
    SKIPPED: MissingReason.SKIPPED,
    NodeStatus.UPSTREAM_FAILED: MissingReason.UPSTREAM_FAILED,
}


def expected(shape: Shape, does: Mapping[str, str], optional: set[tuple[str, str]]):
    """Give each node's status and what it misses. Failures and skips are not mixed: which comes first would decide."""
    statuses: dict[str, NodeStatus] = {}
    missing: dict[str, dict[str, MissingReason]] = {}
    for name, upstreams in shape.items():
        ended = {upstream: statuses[upstream] for upstream in upstreams}
        broken = {ended[up] for up in upstreams if (up, name) not in optional} - {COMPLETED}
        if broken:
            statuses[name] = SKIPPED if broken == {SKIPPED} else NodeStatus.UPSTREAM_FAILED
            continue
        statuses[name] = {"succeed": COMPLETED, "fail": FAILED, "skip": SKIPPED}[does[name]]
        missing[name] = {upstream: REASONS[status] for upstream, status in ended.items() if status is not COMPLETED}
    return statuses, missing


@pytest.mark.parametrize("goes_wrong", ["fail", "skip"])
@pytest.mark.parametrize("seed", range(8))
def test_nodes_that_go_wrong_at_random(run, seed, goes_wrong):
    choose = random.Random(seed)
    shape = layered(7, 8, seed=200 + seed, edges=4)
    does = {name: choose.choice(["succeed", "succeed", "succeed", goes_wrong]) for name in shape}
    optional = {(up, name) for name, upstreams in shape.items() for up in upstreams if choose.random() < 0.6}
    end = Flow(None, FlowConfig(name="end"))
    flows = {
        name: step(name, does[name], flow_type=choose.choice([FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]))
        for name in shape
    }
    for name, upstreams in shape.items():
        flows[name].register_to(
            end,
            required_deps=[flows[up] for up in upstreams if (up, name) not in optional],
            optional_deps=[flows[up] for up in upstreams if (up, name) in optional],
            optional=True,
        )
    result = run(end, {})
    statuses, missing = expected(shape, does, optional)
    assert {COMPLETED, *REASONS} - {SKIPPED if goes_wrong == "fail" else FAILED} >= set(statuses.values())
    assert {name: node.status for name, node in result.nodes.items()} == {**statuses, "end": COMPLETED}
    assert {name: result.nodes[name].missing for name in missing} == missing
    for name, status in statuses.items():
        if status is not COMPLETED:
            assert result.output[name] is None
        else:
            assert result.output[name]["missing"] == {up: str(reason) for up, reason in missing[name].items()}
            assert result.output[name]["saw"] == {up: up not in missing[name] for up in shape[name]}
