"""Whole runs over a connection that loses requests and replies: all end as they must, each outcome recorded once.

FLOWQ_THOROUGH=1 goes on until 10,000 replies were lost; ``python -m tests.chaos.replies --help`` does it with figures.
"""

from __future__ import annotations

import pytest

from flowq.core.config import Dispatch
from tests.chaos.replies.campaign import Campaign
from tests.chaos.replies.faults import EVEN, Fault, Rates
from tests.property.choices import THOROUGH, TIMEOUT_S

LOST = 10_000 if THOROUGH else 100
"""Replies, in all."""

MIXES: dict[str, Rates] = {
    "lost replies": {Fault.DROP: 0.15},
    "lost requests": {Fault.CUT: 0.1},
    "doubled requests": {Fault.TWICE: 0.3},
    "late requests": {Fault.LATE: 0.05},
    "torn replies": {Fault.TORN: 0.1, Fault.DELAY: 0.05},
}


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
@pytest.mark.parametrize("mix", MIXES)
def test_runs_end_whatever_is_lost(server, tmp_path, mix: str, dispatch: Dispatch):
    with Campaign(server, tmp_path, MIXES[mix], seed=1, dispatch=dispatch) as campaign:
        figures = campaign.round()
    assert figures.executions <= 1.1 * figures.expected + 3, figures


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_runs_end_under_all_faults_at_once(server, tmp_path, dispatch: Dispatch):
    with Campaign(server, tmp_path, EVEN, seed=2, dispatch=dispatch) as campaign:
        figures = campaign.until(LOST // 2)
    assert figures.happened.lost_replies >= LOST // 2
    assert figures.executions <= 1.1 * figures.expected + 3, figures
