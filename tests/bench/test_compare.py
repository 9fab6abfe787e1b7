"""The harness of ``make bench``: every peer runs every shape, and a wrong result is an error. No figure is asserted."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import pytest
from typer import BadParameter

from tests.bench.compare.__main__ import chosen
from tests.bench.compare.bodies import heavy, number_of
from tests.bench.compare.celery_peer import TunedCeleryPeer
from tests.bench.compare.competitors import USUAL, others
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.graph import INPUT, call, graph_of, inputs_of
from tests.bench.compare.limit_peer import LimitPeer
from tests.bench.compare.measure import Measurement, WrongResult, measure
from tests.bench.compare.others.huey_peer import HueyPeer
from tests.bench.compare.peer import Job, Laps, NotExpressible, Peer
from tests.bench.compare.picture import picture
from tests.bench.compare.report import (
    cpu_ms_per_node,
    every_round,
    headline,
    latencies,
    ms_per_node,
    notes,
    ratios,
    table,
)
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Tree
from tests.bench.compare.workloads import FULL, QUICK, WORK, Workload

TINY = (
    Workload("W1", "3 chains of 4", Chains(4, 3), times=2),
    Workload("W2", "fan-in of 10", FanIn(10)),
    Workload("W3", "20 independent", Independent(20)),
    Workload("W4", "layers, 5 × 4", Layered(5, 4), note="barriers"),
    Workload("W5", "tree of 8", Tree(8)),
    Workload("W6", "30 diamonds at once", Diamonds(30)),
    Workload("W1", "a chain of 4, work", Chains(4, work="spin")),
    Workload("W2", "fan-in of 4, 100 KB", FanIn(4, "heavy")),
)
TIMEOUT_S = 30.0
PEERS = [TunedCeleryPeer(), FlowqPeer("canvas"), FlowqPeer("pull"), LimitPeer(), LimitPeer(32)]


class Idle(Peer):
    """Gives what it is told, without any process."""

    name = title = "idle"

    def __init__(self, *given: list[int] | type[Exception] | None) -> None:
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
        if given is NotExpressible:
            raise NotExpressible

        def run(laps: Laps) -> list[int]:
            number = laps.begin()
            if given is None:
                threading.Event().wait()
            if isinstance(given, type):
                raise given
            laps.end(number)
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
    titles = " | ".join(peer.title for peer in PEERS)
    for figure in (ms_per_node, cpu_ms_per_node):
        head, _, *rows = table(found, PEERS, "celery-tuned", figure).splitlines()
        assert head == f"|  | {titles} |"
        assert len(rows) == len(TINY)
        assert all(row.count("×)") == len(PEERS) and "(1.00×)" in row for row in rows)
    assert "layers, 5 × 4: barriers" in notes(found, PEERS)
    assert all(row.split(" | ")[4] == "1.00" for row in ratios(found, PEERS, "limit").splitlines()[2:])


def test_runs_at_once_have_latencies(found: list[Measurement]):
    _, _, *rows = latencies(found, PEERS).splitlines()
    assert len(rows) == 1
    assert rows[0].startswith("| W6 30 diamonds at once |")
    assert rows[0].count(" / ") == len(PEERS)


def test_each_run_has_its_own_latency():
    laps = Laps()
    first, second = laps.begin(), laps.begin()
    laps.end(second)
    between = laps.begin()
    laps.end(first)
    laps.end(between)
    assert laps.seconds[1] < laps.seconds[0] > laps.seconds[2]


def test_the_picture_is_drawn_of_what_there_is(found: list[Measurement]):
    image = ElementTree.fromstring(picture(found, PEERS))
    bars = [found for found in image.iter() if found.tag.endswith("rect")]
    assert len(bars) == 1 + len(PEERS) + len(PEERS) * len(TINY), "background, legend and a bar for each figure"


def test_the_headline_has_the_ratios(found: list[Measurement]):
    _, _, *rows = headline(found, "flowq-pull", "celery-tuned", "limit").splitlines()
    assert rows[0].startswith("| W1 3 chains of 4 | ")
    for row in rows:
        own, canvas, faster, least, above = map(float, row.strip(" |").split(" | ")[1:])
        assert faster == pytest.approx(canvas / own, rel=0.1, abs=0.1)
        assert above == pytest.approx(own / least, rel=0.1, abs=0.1)


def test_json_has_every_round(found: list[Measurement]):
    read = json.loads(json.dumps(every_round(found)))
    assert len(read) == len(found)
    assert all(("run_p99_ms" in one) == (one["title"] == "30 diamonds at once") for one in read)


def test_a_wrong_result_is_an_error():
    with pytest.raises(WrongResult, match="idle, fan-in"):
        measure([Idle([44])], [Workload("W2", "fan-in", FanIn(10))], rounds=1, timeout_s=1)


def test_what_fails_is_told_and_not_tried_again():
    peer, workload = Idle(None, [45]), Workload("W2", "fan-in", FanIn(10))
    found = measure([peer], [workload], rounds=3, timeout_s=0.1)
    assert [measurement.failed for measurement in found] == ["failed (0.1 s)"]
    assert peer.starts == 2, "what it left undone must not disturb the next run"
    assert "| W2 fan-in | failed (0.1 s) |" in table(found, [peer], "idle", ms_per_node)


def test_what_takes_long_is_measured_in_fewer_rounds():
    peer, quick, slow = Idle(*[[45], [6]] * 3), Workload("W2", "fan-in", FanIn(10)), Workload("W5", "tree", Tree(4))
    found = measure([peer], [quick, slow], rounds=3, timeout_s=1, enough_s=0)
    assert [(one.round, one.workload) for one in found] == [(0, quick), (0, slow)]
    assert len(measure([Idle(*[[45]] * 3)], [quick], rounds=3, timeout_s=1, enough_s=0, always=["idle"])) == 3
    again = [*found, *(replace(found[0], round=number) for number in (1, 2))]
    assert "- In fewer rounds, as each takes long: idle on W5 tree (1)." in notes(again, [peer])


def test_an_error_is_told_and_so_is_what_cannot_be_said():
    tree, fan_in = Workload("W5", "tree", Tree(4)), Workload("W2", "fan-in", FanIn(10))
    peer = Idle(NotExpressible, RecursionError, [6])
    found = measure([peer], [tree, fan_in], rounds=2, timeout_s=1)
    assert [measurement.failed for measurement in found] == ["–", "failed (RecursionError)"]
    assert [number for number in picture(found, [peer]).split(">") if number.startswith("failed (R")]
    assert latencies(found, [peer]) == ""


@pytest.mark.parametrize("workload", TINY, ids=lambda workload: workload.title)
def test_plain_graphs_compute_the_shapes(workload: Workload):
    graph = graph_of(workload.shape)
    found: list[Any] = []
    for given in inputs_of(workload.shape):
        values: list[Any] = []
        for node in graph.nodes:
            before = [given[0] if upstream == INPUT else values[upstream] for upstream in node.upstreams]
            values.append(call(node.body, before, node.constants))
        found += [number_of(values[number]) for number in graph.results]
    assert found == workload.shape.expected


def test_a_heavy_value_is_weighed():
    assert number_of(heavy(12)) == 12
    with pytest.raises(ValueError, match="100000 characters, not 99999"):
        number_of(heavy(12)[:-1])


def test_peers_are_chosen_by_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(HueyPeer, "missing", lambda self: "pip install huey")
    assert [peer.name for peer in chosen("limit,flowq-pull", "huey,limit")] == ["limit", "flowq-pull"]
    assert "huey is left out: pip install huey" in capsys.readouterr().err
    with pytest.raises(BadParameter, match="no such peers: nobody"):
        chosen("nobody,limit", "")


def test_every_other_peer_says_what_it_lacks():
    for name, peer in others().items():
        assert name == peer.name
        assert name not in {usual.name for usual in USUAL}
        assert peer.missing() == "" or peer.missing().startswith(("pip install ", "npm install "))


@pytest.mark.parametrize("workload", [*QUICK, *FULL, *WORK], ids=lambda workload: workload.title)
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
            below = {upstream for own in upstreams for upstream in own}
            assert len(workload.shape.expected) == len(upstreams) - len(below), "every sink's value, and no other"
            assert all(
                0 < number // width - upstream // width <= 3 for number, own in enumerate(upstreams) for upstream in own
            )
        case _:
            assert len(workload.shape.expected) in (1, workload.shape.nodes, workload.shape.nodes // 5)
