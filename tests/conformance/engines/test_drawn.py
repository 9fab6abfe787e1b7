"""Random flows, with required and optional edges, failures, skips, maps and mixed placements: every way of running one
gives the same outcomes, outputs and reasons."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowq import FlowContext, FlowType
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet
from tests.conformance.engines.conftest import TIMEOUT_S, here, outcome
from tests.conformance.engines.flows import drawn as flows
from tests.conformance.engines.flows.drawn import Drawn, flow_of

PLACEMENTS = [FlowType.PROCESS, FlowType.PROCESS, FlowType.INLINE, FlowType.THREAD]


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    """Workers with the default leases: with short ones, a busy machine alone has messages sent again."""
    with fleet(2, [flows]) as started:
        yield started


@st.composite
def drawn(draw: st.DrawFn) -> list[Drawn]:
    """Give up to 12 nodes. Only failures or only skips: a node with one of each goes by what happens first."""
    goes_wrong = draw(st.sampled_from(["fail", "skip"]))
    nodes = []
    for index in range(draw(st.integers(1, 12))):
        before = draw(st.lists(st.integers(0, index - 1), max_size=4, unique=True)) if index else []
        split = draw(st.integers(0, len(before)))
        does = draw(st.sampled_from(["succeed"] * 5 + [goes_wrong, "map"]))
        count = draw(st.integers(0, 5)) if does == "map" else 0
        fails_at = draw(st.integers(-1, 4)) if goes_wrong == "fail" else -1
        placement = draw(st.sampled_from(PLACEMENTS))
        nodes.append(
            Drawn(f"n{index}", does, sorted(before[:split]), sorted(before[split:]), placement, count, fails_at)
        )
    return nodes


@settings(max_examples=40, deadline=None)
@given(nodes=drawn())
def test_all_ways_give_the_same(nodes: list[Drawn], workers: EmbeddedContext, local_engine: FlowContext) -> None:
    flow = flow_of(nodes)
    wanted = outcome(here(flow, {}, local_engine))
    for dispatch in ("pull", "canvas"):
        handle = flow.submit(context=workers, dispatch=dispatch)
        assert outcome(handle.result(TIMEOUT_S)) == wanted, dispatch
        state = State.of(workers)
        assert state.client.hget(state.keys.run(handle.run_id), "lost") is None, "a message had to be sent again"
