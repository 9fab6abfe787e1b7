"""The scripts on real servers, held equal to the state machine under any order of calls, replays and deaths."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.plan import Plan
from flowq.runtime import rows
from tests.property.calls import Calls, Changes, merged, sized, taking
from tests.property.choices import TIMEOUT_S, Choose, choices, examples
from tests.property.control import ControlTwin
from tests.property.graphs import plans
from tests.property.runs import Limits

pytestmark = pytest.mark.timeout(TIMEOUT_S)

LARGE = Limits()
SMALL = st.builds(Limits, st.sampled_from([1, 2, 3, 7]), st.sampled_from([1, 2, 32]), st.sampled_from([1, 2, 500]))


def small(limits: Limits) -> Changes:
    return merged(sized(*limits), taking(limits.batch))


@examples(50)
@given(plan=plans(), choose=choices())
def test_one_run(client: Any, plan: Plan, choose: Choose) -> None:
    ControlTwin(Calls(client), choose, [plan], LARGE, late=False).run()


@examples(25)
@given(several=st.lists(plans(5), min_size=2, max_size=3), choose=choices())
def test_several_runs(client: Any, several: list[Plan], choose: Choose) -> None:
    ControlTwin(Calls(client), choose, [*several, several[0]], LARGE, late=False).run()


@examples(50)
@given(plan=plans(), choose=choices(), limits=SMALL)
def test_consequences_that_need_several_calls(client: Any, plan: Plan, choose: Choose, limits: Limits) -> None:
    ControlTwin(Calls(client, small(limits)), choose, [plan, plan], limits, late=False).run()


@examples(25)
@given(plan=plans(), choose=choices(), limits=SMALL, edges=st.integers(1, 2))
def test_nodes_whose_edges_stand_in_several_fields(
    client: Any, plan: Plan, choose: Choose, limits: Limits, edges: int
) -> None:
    with patch.object(rows, "EDGES_PER_FIELD", edges):
        ControlTwin(Calls(client, small(limits)), choose, [plan, plan], limits, late=False).run()


@examples(50)
@given(plan=plans(), choose=choices(), limits=SMALL)
def test_callers_that_die_before_they_go_on(client: Any, plan: Plan, choose: Choose, limits: Limits) -> None:
    ControlTwin(Calls(client, small(limits)), choose, [plan, plan], limits, late=True).run()


@examples(15)
@given(plan=plans(), choose=choices(), limits=SMALL, late=st.booleans())
def test_every_server(each_client: Any, plan: Plan, choose: Choose, limits: Limits, late: bool) -> None:
    ControlTwin(Calls(each_client, small(limits)), choose, [plan, plan], limits, late=late).run()
