"""The harness in small: a few runs, two kills, and the checker finds nothing."""

from __future__ import annotations

import pytest

from tests.chaos.faults import Fault, Kind, Mix, make_plan
from tests.chaos.flowq_peer import FlowqPeer

SMALL = FlowqPeer("small", "flowq, small", lease_s=1.5, renew_s=0.4, sweep_s=0.3, workers=2)


@pytest.mark.timeout(90)
def test_a_few_runs_outlive_two_kills():
    plan = [Fault(0.6, Kind.CHILD, 0.0, 0.3, True), Fault(1.4, Kind.TREE, 0.2, 0.7, True)]
    times = [0.0, 0.1, 0.3, 0.9, 1.1, 1.2]  # all shapes up to the first with retries; one of them as a canvas
    outcome = SMALL.chaos(4, times, plan, patience_s=45)
    assert outcome.violations == [], "\n".join(outcome.stories)
    assert (outcome.right, outcome.wrong, outcome.hung) == (6, 0, 0)
    assert outcome.faults == {Kind.CHILD.value: 1, Kind.TREE.value: 1}


def test_a_plan_repeats_and_has_what_was_asked_for():
    mix = Mix.of(500)
    assert (mix.kills, mix.servers, mix.pauses, mix.rollings) == (110, 10, 6, 5)
    plan = make_plan(7, 600.0, mix, lease_s=3.0)
    assert plan == make_plan(7, 600.0, mix, lease_s=3.0)
    assert plan != make_plan(8, 600.0, mix, lease_s=3.0)
    assert sum(fault.kind in (Kind.CHILD, Kind.PARENT, Kind.TREE) for fault in plan) == 110
    assert [fault.at_s for fault in plan] == sorted(fault.at_s for fault in plan)
    assert {fault.lasts_s for fault in plan if fault.kind is Kind.PAUSE_TREE} == {6.0}
    assert all(0.2 <= fault.lasts_s <= 3.0 for fault in plan if fault.kind is Kind.SERVER)
