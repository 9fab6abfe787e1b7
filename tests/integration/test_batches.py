"""Short nodes are run in batches; one that takes long against all expectation holds up nobody."""

from __future__ import annotations

import os
import signal

import pytest

from flowq import FlowStatus, NodeStatus
from flowq.runtime.state import State
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


def long_one(context: EmbeddedContext, run: str):
    return next(ref for ref in State.of(context).all_records(run) if ref.item == flows.WARM_UP)


def workers_of(context: EmbeddedContext, run: str) -> set[str | None]:
    records = State.of(context).all_records(run)
    return {record.worker for ref, record in records.items() if record.status is NodeStatus.RUNNING and ref.item >= 0}
