"""Graphs in the shapes of published workflows: every node ran once, after its upstreams, and gave what it must give.

That is shown by what the nodes wrote down themselves, and by an evaluation without any engine.
"""

import random

import pytest

from flowq import FlowStatus, FlowType
from tests.conformance.engines.effects import by_node
from tests.conformance.engines.flows.digests import as_class_form, as_function_form
from tests.conformance.engines.shapes import SHAPES, Shape, evaluate, layered


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


@pytest.mark.parametrize("shape", SHAPES)
def test_in_the_function_form(run, log, shape):
    graph = SHAPES[shape]()
    assert_ran_as_drawn(graph, run(as_function_form(graph), {"log": log}), log)


@pytest.mark.parametrize("seed", range(6))
def test_in_mixed_placements(run, log, seed):
    graph = layered(8, 8, seed=100 + seed, edges=4)
    choose = random.Random(seed)
    placements = {name: choose.choice([FlowType.PROCESS, FlowType.THREAD, FlowType.INLINE]) for name in graph}
    assert_ran_as_drawn(graph, run(as_class_form(graph, placements), {"log": log}), log)
