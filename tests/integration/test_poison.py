"""Nodes that kill their process fail and do no harm beside that; nodes that are far longer than a lease run once."""

from __future__ import annotations

from collections import Counter
from typing import get_args

import pytest

from flowq import FlowStatus, FlowType
from flowq.testing.fleet import fleet
from tests.chaos import poisoned
from tests.chaos.poisoned import How, long, poison

SHORT = {"lease_s": 0.6, "renew_s": 0.2, "sweep_s": 0.3}


@pytest.fixture(scope="module")
def workers():
    with fleet(2, [poisoned], concurrency=2, settings=SHORT) as started:
        yield started


def test_poison_runs_as_often_as_it_may_and_all_else_completes(workers):
    found = poison(workers, seed=1, good=100, bad=4)
    assert found.executions == Counter({3: 4})
    assert (found.letters, found.failed, found.good) == (4, 4, 100)


def test_nodes_of_ten_leases_run_once_whatever_they_do(workers):
    hows = get_args(How)
    found = long(workers, hows, count=len(hows), seconds=10 * SHORT["lease_s"], flow_type=FlowType.PROCESS)
    assert found.shortest > 9 * SHORT["lease_s"]
    assert (found.executions, found.status) == (Counter({1: len(hows)}), FlowStatus.COMPLETED)


def test_many_nodes_of_ten_leases_run_once_in_threads(workers):
    found = long(workers, ["sleeps"], count=30, seconds=10 * SHORT["lease_s"], flow_type=FlowType.THREAD)
    assert (found.executions, found.status) == (Counter({1: 30}), FlowStatus.COMPLETED)
