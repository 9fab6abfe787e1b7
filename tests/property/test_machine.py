"""The state machine alone, against a naive reading of the design."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.plan import Plan
from tests.property.choices import TIMEOUT_S, Choose, choices, examples
from tests.property.drive import Drive
from tests.property.graphs import plans

pytestmark = pytest.mark.timeout(TIMEOUT_S)


@examples(250)
@given(plan=plans(), choose=choices(), cancel=st.booleans())
def test_every_run_ends_as_the_design_says(plan: Plan, choose: Choose, cancel: bool) -> None:
    Drive(plan, choose, cancel=cancel).run()
