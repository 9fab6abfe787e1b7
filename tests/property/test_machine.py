"""The state machine alone, against a naive reading of the design."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.core.types import FlowStatus
from flowq.plan import Plan
from tests.property.choices import TIMEOUT_S, Choose, choices, examples
from tests.property.drive import Drive
from tests.property.graphs import plans

pytestmark = pytest.mark.timeout(TIMEOUT_S)


CUTS = st.sampled_from([None, FlowStatus.CANCELLED, FlowStatus.FAILED])


@examples(200)
@given(plan=plans(), choose=choices(), cut=CUTS)
def test_every_run_ends_as_the_design_says(plan: Plan, choose: Choose, cut: FlowStatus | None) -> None:
    Drive(plan, choose, cut=cut).run()


@examples(200)
@given(plan=plans(), choose=choices(), cut=CUTS)
def test_an_ended_run_is_opened_again(plan: Plan, choose: Choose, cut: FlowStatus | None) -> None:
    """Exactly what is chosen and its downstream run again; everything else is kept."""
    Drive(plan, choose, cut=cut, lives=3).run()
