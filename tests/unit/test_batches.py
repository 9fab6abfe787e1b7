"""Claims that are run one after the other: which of them are stored together, and what may not wait."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from flowq.core.errors import StoreUnavailableError
from flowq.runtime.paces import UNKNOWN_S, Paces
from flowq.runtime.replies import Claimed, Next
from flowq.runtime.scripts import OutcomeEntry, outcome_entry
from flowq.runtime.steps import (
    BATCH_S,
    FRESH_S,
    Asked,
    Claim,
    Drop,
    Expect,
    Hold,
    Keeping,
    Now,
    Pause,
    Ran,
    Run,
    Settle,
    Steps,
)
from flowq.runtime.work import LATE_S, Ended, Work


def claims(number: int) -> list[Claimed]:
    return [Claimed("r", str(key), 1, 0, 10 + key, "plan", None, None, 0, None, None) for key in range(number)]


def ended(claim: Claimed) -> Ended:
    entry = outcome_entry(claim.run, claim.key, claim.fence, "completed", value=2)
    return Ended([entry], [claim.key.encode()])


def asks_nothing(waiting: int) -> Steps[Asked]:
    yield from ()
    return Asked()


class Drive:
    """Answers what steps ask for, by a clock that only attempts move."""

    def __init__(self, expects_s: Sequence[float], takes_s: Sequence[float]) -> None:
        self.expects_s, self.takes_s = expects_s, takes_s
        self.now = 100.0
        self.settled: list[list[tuple[str, str, str]]] = []
        """By call: key, kind, and the value."""
        self.dropped: list[str] = []
        self.replies: Iterator[Any] = iter(())

    def run(self, steps: Steps[Any]) -> Any:
        try:
            request = next(steps)
            while True:
                try:
                    reply = self.answer(request)
                except StoreUnavailableError as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as end:
            return end.value

    def answer(self, request: Any) -> Any:
        match request:
            case Now():
                return self.now
            case Expect(claim):
                return self.expects_s[int(claim.key)]
            case Run(claim, _):
                self.now += self.takes_s[int(claim.key)]
                return Ran(ended(claim), self.now)
            case Settle(outcomes, values):
                reply = next(self.replies, Next([], []))
                if isinstance(reply, Exception):
                    raise reply
                self.settled.append([self.told(outcome, values) for outcome in outcomes])
                return reply
            case Drop(some):
                self.dropped += [claim.key for claim in some]
            case Pause() | Hold():
                pass
            case Claim():
                raise AssertionError("it asks for more by settling")
        return None

    @staticmethod
    def told(outcome: OutcomeEntry, values: Sequence[bytes]) -> tuple[str, str, str]:
        return outcome["key"], outcome["kind"], values[outcome["value"] - 2].decode() if outcome["value"] else ""


def done(*keys: int) -> list[tuple[str, str, str]]:
    return [(str(key), "completed", str(key)) for key in keys]


def back(*keys: int) -> list[tuple[str, str, str]]:
    return [(str(key), "released", "") for key in keys]


def test_short_claims_are_stored_in_one_call():
    drive, work = Drive([0.0001] * 5, [0.0001] * 5), Work(claims(5))
    drive.run(Keeping(lambda: False, 1.0).run(work, asks_nothing))
    assert drive.settled == [done(0, 1, 2, 3, 4)]
    assert drive.dropped == ["0", "1", "2", "3", "4"]
    assert not work
    assert work.held == []


def test_a_batch_ends_when_its_time_is_up():
    drive, work = Drive([BATCH_S / 3] * 5, [BATCH_S / 2.5] * 5), Work(claims(5))
    keeping = Keeping(lambda: False, 1.0)
    drive.run(keeping.run(work, asks_nothing))
    assert drive.settled == [done(0, 1)]
    assert [claim.key for claim in work.todo] == ["2", "3", "4"]
    assert keeping.pace_s == pytest.approx(BATCH_S / 2.5)


def test_nothing_waits_for_one_that_may_take_long():
    drive, work = Drive([UNKNOWN_S, 0.0, 0.0], [0.0, 0.0, 0.0]), Work(claims(3))
    drive.run(Keeping(lambda: False, 1.0).run(work, asks_nothing))
    assert drive.settled == [back(1, 2), done(0)]


def test_one_that_may_take_long_is_no_part_of_a_batch():
    drive, work = Drive([0.0, UNKNOWN_S, 0.0], [0.0, 0.0, 0.0]), Work(claims(3))
    drive.run(Keeping(lambda: False, 1.0).run(work, asks_nothing))
    assert drive.settled == [done(0)]


def test_what_has_waited_for_long_is_handed_back():
    drive, work = Drive([0.0] * 3, [2 * FRESH_S, 0.0, 0.0]), Work(claims(3))
    drive.run(Keeping(lambda: False, 1.0).run(work, asks_nothing))
    assert drive.settled == [done(0) + back(1, 2)]


def test_a_process_that_is_to_end_begins_nothing():
    drive, work = Drive([0.0] * 2, [0.0] * 2), Work(claims(2))
    drive.run(Keeping(lambda: True, 1.0).run(work, asks_nothing))
    assert drive.settled == [back(0, 1)]


class TestRelieve:
    @pytest.fixture
    def work(self) -> Work:
        """Give one that has done something, runs something, and has something to do."""
        work = Work(claims(3))
        first = work.begin(1.0)
        assert first is not None
        work.end(ended(first))
        work.begin(1.0)
        return work

    def test_it_is_late_after_a_while(self, work: Work) -> None:
        assert not work.is_late(1.0 + LATE_S / 2)
        assert work.is_late(1.0 + 2 * LATE_S)

    def test_what_waits_is_stored_and_handed_back(self, work: Work) -> None:
        drive = Drive([], [])
        drive.run(Keeping(lambda: False, 1.0).relieve(work))
        assert drive.settled == [done(0) + back(2)]
        assert [claim.key for claim in work.held] == ["1"]
        assert not work.is_relieved
        assert not work.is_late(100.0), "nothing waits any more"

    def test_what_cannot_be_stored_is_kept(self, work: Work) -> None:
        drive, keeping = Drive([], []), Keeping(lambda: False, 1.0)
        drive.replies = iter([StoreUnavailableError("away")])
        drive.run(keeping.relieve(work))
        assert (drive.settled, len(work.held), work.is_relieved) == ([], 3, False)
        work.end(ended(claims(3)[1]))
        drive.run(keeping.run(work, asks_nothing))
        assert sorted(told for call in drive.settled for told in call) == sorted(done(0, 1) + back(2))
        assert work.held == []

    def test_once_the_attempt_has_ended_its_own_thread_stores_it(self, work: Work) -> None:
        work.end(ended(claims(3)[1]))
        drive = Drive([], [])
        drive.run(Keeping(lambda: False, 1.0).relieve(work))
        assert drive.settled == []


def test_an_expectation_is_quick_to_rise_and_slow_to_fall():
    paces = Paces()
    assert paces.expect("p") == UNKNOWN_S
    paces.note("p", 0.001)
    assert paces.expect("p") == 0.001
    paces.note("p", 1.0)
    assert paces.expect("p") == 1.0
    paces.note("p", 0.0)
    assert paces.expect("p") == 0.5
