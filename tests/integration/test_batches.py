"""Short nodes are run in batches; one that takes long against all expectation holds up nobody."""

from __future__ import annotations

import os
import signal

import pytest

from flowq import FlowStatus, NodeStatus
from flowq.runtime.state import State, told_by
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.integration import batched_flows as flows

NODES = 200


@pytest.fixture(scope="module")
def context():
    with fleet(1, [flows], settings={"lease_s": 2, "renew_s": 0.3, "sweep_s": 0.3}) as started:
        yield started


def items(context: EmbeddedContext, run: str) -> dict[int, NodeStatus]:
    records = State.of(context).all_records(run)
    return {ref.item: record.status for ref, record in records.items() if ref.item >= 0}


def has_stopped_short(context: EmbeddedContext, run: str) -> bool:
    """Tell whether all before the one that waits are recorded, and nothing is claimed with it."""
    found = items(context, run)
    done = [item for item, status in found.items() if status is NodeStatus.COMPLETED]
    running = [item for item, status in found.items() if status is NodeStatus.RUNNING]
    return sorted(done) == list(range(flows.WARM_UP)) and running == [flows.WARM_UP]


def test_what_waits_behind_a_long_node_is_recorded_or_handed_back(context, tmp_path):
    gate = tmp_path / "gate"
    handle = flows.gated.submit(list(range(NODES)), str(gate), context=context)
    wait_until(lambda: has_stopped_short(context, handle.run_id), 15)
    assert handle.status() is FlowStatus.RUNNING
    gate.touch()
    result = handle.result(30)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, list(range(NODES)))
    assert {record.attempt for record in State.of(context).all_records(handle.run_id).values()} == {1}


def test_a_process_that_dies_in_a_batch_is_held_against_no_innocent(context, tmp_path):
    gate = tmp_path / "gate"
    handle = flows.gated.submit(list(range(NODES)), str(gate), context=context)
    wait_until(lambda: has_stopped_short(context, handle.run_id), 15)
    (worker,) = [name for name in workers_of(context, handle.run_id) if name]
    os.kill(int(worker.rpartition("/")[2]), signal.SIGKILL)
    wait_until(lambda: State.of(context).all_records(handle.run_id)[long_one(context, handle.run_id)].crashes == 1, 10)
    gate.touch()
    result = handle.result(30)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, list(range(NODES)))
    crashes = [record.crashes for record in State.of(context).all_records(handle.run_id).values()]
    assert sum(crashes) == 1, "what was recorded, or handed back, had no part in it"


def completions(context: EmbeddedContext, run: str) -> list[int]:
    """Count the nodes that each call told to be completed."""
    state = State.of(context)
    entries = [told_by(fields) for _, fields in state.client.xrange(state.keys.events(run))]
    counts = [sum(told.status == "completed" and told.key != "run" for told in entry) for entry in entries]
    return [count for count in counts if count]


def is_stored_at_once(context: EmbeddedContext) -> bool:
    """Run a diamond, and tell whether all of it came in one call."""
    handle = flows.diamond.submit("", context=context)
    assert handle.result(30).output == 6
    return completions(context, handle.run_id) == [5]


def test_short_nodes_are_run_ahead_of_their_claims_and_stored_together(context):
    wait_until(lambda: is_stored_at_once(context), 30)  # once a worker knows that they are short


def test_a_node_that_ends_its_process_ahead_of_its_claim_costs_one_claim_one_attempt(context, tmp_path):
    wait_until(lambda: is_stored_at_once(context), 30)
    marker = tmp_path / "marker"
    handle = flows.diamond.submit(str(marker), context=context)
    assert handle.result(30).output == 6
    assert marker.exists()
    crashes = [record.crashes for record in State.of(context).all_records(handle.run_id).values()]
    assert sum(crashes) == 1


def long_one(context: EmbeddedContext, run: str):
    return next(ref for ref in State.of(context).all_records(run) if ref.item == flows.WARM_UP)


def workers_of(context: EmbeddedContext, run: str) -> set[str | None]:
    records = State.of(context).all_records(run)
    return {record.worker for ref, record in records.items() if record.status is NodeStatus.RUNNING and ref.item >= 0}
