"""What Redis holds of a node."""

from datetime import UTC, datetime

import pytest

from flowq import NodeStatus
from flowq.runtime.state import Record

BEGAN, ENDED = datetime.fromtimestamp(1_000.007, UTC), datetime.fromtimestamp(1_001.5, UTC)


@pytest.mark.parametrize("started", [None, BEGAN])
@pytest.mark.parametrize("ended", [None, ENDED])
def test_a_record_is_what_is_read_of_what_was_written(started, ended):
    record = Record(NodeStatus.FAILED, 2, 1, 99, started, ended, "me@host/1", "timed_out")
    assert Record.parse(str(record).encode()) == record


def test_a_node_s_end_is_counted_from_its_beginning():
    assert Record.parse(b"completed|1|0|0|1000007|1493|w|") == Record(NodeStatus.COMPLETED, 1, 0, 0, BEGAN, ENDED, "w")
    assert Record.parse(b"skipped|0|0|0||1001500||skipped").ended == ENDED, "it never was begun"


def test_a_clock_that_was_set_back_meanwhile_makes_no_node_end_before_its_beginning():
    assert str(Record(NodeStatus.COMPLETED, started=ENDED, ended=BEGAN)) == "completed|0|0|0|1001500|0||"


def test_one_that_just_waits_is_a_number():
    assert Record.parse(b"3") == Record(NodeStatus.PENDING, more="3")
