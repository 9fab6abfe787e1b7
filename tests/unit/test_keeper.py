"""A process that its parent asks to look after its claims does so once, and takes the mark off."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest

from flowq.runtime.board import Board
from flowq.runtime.leases import LOOK_S, LeaseKeeper
from flowq.testing import wait_until


class Calls:
    """What is asked of the state."""

    holder = "a" * 16
    unanswered = float("-inf")

    def __init__(self) -> None:
        self.renewals = itertools.count()
        self.renewed = 0

    def renew(self, **_):
        self.renewed = next(self.renewals) + 1
        return [], []


@pytest.mark.parametrize("renew_s", [LOOK_S / 10, 60.0])
def test_it_renews_when_it_is_asked_and_the_mark_is_gone_however_often_it_renews_anyway(renew_s):
    scripts: Any = Calls()
    seat = Board(1).take(0, "a" * 16)
    assert seat is not None
    keeper = LeaseKeeper(scripts, "w", renew_s, 120.0, lambda messages: None, seat=seat)
    keeper.hold("run 0 1")
    seat.is_asked = True
    wait_until(lambda: scripts.renewed and not seat.is_asked)
    keeper.drop("run 0 1")


def test_a_process_that_got_no_reply_goes_on_saying_that_it_holds_nothing():
    """A claim may have been made for it that it never heard of."""
    scripts: Any = Calls()
    keeper = LeaseKeeper(scripts, "w", LOOK_S / 10, 120.0, lambda messages: None)
    scripts.unanswered = time.monotonic()
    keeper.hold("run 0 1")
    keeper.drop("run 0 1")
    wait_until(lambda: scripts.renewed > 3)
