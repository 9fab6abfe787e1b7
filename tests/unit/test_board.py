"""What a worker's parent sees of its children, and what it does about it: no process is started here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from flowq.runtime.board import _MAIN, SEATS_PER_PLACE, Attempt, Board, Phase, Seat
from flowq.runtime.leases import GIVE_UP_S
from flowq.runtime.replies import WakeUp
from flowq.runtime.supervisor import CANCEL_GRACE_S, Life, Supervisor, child_life

LEASE = "0123456789abcdef 12.345 1700000000000000"
LOOK = 0.5


def take(board: Board, place: int, holder: str) -> Seat:
    seat = board.take(place, holder)
    assert seat is not None
    return seat


def running(seat: Seat) -> Attempt:
    """Give the attempt of its main thread."""
    assert seat.attempt is not None
    return seat.attempt


def taken(board: Board) -> list[Seat]:
    return list(board.taken(board.places))


# ── the board ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_a_process_writes_is_what_its_parent_reads():
    board = Board()
    seat = take(board, 3, "a" * 16)
    seat.is_busy = True
    seat.drain("my-queue", "token-1")
    seat.begin(LEASE, 12.5)
    seat.begin_thread("run 7 8", 99.25)
    (seen,) = taken(board)
    assert (seen.pid, seen.holder, seen.is_busy, seen.token) == (os.getpid(), "a" * 16, True, "my-queue token-1")
    assert running(seen)[:2] == (LEASE, 12.5)
    assert seen.thread_attempt is not None
    assert seen.thread_attempt[:2] == ("run 7 8", 99.25)
    seat.time(13.5)
    assert running(seen).deadline == 13.5
    seat.finish()
    seat.begin_thread("", 0.0)
    seat.drain()
    left: Any = (seen.attempt, seen.thread_attempt, seen.token)
    assert left == (None, None, "")
    seat.begin(LEASE)
    seat.stop(14.5)
    assert running(seen).stopped == 14.5
    seat.begin(LEASE)
    assert running(seen).stopped == 0.0


def test_two_attempts_under_one_lease_are_told_apart():
    seat = take(Board(1), 0, "a" * 16)
    seat.begin(LEASE)
    first = seat.attempt
    seat.begin(LEASE)
    assert first != seat.attempt


def test_the_successor_of_a_dead_process_takes_another_seat():
    board = Board(2)
    seats = [take(board, 1, str(number) * 16) for number in range(SEATS_PER_PLACE)]
    assert len({seat.number for seat in seats}) == SEATS_PER_PLACE
    assert board.take(1, "x" * 16) is None
    seats[2].begin(LEASE)
    board.free(seats[2])
    again = take(board, 1, "y" * 16)
    assert (again.number, again.holder, again.attempt) == (seats[2].number, "y" * 16, None)


def test_a_process_beyond_the_last_place_gets_no_seat():
    board = Board(2)
    assert board.take(2, "a" * 16) is None
    assert board.take(1, "a" * 16)
    assert list(board.taken(1)) == []
    assert len(list(board.taken(100))) == 1


def test_a_record_that_is_being_written_is_not_read():
    board = Board(1)
    seat = take(board, 0, "a" * 16)
    seat.begin(LEASE, 5.0)
    start = seat._start + _MAIN
    board._memory[start] |= 1  # its writer stands still in the middle, or died there
    torn = seat.attempt
    assert torn is None
    seat.begin("another 1 2", 6.0)
    assert running(seat)[:2] == ("another 1 2", 6.0)


def test_no_read_is_torn():
    board = Board(1)
    seat = take(board, 0, "a" * 16)
    pairs = {f"{letter * length} 1 2": float(length) for letter, length in (("a", 200), ("b", 8), ("c", 90))}
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            for lease, deadline in pairs.items():
                seat.begin(lease, deadline)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        read: list[Attempt] = []
        while len(read) < 500:  # what is being written just now is not read
            attempt = seat.attempt
            read += [] if attempt is None else [attempt]
    finally:
        over.set()
        writer.join()
        sys.setswitchinterval(before)
    assert [attempt for attempt in read if pairs.get(attempt.lease) != attempt.deadline] == []


def test_texts_that_are_too_long_are_left_out():
    seat = take(Board(1), 0, "a" * 16)
    seat.drain("q" * 500, "token")
    seat.begin("r" * 500)
    assert (seat.token, seat.attempt) == ("", None)


def test_the_time_when_a_worker_was_told_to_end_is_the_first():
    board = Board(1)
    assert (board.phase, board.is_closing) == (Phase.WORK, False)
    board.close(5.0)
    board.close(9.0)
    assert (board.phase, board.is_closing, board.closed) == (Phase.CLOSING, True, 5.0)
    board.end()
    board.close(11.0)
    assert (board.phase, board.closed) == (Phase.OVER, 5.0)


# ── how a child fares ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_child_lives_is_stopped_is_a_zombie_and_is_gone():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert child_life(child.pid) is Life.ALIVE
        os.kill(child.pid, signal.SIGSTOP)
        os.waitpid(child.pid, os.WUNTRACED)
        assert child_life(child.pid) is Life.STOPPED
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert child_life(child.pid) is Life.DEAD
        child.communicate()
    assert child_life(child.pid) is Life.DEAD


def test_a_process_of_somebody_else_is_no_child():
    assert child_life(os.getppid()) is Life.DEAD


# ── the supervisor ────────────────────────────────────────────────────────────────────────────────────────────────────


class Pool:
    """A pool whose processes are entries of a board, and a supervisor that looks when it is told to."""

    def __init__(self, **settings: float) -> None:
        self.board = Board(8)
        self.now = 1000.0
        self.said: list[tuple[Any, ...]] = []
        """What was asked of the state, and done, in order."""
        self.lives: dict[int, Life] = {}
        self.lost: list[str] = []
        self.away: Exception | None = None
        given = {"renew_s": 5.0, "grace_s": 20.0} | settings
        self.supervisor = Supervisor(
            self.board,
            lambda: 8,
            self,
            lambda messages: self.said.append(("send", list(messages))) if messages else None,
            lambda lease, drain, pid: self.note("give_up", lease, drain),
            lambda: self.said.append(("leave",)),
            lambda: self.said.append(("escape",)),
            life_of=lambda pid: self.lives[pid],
            kill=lambda pid: self.said.append(("kill", pid)),
            **given,
        )

    def note(self, *said) -> None:
        if self.away:
            raise self.away
        self.said.append(said)

    def bury(self, *, holders, tokens, crashed, running=""):
        if running:
            self.note("running", running)
        self.note("bury", holders, tokens, crashed)
        return [WakeUp("queue", "new")]

    def vouch(self, *, holders):
        self.note("vouch", holders)
        return self.lost

    def child(self, name: str, *, lease: str = LEASE, deadline: float = 0.0) -> Seat:
        """Add a child that runs something; its pid is its number."""
        seat = take(self.board, 0 if name < "x" else 1, name * 16)
        pid = 100 + seat.number
        start = self.board._pids + seat.number * 4
        self.board._memory[start : start + 4] = pid.to_bytes(4, "little")
        seat.pid = pid
        self.lives[pid] = Life.ALIVE
        if lease:
            seat.is_busy = True
            seat.drain("queue", f"token-{name}")
            seat.begin(lease, deadline)
        return seat

    def look(self, after_s: float = LOOK) -> list[tuple[Any, ...]]:
        """Look once, so many seconds later; gives what was done."""
        self.now += after_s
        done = len(self.said)
        self.supervisor.look(self.now)
        return self.said[done:]


def test_idle_children_cost_no_call():
    pool = Pool()
    pool.child("a", lease="")
    pool.child("b", lease="")
    assert pool.look(100) == []


def test_a_dead_child_is_buried_at_once_and_its_seat_is_free():
    pool = Pool()
    seat = pool.child("a")
    pool.look()
    pool.lives[seat.pid] = Life.DEAD
    running, *others = pool.look()
    assert running == ("running", f"{LEASE} ")
    assert others == [("bury", ["a" * 16], ["queue token-a"], True), ("send", [WakeUp("queue", "new")])]
    assert taken(pool.board) == []
    assert pool.look() == []


def test_what_a_child_that_listened_was_given_is_not_to_blame():
    pool = Pool()
    seat = pool.child("a")
    seat.finish()
    seat.is_listening = True
    pool.lives[seat.pid] = Life.DEAD
    assert pool.look()[0] == ("bury", ["a" * 16], ["queue token-a"], False)
    assert taken(pool.board) == []
    assert not pool.child("a").is_listening, "whoever sits there next does not"


def test_a_child_that_ends_with_nothing_to_do_is_no_crash():
    pool = Pool()
    pool.lives[pool.child("a", lease="").pid] = Life.DEAD
    assert pool.look() == []
    assert taken(pool.board) == []


def test_the_dead_are_buried_when_the_state_is_back():
    pool = Pool()
    seat = pool.child("a")
    pool.lives[seat.pid] = Life.DEAD
    pool.away = ConnectionError()
    for _ in range(3):
        with pytest.raises(ConnectionError):
            pool.look()
    pool.child("b", lease="")  # the next one in its place
    pool.away = None
    assert ("bury", ["a" * 16], ["queue token-a"], True) in pool.look()
    assert [seat.holder for seat in taken(pool.board)] == ["b" * 16]


def test_the_parent_vouches_for_children_that_work_and_are_not_stopped():
    pool = Pool()
    pool.child("a")
    stopped = pool.child("b")
    pool.child("c", lease="")
    pool.lives[stopped.pid] = Life.STOPPED
    assert pool.look() == [("vouch", ["a" * 16])]
    assert pool.look(4.9) == []
    pool.lives[stopped.pid] = Life.ALIVE
    assert pool.look() == [("vouch", ["a" * 16, "b" * 16])]


def test_a_child_that_ignores_the_end_of_its_time_is_killed_when_that_is_recorded():
    pool = Pool()
    seat = pool.child("a", deadline=1010.0)
    assert pool.look(10 + GIVE_UP_S - 0.1) == [("vouch", ["a" * 16])]
    assert pool.look(0.2) == [
        ("give_up", LEASE, ("queue", "token-a")),
        ("bury", ["a" * 16], ["queue token-a"], False),
        ("send", [WakeUp("queue", "new")]),
        ("kill", seat.pid),
    ]
    pool.lives[seat.pid] = Life.DEAD
    assert pool.look()[0] == ("bury", ["a" * 16], ["queue token-a"], False)  # what it did meanwhile is no crash either


def test_nobody_is_killed_before_that_is_recorded():
    pool = Pool()
    pool.child("a", deadline=1001.0)
    pool.away = ConnectionError()
    with pytest.raises(ConnectionError):
        pool.look(10)
    assert pool.said == []


def test_an_attempt_that_ends_while_its_timeout_is_recorded_costs_no_child():
    pool = Pool()
    seat = pool.child("a", deadline=1001.0)
    pool.look()
    record = pool.supervisor._give_up

    def ends_meanwhile(*given: Any) -> None:
        record(*given)
        seat.finish()

    pool.supervisor._give_up = ends_meanwhile
    assert [said[0] for said in pool.look(10)] == ["vouch", "give_up"]


def test_an_attempt_in_a_thread_gets_its_own_keeper_first():
    pool = Pool()
    seat = pool.child("a", lease="")
    seat.is_busy = True
    seat.begin_thread(LEASE, 1010.0)
    pool.look(10 + GIVE_UP_S + 0.1)
    assert "kill" not in [said[0] for said in pool.said]
    assert [said[0] for said in pool.look(GIVE_UP_S)] == ["give_up", "bury", "send", "kill"]


def test_a_child_whose_claim_is_lost_is_asked_to_look_and_killed_if_it_goes_on():
    pool = Pool()
    seat = pool.child("a")
    pool.lost = [f"{'a' * 16} {LEASE}"]
    assert pool.look() == [("vouch", ["a" * 16])]
    assert seat.is_asked
    assert pool.look(CANCEL_GRACE_S - 0.1) == []
    assert [said[0] for said in pool.look(0.2)] == ["bury", "send", "kill"]


def test_a_child_that_learned_of_it_first_is_killed_if_it_goes_on():
    pool = Pool()
    pool.child("a").stop(pool.now)
    assert [said[0] for said in pool.look(CANCEL_GRACE_S - 0.1)] == ["vouch"]
    assert [said[0] for said in pool.look(0.2)] == ["bury", "send", "kill"]


def test_a_child_that_stops_when_its_claim_is_lost_lives_on():
    pool = Pool()
    seat = pool.child("a")
    pool.lost = [f"{'a' * 16} {LEASE}"]
    pool.look()
    seat.is_asked = False
    seat.begin("next 1 2")
    pool.lost = []
    assert pool.look(CANCEL_GRACE_S * 2) == []
    assert [said[0] for said in pool.look(5)] == ["vouch"]


def test_another_childs_lost_claim_is_none_of_its():
    pool = Pool()
    pool.child("a")
    pool.lost = [f"{'b' * 16} {LEASE}"]
    pool.look()
    assert pool.look(CANCEL_GRACE_S * 2) == []


def test_a_child_whose_threads_let_nobody_have_a_turn_is_killed_when_a_claim_is_lost():
    pool = Pool()
    seat = pool.child("a")
    seat.finish()
    pool.lost = [f"{'a' * 16} {LEASE}"]
    pool.look()
    assert "kill" in [said[0] for said in pool.look(CANCEL_GRACE_S + 0.1)]


def test_a_child_that_was_told_to_end_and_does_not_is_killed():
    pool = Pool()
    seat = pool.child("a")
    seat.leave(1000.0)
    assert [said[0] for said in pool.look(CANCEL_GRACE_S - 0.1)] == ["vouch"]
    assert [said[0] for said in pool.look(0.2)] == ["bury", "send", "kill"]


def test_a_stopped_child_is_let_be():
    pool = Pool()
    seat = pool.child("a", deadline=1001.0)
    pool.lives[seat.pid] = Life.STOPPED
    assert pool.look(100) == []


# ── the end ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_worker_that_is_to_end_says_so_once_and_lets_attempts_go_on():
    pool = Pool()
    pool.child("a")
    pool.board.close(pool.now)
    assert pool.look() == [("leave",), ("vouch", ["a" * 16])]
    assert pool.look(4) == []
    assert pool.look(15) == [("vouch", ["a" * 16])]
    assert pool.board.phase is Phase.CLOSING


def test_what_runs_after_the_grace_is_handed_back_then_stopped_then_killed():
    pool = Pool(grace_s=5)
    seat = pool.child("a")
    idle = pool.child("x", lease="")
    pool.board.close(pool.now)
    pool.look()
    done = pool.look(5)
    assert ("bury", ["a" * 16], ["queue token-a"], False) in done
    assert pool.board.phase is Phase.OVER
    assert ("kill", seat.pid) not in pool.look(CANCEL_GRACE_S - 0.1)
    assert ("kill", seat.pid) in pool.look(0.2)
    pool.lives[seat.pid] = pool.lives[idle.pid] = Life.DEAD
    assert [said for said in pool.look() if said[0] == "bury"] == [("bury", ["a" * 16], ["queue token-a"], False)]


def test_a_child_that_crashes_within_the_grace_is_a_crash():
    pool = Pool()
    seat = pool.child("a")
    pool.board.close(pool.now)
    pool.look()
    pool.lives[seat.pid] = Life.DEAD
    assert ("bury", ["a" * 16], ["queue token-a"], True) in pool.look()


def test_a_cold_shutdown_hands_back_at_once():
    pool = Pool()
    pool.child("a")
    pool.board.close(pool.now)
    pool.board.end()
    assert ("bury", ["a" * 16], ["queue token-a"], False) in pool.look()


def test_a_worker_ends_though_the_state_is_away():
    pool = Pool(grace_s=0)
    seat = pool.child("a")
    pool.board.close(pool.now)
    pool.away = ConnectionError()
    with pytest.raises(ConnectionError):
        pool.look()
    assert pool.board.phase is Phase.OVER
    with pytest.raises(ConnectionError):
        pool.look(CANCEL_GRACE_S)
    assert ("kill", seat.pid) in pool.said


def test_a_worker_without_children_is_left_only_when_its_time_is_over():
    pool = Pool(grace_s=1)
    pool.board.close(pool.now)
    assert pool.look() == [("leave",)]
    assert pool.look() == []
    assert pool.look(CANCEL_GRACE_S) == [("escape",)]


def test_a_child_that_heeded_what_it_was_asked_is_not_killed_for_it_later():
    """However often its own keeper renews: it need not have seen the mark to have heeded it."""
    pool = Pool()
    seat = pool.child("a")
    seat.finish()  # what runs now is in a thread
    pool.lost = [f"{'a' * 16} {LEASE}"]
    pool.look()
    pool.lost = []
    assert [said[0] for said in pool.look(5)] == ["vouch"]
    assert not seat.is_asked
    assert pool.look(CANCEL_GRACE_S) == []


def test_nor_is_one_that_had_ended_what_it_was_asked_about():
    pool = Pool()
    seat = pool.child("a")
    seat.finish()
    pool.lost = [f"{'a' * 16} {LEASE}"]
    pool.look()
    seat.is_busy = False
    pool.lost = []
    assert pool.look(CANCEL_GRACE_S + 0.1) == []
    seat.is_busy = True  # the next drain has begun, and no attempt of it
    assert pool.look(0.1) == []
