"""A worker that dies in the middle of a run: the others finish it, without anybody's help."""

from __future__ import annotations

import time
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import DependencyData, FlowContext, FlowStatus, NodeStatus, Settings, current_attempt
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.engines.effects import by_node, note
from tests.conformance.engines.flows import digests
from tests.conformance.engines.shapes import digest, evaluate, layered

QUICK = {"lease_s": 1.5, "renew_s": 0.3, "sweep_s": 0.3}


class Holds(BaseModel):
    """Is never done in its first attempt."""

    name: str

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> str:
        note(input_data["log"], "start")
        if current_attempt().attempt == 1:
            time.sleep(60)
        found = digest(self.name, dict(dependencies))
        note(input_data["log"], "end")
        return found


@pytest.fixture
def workers():
    with fleet(2, [digests, __name__], settings=QUICK) as started:
        yield started


def test_the_whole_worker_is_killed_in_the_middle_of_a_run(workers, tmp_path):
    log = str(tmp_path / "effects")
    shape = layered(12, 12, seed=5)
    held = "l3n0"
    flow = digests.as_class_form(
        shape,
        processors={
            name: Holds(name=name) if name == held else digests.Digest(name=name, takes_s=0.01) for name in shape
        },
    )
    handle = flow.submit({"log": log}, context=workers)
    wait_until(lambda: held in by_node(log, handle.run_id, "start"), 20)
    holder = handle.node(held).worker or ""
    before = handle.progress()
    assert before.status is FlowStatus.RUNNING
    assert before.settled < before.total
    workers.workers.kill(int(holder[1]))  # w1@host/pid, w2@host/pid

    result = handle.result(30)
    assert result.status is FlowStatus.COMPLETED
    assert result.output == evaluate(shape)
    node = result.nodes[held]
    assert (node.attempt, node.status) == (2, NodeStatus.COMPLETED)
    assert node.worker is not None
    assert node.worker[:2] != holder[:2]
    starts, ends = by_node(log, handle.run_id, "start"), by_node(log, handle.run_id, "end")
    assert ends.keys() == shape.keys()
    early = [
        (name, upstream)
        for name, upstreams in shape.items()
        for upstream in upstreams
        if starts[name][0].at < ends[upstream][0].at
    ]
    assert early == []
    again = {name for name, found in starts.items() if len(found) > 1}
    assert held in again
    assert len(again) <= 2  # what the dead worker had claimed: this one, and at most the one it was about to begin


def test_a_wake_up_that_goes_astray_is_sent_again(workers, tmp_path):
    """The producer's broker is one that no worker listens to; the state is the right one."""
    broker = workers.server.url.replace("virtual_host=0", "virtual_host=9")
    producer = FlowContext(Settings(broker_url=broker, state_url=workers.server.redis_url))
    shape = layered(4, 6, seed=7)
    handle = digests.as_class_form(shape).submit({"log": str(tmp_path / "effects")}, context=producer)
    assert handle.result(30).output == evaluate(shape)
    producer.close()


def test_a_worker_that_comes_late_takes_what_waits(tmp_path):
    """Nobody is there when the run is submitted; who comes up later finds it, whatever became of the wake-up."""
    log = str(tmp_path / "effects")
    shape = layered(4, 6, seed=6)
    with fleet(1, [digests], settings=QUICK) as started:
        started.workers.kill(1)
        handle = digests.as_class_form(shape).submit({"log": log}, context=started)
        started.service("state").client.delete("flowq")  # the wake-up is lost
        assert handle.status() is FlowStatus.PENDING
        started.workers.restart(1)
        result = handle.result(30)
    assert result.output == evaluate(shape)
