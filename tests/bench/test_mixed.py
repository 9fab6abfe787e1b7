"""The harness of mixed apps: other tasks run beside nodes, and are told of. No figure is asserted."""

from __future__ import annotations

from tests.bench.mixed.__main__ import table
from tests.bench.mixed.probe import Waits, measure


def test_other_tasks_are_told_of_beside_each():
    found = measure(150, idle_s=0.2, timeout_s=30)
    assert [one.what for one in found] == ["nothing", "a flow", "the same nodes as Celery tasks"]
    assert all(one.seconds and min(one.seconds) > 0 for one in found)


def test_the_table_has_a_row_for_each():
    rows = table([Waits("nothing", [0.001], 5), Waits("a flow", [0.002, 0.004], 2.5)], 1_000).splitlines()[-2:]
    assert rows == ["| nothing | 1.0 | 1.0 | 1.0 | 1 | – |", "| a flow | 3.0 | 4.0 | 4.0 | 2 | 2.50 |"]
