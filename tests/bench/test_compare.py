"""The harness of ``make bench``: every peer runs every shape, and a wrong result is an error. No figure is asserted."""

from __future__ import annotations

import threading

import pytest

from tests.bench.compare.celery_peer import TunedCeleryPeer
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.measure import Measurement, WrongResult, measure
from tests.bench.compare.peer import Job, Peer
from tests.bench.compare.report import cpu_ms_per_node, ms_per_node, notes, table
from tests.bench.compare.shapes import (
    FULL,
    QUICK,
    Chains,
    Diamonds,
    FanIn,
    Independent,
    Layered,
    Shape,
    Tree,
    Workload,
)

TINY = (
    Workload("W1", "3 chains of 4", Chains(4, 3), times=2),
    Workload("W2", "fan-in of 10", FanIn(10)),
    Workload("W3", "20 independent", Independent(20)),
    Workload("W4", "layers, 5 × 4", Layered(5, 4), note="barriers"),
    Workload("W5", "tree of 8", Tree(8)),
    Workload("W6", "3 diamonds at once", Diamonds(3)),
)
TIMEOUT_S = 30.0
PEERS = [TunedCeleryPeer(), FlowqPeer("canvas"), FlowqPeer("pull")]


class Idle(Peer):
    """Gives what it is told, without any process."""

    name = title = "idle"

    def __init__(self, *given: list[int] | None) -> None:
        self._given = iter(given)
        self.starts = 0

    def start(self) -> None:
        self.starts += 1

    def stop(self) -> None:
        pass

    def warm_up(self) -> None:
        pass

    def pause(self) -> None:
        pass

    def resume(self) -> None:
        pass

    def prepare(self, shape: Shape) -> Job:
        given = next(self._given)

        def run() -> list[int]:
            if given is None:
                threading.Event().wait()
            return given or []

        return run


@pytest.fixture(scope="module")
def found() -> list[Measurement]:
    return measure(PEERS, TINY, rounds=1, timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_runs_every_shape(found: list[Measurement], peer: Peer):
    own = [measurement for measurement in found if measurement.peer == peer.name]
    assert [(measurement.workload, measurement.failed) for measurement in own] == [(tiny, "") for tiny in TINY]
    assert [len(measurement.seconds) for measurement in own] == [tiny.times for tiny in TINY]


def test_the_tables_have_all_figures(found: list[Measurement]):
    for figure in (ms_per_node, cpu_ms_per_node):
        head, _, *rows = table(found, PEERS, "celery-tuned", figure).splitlines()
        assert head == "|  | Celery canvas, tuned | flowq canvas | flowq pull |"
        assert len(rows) == len(TINY)
        assert all(row.count("×)") == len(PEERS) and "(1.00×)" in row for row in rows)
    assert "layers, 5 × 4: barriers" in notes(found, PEERS)


def test_a_wrong_result_is_an_error():
    with pytest.raises(WrongResult, match="idle, fan-in"):
        measure([Idle([44])], [Workload("W2", "fan-in", FanIn(10))], rounds=1, timeout_s=1)


def test_what_fails_is_told_and_not_tried_again():
    peer, workload = Idle(None, [45]), Workload("W2", "fan-in", FanIn(10))
    found = measure([peer], [workload], rounds=3, timeout_s=0.1)
    assert [measurement.failed for measurement in found] == ["failed (0.1 s)"]
    assert peer.starts == 2, "what it left undone must not disturb the next run"
    assert "| W2 fan-in | failed (0.1 s) |" in table(found, [peer], "idle", ms_per_node)


@pytest.mark.parametrize("workload", [*QUICK, *FULL], ids=lambda workload: workload.title)
def test_shapes_say_what_comes_of_them(workload: Workload):
    """By rules of their own: a shape's own rule would confirm itself."""
    match workload.shape:
        case Chains(length, count):
            assert workload.shape.expected == [length] * count
        case FanIn(leaves) | Tree(leaves):
            assert workload.shape.expected == [leaves * (leaves - 1) // 2]
        case Layered(layers, width):
            upstreams = workload.shape.upstreams
            assert len(upstreams) == layers * width
            assert all(1 <= len(found) <= 5 for found in upstreams[width:])
            assert all(
                0 < number // width - upstream // width <= 3 for number, own in enumerate(upstreams) for upstream in own
            )
        case _:
            assert len(workload.shape.expected) in (1, workload.shape.nodes, workload.shape.nodes // 5)
