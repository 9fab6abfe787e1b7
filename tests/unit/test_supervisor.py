"""When a worker's supervisor looks at the pool's processes, and what it tells the pool of the dead."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flowq.runtime import supervisor as module
from flowq.runtime.board import Board
from flowq.runtime.leases import LOOK_S
from flowq.runtime.supervisor import AGAIN_S, RESTLESS_S, Life, Supervisor
from flowq.testing import wait_until

NEVER_S = 3600.0


class Pool:
    """A pool whose processes are entries of a board."""

    def __init__(self, renew_s: float = NEVER_S) -> None:
        self.board = Board(8)
        self.lives: dict[int, Life] = {}
        self.buried: list[str] = []
        self.away: Exception | None = None
        self.supervisor = Supervisor(
            self.board,
            lambda: 8,
            self,
            lambda messages: None,
            lambda lease, drain, pid: None,
            lambda: None,
            lambda: None,
            renew_s=renew_s,
            grace_s=20.0,
            life_of=lambda pid: self.lives[pid],
            kill=lambda pid: None,
        )

    def bury(self, *, holders: list[str], tokens: list[str], crashed: bool, running: str = "") -> list[Any]:
        if self.away:
            raise self.away
        self.buried += holders
        return []

    def vouch(self, *, holders: list[str]) -> list[str]:
        return []

    def child(self, pid: int, monkeypatch: pytest.MonkeyPatch) -> str:
        """Have a process take a seat, busy; gives its holder."""
        monkeypatch.setattr("flowq.runtime.board.os.getpid", lambda: pid)
        seat = self.board.take(pid % 8, f"{pid:016x}")
        assert seat is not None
        seat.is_busy = True
        self.lives[pid] = Life.ALIVE
        return seat.holder


class Turns:
    """Stands in for the event that a supervisor waits on: does one step of a story instead of each wait."""

    def __init__(self, supervisor: Supervisor, steps: list[Callable[[], Any]]) -> None:
        self.waits: list[float] = []
        self._supervisor, self._steps = supervisor, iter(steps)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        next(self._steps, self._supervisor.stop)()

    def set(self) -> None: ...
    def clear(self) -> None: ...


def waits_of(pool: Pool, steps: list[Callable[[], Any]]) -> list[float]:
    """Give how long the supervisor was about to wait before each of the steps."""
    turns = Turns(pool.supervisor, steps)
    pool.supervisor._turn = turns  # type: ignore[assignment]
    pool.supervisor.run()
    return turns.waits[: len(steps)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that the supervisor sees."""
    times = [1000.0]
    monkeypatch.setattr("flowq.runtime.supervisor.time.monotonic", lambda: times[0])
    return times


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """A pool whose supervisor runs, and never looks unless there is a reason."""
    monkeypatch.setattr(module, "LOOK_S", NEVER_S)
    pool = Pool()
    yield pool
    pool.supervisor.stop()
    pool.supervisor.join()


def test_it_looks_more_often_for_a_while_after_a_death(clock, monkeypatch):
    pool = Pool()
    pool.child(101, monkeypatch)
    steps = [
        lambda: None,
        lambda: pool.lives.update({101: Life.DEAD}),
        lambda: clock.__setitem__(0, clock[0] + 0.9 * RESTLESS_S),
        lambda: clock.__setitem__(0, clock[0] + 0.2 * RESTLESS_S),
        lambda: None,
    ]
    assert waits_of(pool, steps) == [LOOK_S, LOOK_S, AGAIN_S, AGAIN_S, LOOK_S]


def test_it_looks_as_often_as_a_short_lease_is_renewed():
    assert waits_of(Pool(renew_s=0.1), [lambda: None]) == [0.1]


def test_told_of_a_death_it_buries_at_once(patient, monkeypatch):
    holder = patient.child(101, monkeypatch)
    patient.supervisor.start()
    patient.lives[101] = Life.DEAD
    patient.supervisor.look_soon()
    wait_until(lambda: patient.buried == [holder])


def test_the_successor_that_dies_too_is_buried_though_nobody_tells(patient, monkeypatch):
    first, second = patient.child(101, monkeypatch), patient.child(102, monkeypatch)
    patient.supervisor.start()
    patient.lives[101] = Life.DEAD
    patient.supervisor.look_soon()
    wait_until(lambda: patient.buried == [first])
    patient.lives[102] = Life.DEAD
    wait_until(lambda: patient.buried == [first, second])


def test_told_to_stop_it_does_not_wait_for_its_next_look(patient):
    patient.supervisor.start()
    patient.supervisor.stop()
    patient.supervisor.join(timeout=10)
    assert not patient.supervisor.is_alive()


def test_the_pool_is_told_of_the_dead_and_of_no_others(monkeypatch):
    pool = Pool()
    for pid in (101, 102, 103):
        pool.child(pid, monkeypatch)
    pool.lives |= {101: Life.DEAD, 102: Life.STOPPED}
    pool.supervisor.look(1000.0)
    assert pool.supervisor.dead == {101}
    pool.supervisor.dead.clear()  # as the pool does when it has replaced them
    pool.supervisor.look(1000.5)
    assert pool.supervisor.dead == set()


def test_the_pool_is_told_of_the_dead_also_while_the_state_is_away(monkeypatch, caplog):
    pool = Pool()
    holder = pool.child(101, monkeypatch)
    pool.lives[101], pool.away = Life.DEAD, ConnectionError("away")
    waits_of(pool, [lambda: None])
    assert (pool.supervisor.dead, pool.buried) == ({101}, [])
    assert "tried again" in caplog.text
    pool.away = None
    pool.supervisor.look(2000.0)
    assert pool.buried == [holder]
