"""The harness of latencies: marks, and what is told from them. No figure is asserted."""

from __future__ import annotations

import pytest

from tests.bench.compare.bodies import Mark
from tests.bench.compare.celery_peer import TunedCeleryPeer
from tests.bench.compare.graph import INPUT, call, graph_of, inputs_of
from tests.bench.compare.shapes import Diamonds
from tests.bench.latency.__main__ import table
from tests.bench.latency.hops import CHAIN, FORK, KINDS, Latency, along, between, in_order

AWAY: list[Mark] = [[0, 1, 1], [1.5, 9, 1], [4, 9, 2], [5, 9, 3], [10, 11, 1]]


def test_hops_are_told_from_marks():
    assert along(AWAY[:2]) == [0.5]
    assert between(AWAY) == 3, "the first one that is elsewhere"
    assert between([[began, ended, 1] for began, ended, _ in AWAY]) is None


@pytest.mark.parametrize(
    ("place", "mark", "right"),
    [(0, [0, 1, 1], True), (0, [2, 1, 1], False), (2, [0.5, 9, 2], False), (4, [8, 11, 1], False)],
)
def test_marks_are_in_order(place: int, mark: Mark, right: bool):
    assert in_order([*AWAY[:place], mark, *AWAY[place + 1 :]], Diamonds(1)) is right
    assert not in_order(AWAY[:4], Diamonds(1))


@pytest.mark.parametrize("shape", [CHAIN, FORK], ids=["chain", "fork"])
def test_every_node_leaves_a_mark(shape):
    graph = graph_of(shape)
    values: list[list[Mark]] = []
    for node in graph.nodes:
        before = [inputs_of(shape)[0][0] if upstream == INPUT else values[upstream] for upstream in node.upstreams]
        values.append(call(node.body, before, node.constants))
    found = values[graph.results[0]]
    assert len(found) == shape.nodes
    if shape is CHAIN:
        assert in_order(found, shape)


def test_the_table_compares_medians_with_the_first():
    peers = [TunedCeleryPeer(), TunedCeleryPeer()]
    peers[1].name = "other"
    found = {
        "celery-tuned": dict.fromkeys(KINDS, Latency([0.001, 0.002, 0.003])),
        "other": {**dict.fromkeys(KINDS, Latency([0.004])), KINDS[0]: Latency(missed=3)},
    }
    rows = table(found, peers).splitlines()[-len(KINDS) :]
    assert rows[0] == f"| {KINDS[0]} | 2.00 / 2.98 | – |"
    assert rows[1] == f"| {KINDS[1]} | 2.00 / 2.98 | 4.00 / 4.00 (2.00×) |"
