"""Claims that are run one after the other: which of them are stored together, and what may not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from flowq.core.errors import StoreUnavailableError
from flowq.runtime.drain_steps import DrainSteps
from flowq.runtime.keeping import FRESH_S, Asked, Keeping
from flowq.runtime.paces import UNKNOWN_S, Paces
from flowq.runtime.replies import Claimed, Next
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.steps import (
    BATCH_S,
    MOST,
    Claim,
    Drop,
    Expect,
    Hold,
    Now,
    Pause,
    Post,
    Ran,
    Receive,
    Run,
    Settle,
    Steps,
)
from flowq.runtime.work import LATE_S, Ended, Posted, Work


def claims(number: int) -> list[Claimed]:
    return [Claimed("r", str(key), 1, 0, 10 + key, "plan", None, None, 0, None, None) for key in range(number)]


def ended(claim: Claimed) -> Ended:
    return Ended([OutcomeEntry(claim.key, claim.key.encode(), claim.run, claim.fence, "completed")])


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
        self.told_of: list[str] = []
        """What was begun, posted and received, in this order."""
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
                self.told_of.append(claim.key)
                return Ran(ended(claim), self.now)
            case Settle(outcomes):
                return self.settle(outcomes)
            case Post(settle):
                self.told_of.append("post")
                return settle
            case Receive(call):
                self.told_of.append("receive")
                return self.settle(call.outcomes)
            case Drop(some):
                self.dropped += [claim.key for claim in some]
            case Pause() | Hold():
                pass
            case Claim():
                raise AssertionError("it asks for more by settling")
        return None

    def settle(self, outcomes: Sequence[OutcomeEntry]) -> Next:
        reply = next(self.replies, Next([], []))
        if isinstance(reply, Exception):
            raise reply
        self.settled.append([self.told(outcome) for outcome in outcomes])
        assert isinstance(reply, Next)
        return reply

    @staticmethod
    def told(outcome: OutcomeEntry) -> tuple[str, str, str]:
        return outcome.key, outcome.kind, (outcome.value or b"").decode()


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


class TestRunOn:
    """Of many claims, some run while those before them are being stored."""

    def keeping(self, closes: Callable[[], bool] = lambda: False) -> Keeping:
        return Keeping(closes, 1.0, split=4)

    def drive(self, drive: Drive, keeping: Keeping, work: Work) -> None:
        """Do what a drain does with its claims until it has none."""
        while work:
            following = drive.run(keeping.run_on(work, asks_nothing, asks_nothing))
            work.todo.extend(following.claims)

    def test_one_half_is_on_its_way_while_the_other_runs(self) -> None:
        drive, work = Drive([0.0] * 4, [0.0001] * 4), Work(claims(4))
        self.drive(drive, self.keeping(), work)
        assert drive.told_of == ["0", "1", "post", "2", "3", "receive"]
        assert drive.settled == [done(0, 1), done(2, 3)]
        assert (drive.dropped, work.held) == (["0", "1", "2", "3"], [])

    def test_what_comes_meanwhile_runs_while_that_is_on_its_way(self) -> None:
        drive, work = Drive([0.0] * 6, [0.0001] * 6), Work(claims(6)[:4])
        drive.replies = iter([Next(claims(6)[4:], [])])
        self.drive(drive, self.keeping(), work)
        assert drive.told_of == ["0", "1", "post", "2", "3", "receive", "post", "4", "5", "receive"]
        assert drive.settled == [done(0, 1), done(2, 3), done(4, 5)]

    def test_few_are_stored_in_one_call(self) -> None:
        drive, work = Drive([0.0] * 3, [0.0001] * 3), Work(claims(3))
        self.drive(drive, self.keeping(), work)
        assert drive.told_of == ["0", "1", "2"]
        assert drive.settled == [done(0, 1, 2)]

    def test_nothing_waits_for_one_that_may_take_long(self) -> None:
        drive, work = Drive([0.0, 0.0, UNKNOWN_S, 0.0], [0.0] * 4), Work(claims(4))
        self.drive(drive, self.keeping(), work)
        assert drive.told_of == ["0", "1", "2"]
        assert drive.settled == [done(0, 1), back(3), done(2)]

    def test_one_that_may_take_long_begins_when_nothing_is_on_its_way(self) -> None:
        drive, work = Drive([0.0, 0.0, 0.0, UNKNOWN_S], [0.0] * 4), Work(claims(4))
        self.drive(drive, self.keeping(), work)
        assert drive.told_of == ["0", "1", "post", "2", "receive", "3"]
        assert drive.settled == [done(0, 1), done(2), done(3)]

    def test_what_has_waited_for_long_is_handed_back(self) -> None:
        drive, work = Drive([0.0] * 6, [0.0, 0.0, 2 * FRESH_S, 0.0, 0.0, 0.0]), Work(claims(6)[:4])
        drive.replies = iter([Next(claims(6)[4:], [])])
        self.drive(drive, self.keeping(), work)
        assert drive.told_of == ["0", "1", "post", "2", "receive"]
        assert drive.settled == [done(0, 1), done(2) + back(3, 4, 5)]

    def test_what_comes_after_one_that_took_long_has_not_waited(self) -> None:
        drive, work = Drive([UNKNOWN_S] * 3, [2 * FRESH_S] * 3), Work(claims(1))
        drive.replies = iter([Next([claim], []) for claim in claims(3)[1:]])
        self.drive(drive, self.keeping(), work)
        assert drive.settled == [done(0), done(1), done(2)]

    def test_nor_has_what_comes_after_one_that_took_long_while_others_were_on_their_way(self) -> None:
        takes = [0.0, 0.0, 0.0, 2 * FRESH_S, 0.0]
        drive, work = Drive([0.0] * 5, takes), Work(claims(4))
        drive.replies = iter([Next([], []), Next(claims(5)[4:], [])])
        self.drive(drive, self.keeping(), work)
        assert drive.settled == [done(0, 1), done(2, 3), done(4)]

    def test_a_process_that_is_to_end_stores_all_and_begins_nothing(self) -> None:
        drive, work = Drive([0.0] * 4, [0.0] * 4), Work(claims(4))
        self.drive(drive, self.keeping(lambda: len(drive.told_of) >= 4), work)
        assert drive.told_of == ["0", "1", "post", "2", "receive"]
        assert drive.settled == [done(0, 1), done(2) + back(3)]

    def test_what_could_not_be_stored_is_tried_again(self) -> None:
        drive, work = Drive([0.0] * 4, [0.0] * 4), Work(claims(4))
        drive.replies = iter([StoreUnavailableError("away"), StoreUnavailableError("still away"), Next([], [])])
        self.drive(drive, self.keeping(), work)
        assert drive.settled == [done(0, 1), done(2, 3)]
        assert drive.dropped == ["0", "1", "2", "3"]

    @pytest.fixture
    def posted(self) -> Work:
        """Give one that has posted 0, has done 1, runs 2, and has 3 and 4 to do."""
        work = Work(claims(5))
        drive = Drive([0.0, 0.0, BATCH_S, BATCH_S, 0.0], [BATCH_S, BATCH_S, BATCH_S, 0.0, 0.0])
        drive.run(self.keeping().run_on(work, asks_nothing, asks_nothing))
        claims_of, ended_so = work.take_done()
        work.post(Posted(claims_of, ended_so, Settle(ended_so.entries)))
        for key in (1, 2):
            begun = work.begin(1.0)
            assert begun is not None
            assert begun.key == str(key)
            if key == 1:
                work.end(ended(begun))
        return work

    def test_who_relieves_it_receives_what_is_on_its_way_and_hands_that_back(self, posted: Work) -> None:
        drive = Drive([], [])
        drive.replies = iter([Next([claims(10)[9]], [])])
        drive.run(self.keeping().relieve(posted))
        assert drive.settled == [done(0), done(1) + back(3, 4, 9)]
        assert [claim.key for claim in posted.held] == ["2"]
        assert (posted.is_posted, posted.is_relieved) == (False, False)

    def test_what_it_cannot_receive_is_kept(self, posted: Work) -> None:
        drive, keeping = Drive([0.0] * 5, [0.0] * 5), self.keeping()
        drive.replies = iter([StoreUnavailableError("away"), StoreUnavailableError("away")])
        drive.run(keeping.relieve(posted))
        assert (drive.settled, len(posted.held)) == ([], 5)
        posted.end(ended(claims(3)[2]))
        self.drive(drive, keeping, posted)
        assert sorted(told for call in drive.settled for told in call) == sorted(done(0, 1, 2) + back(3, 4))
        assert posted.held == []


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


def expected(*took_s: float) -> float:
    paces = Paces()
    for seconds in took_s:
        paces.note("p", seconds)
    return paces.expect("p")


def test_an_expectation_is_quick_to_rise_and_slow_to_fall():
    assert expected() == UNKNOWN_S
    assert expected(0.001) == 0.001
    assert expected(0.001, 1.0, 2.0) == 1.0
    assert expected(1.0, 0.0) == 0.5


def asked_first(pace_s: float) -> int:
    """Give how many claims a drain asks for before it has run any."""
    steps = DrainSteps(1.0, 0.0, 1, 1.0, lambda: False, pace_s=pace_s).main(Work())
    request: Any = next(steps)
    while not isinstance(request, Claim):
        assert isinstance(request, Now)
        request = steps.send(0.0)
    steps.close()
    return request.process


def test_a_drain_that_knows_nothing_begins_with_one_claim_and_one_that_knows_its_pace_with_a_batch():
    assert asked_first(UNKNOWN_S) == 1
    assert asked_first(BATCH_S / 10) == 10
    assert asked_first(0.0) == MOST


def test_the_quickest_batch_says_what_the_next_drain_may_expect():
    keeping = Keeping(lambda: False, 1.0)
    for takes_s in (0.002, 0.0002, 0.003):
        drive = Drive([takes_s], [takes_s])
        drive.run(keeping.run(Work(claims(1)), asks_nothing))
    assert keeping.quickest_s == pytest.approx(0.0002)


def test_one_attempt_that_took_long_is_no_slow_processor():
    assert expected(0.001, 1.0) == 0.001
    assert expected(0.001, 1.0, 0.001, 1.0) == 0.001
