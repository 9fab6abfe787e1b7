"""The harness of growth: what it says of a run is there. No figure is asserted."""

from __future__ import annotations

import sys

import pytest
import redis

from flowq.standalone import EmbeddedServer
from tests.bench.growth.__main__ import keys_table, sizes_table
from tests.bench.growth.memory import Peak, bytes_by_kind, more
from tests.bench.growth.points import KINDS, Kind, Point, points


def test_points_are_measured_in_the_order_of_their_sizes():
    found = list(points(KINDS[:1], [3, 6], 30))
    assert [(point.kind, point.nodes, point.failed) for point in found] == [("chain", 3, ""), ("chain", 6, "")]
    assert all(point.run_bytes > 0 and point.plan_bytes > 0 for point in found)
    assert "flowq:run:*:nodes" in found[0].key_bytes


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_gives_what_it_says_and_has_as_many_nodes(kind: Kind):
    made, given, expected = kind.make(7)
    assert made.run(*given).output == expected
    assert len(made.plan()) == 7 or isinstance(expected, list)


def test_keys_are_told_by_their_kind():
    with EmbeddedServer() as server, redis.Redis.from_url(server.redis_url) as client:
        before = bytes_by_kind(client)
        for run in ("0123456789abcdef", "fedcba9876543210"):
            client.hset(f"flowq:run:{run}:nodes", "1", "x" * 1000)
        client.set("flowq:epoch", 1)
        found = more(bytes_by_kind(client), before)
    assert [*found] == ["flowq:epoch", "flowq:run:*:nodes"]
    assert found["flowq:run:*:nodes"] > 2000
    assert more(found, found) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_peak_stays_when_the_memory_is_given_back():
    peak = Peak()
    large = bytearray(64_000_000)
    large[::4096] = b"x" * len(large[::4096])
    del large
    assert peak.bytes > 50_000_000
    assert Peak().bytes < 50_000_000, "each knows its own time only"


def test_the_tables_tell_what_failed():
    found = [
        Point("chain", 10, run_s=1.0, key_bytes={"a:plan:*": 20, "a:run:*": 30}),
        Point("chain", 100, failed="failed (1 s)"),
    ]
    assert "| chain | 10 | 100.000 | 0.000 | 5 | 3 | 2 |" in sizes_table(found)
    assert "| chain | 100 | failed (1 s) |" in sizes_table(found)
    assert "| a:plan:* | 2.0 |" in keys_table(found)
