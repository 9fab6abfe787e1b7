"""What a worker's parent process does for its children, and a worker's orderly end.

Every half second, and more often after a death, it looks at the board. A child that has died is buried: what it held
runs elsewhere at once. For the others it vouches, so that one which computes without a pause keeps its claims. A child
that ignores the end of an attempt's time, or that a run was cancelled, is killed, once that is recorded; Celery starts
another one.

Told to end, a worker claims nothing more and lets its attempts go on for the grace. The rest is handed back, so that
others run it, without an attempt or a crash being counted; and who still does not end is killed.

Pools without children have but the second half: their own lease keeper does the first, as far as that goes.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from enum import Enum
from pathlib import Path
from typing import Protocol

from flowq.runtime.board import Attempt, Board, Phase, Seat
from flowq.runtime.leases import GIVE_UP_S, LOOK_S
from flowq.runtime.replies import Message

logger = logging.getLogger("flowq.worker")

AGAIN_S, RESTLESS_S = 0.05, 2.0
"""After a death it looks this often, for so long: what has killed one process may kill its successor, too."""

CANCEL_GRACE_S = 2.0
"""An attempt that ignores that its claim is lost, or that its process is to end, is killed after so long."""


class Claims(Protocol):
    """The scripts that are needed here."""

    def bury(self, *, holders: list[str], tokens: list[str], crashed: bool, running: str = "") -> list[Message]: ...
    def vouch(self, *, holders: list[str]) -> list[str]: ...


class Life(Enum):
    DEAD = "dead"
    STOPPED = "stopped"
    """By a signal or a debugger: it may go on at any time."""
    ALIVE = "alive"


class Supervisor(threading.Thread):
    """Looks after a worker's children, and sees to its end.

    Args:
        board: where the children say what they are at.
        places: gives how many children there may be.
        scripts: the parent's.
        send: sends what scripts ask for.
        give_up: records that an attempt ran out of its time: its lease, the queue and token of its drain, its pid.
        leave: says that the worker leaves; must not wait.
        escape: called when a worker that was to end does not, though nothing of flowq's in it counts any more.
        renew_s: how often to vouch.
        grace_s: how long attempts may go on.
        life_of: tells how a child fares.
        kill: ends a child.
    """

    def __init__(
        self,
        board: Board,
        places: Callable[[], int],
        scripts: Claims,
        send: Callable[[Iterable[Message]], None],
        give_up: Callable[[str, tuple[str, str], int], None],
        leave: Callable[[], None],
        escape: Callable[[], None],
        *,
        renew_s: float,
        grace_s: float,
        life_of: Callable[[int], Life] | None = None,
        kill: Callable[[int], None] | None = None,
    ) -> None:
        super().__init__(name="flowq-supervisor", daemon=True)
        self._board, self._scripts, self._send = board, scripts, send
        self._give_up, self._leave, self._escape = give_up, leave, escape
        self._renew_s, self._grace_s = renew_s, grace_s
        self._life_of, self._kill = life_of or child_life, kill or kill_child
        self._pool_size, self._places = places, 0
        self._vouched = 0.0
        self._lost: dict[str, float] = {}
        """Leases of children that do not count any more, and since when that is known."""
        self._asked: dict[int, float] = {}
        """By seat: when a child was first asked to look after its leases, which it has not done yet."""
        self._ended: set[str] = set()
        """Holders that were killed here, or handed back: what they hold is no crash."""
        self._left = False
        self._over = 0.0
        """When what still ran was handed back; 0: it was not."""
        self._turn = threading.Event()
        """Set: look now."""
        self._stopped = False
        self._saw_death = float("-inf")
        self.dead: set[int] = set()
        """Children that were found dead, until the pool has noticed that, too."""

    def run(self) -> None:
        most_s = min(LOOK_S, self._renew_s)  # a lease may be shorter than the one
        while not self._stopped:
            self._turn.wait(AGAIN_S if time.monotonic() - self._saw_death < RESTLESS_S else most_s)
            self._turn.clear()
            try:
                self.look(time.monotonic())
            except Exception:
                logger.exception("the pool's processes could not be looked after; that is tried again")

    def look_soon(self) -> None:
        """Look at once: a child has died. Waits for nothing."""
        self._turn.set()

    def stop(self) -> None:
        self._stopped = True
        self._turn.set()

    def look(self, now: float) -> None:
        """See how the children fare, and do what is to be done about it."""
        self._places = max(self._places, self._pool_size())  # a pool that has shrunk may have left somebody
        fares = [(seat, self._life_of(seat.pid)) for seat in self._board.taken(self._places)]
        living = [seat for seat, life in fares if life is not Life.DEAD]
        if self._board.is_closing:
            self._close(living, now)
        if len(living) < len(fares):
            self._saw_death = now
            self.dead |= {seat.pid for seat, life in fares if life is Life.DEAD}
            self._bury([seat for seat, life in fares if life is Life.DEAD])
        working = [seat for seat, life in fares if life is Life.ALIVE and seat.is_busy]
        if working and now - self._vouched >= self._renew_s:
            self._vouch(working, now)
        for seat, _ in fares:
            if not seat.is_busy:  # it holds nothing that it could be asked about
                self._ask_no_more(seat)
        for seat in working:
            self._enforce(seat, now)

    # ── Children that died ────────────────────────────────────────────────────────────────────────────────────────────

    def _bury(self, dead: list[Seat]) -> None:
        for crashed in (True, False):
            held = [seat for seat in dead if seat.is_busy and self._has_crashed(seat) == crashed]
            if held:
                logger.warning("%s died; what ran there goes to others", ", ".join(f"process {s.pid}" for s in held))
                for seat in held:
                    attempt = seat.attempt if crashed else None
                    self._give_back([seat], crashed, f"{attempt.lease} {attempt.fused}" if attempt else "")
        for seat in dead:
            self._ended.discard(seat.holder)
            self._asked.pop(seat.number, None)
            self._board.free(seat)

    def _has_crashed(self, seat: Seat) -> bool:
        """Whether a child's end may be the doing of what it held."""
        return seat.holder not in self._ended and not seat.is_listening

    def _give_back(self, seats: list[Seat], crashed: bool, running: str = "") -> None:
        holders, tokens = [seat.holder for seat in seats], [seat.token for seat in seats if seat.token]
        self._send(self._scripts.bury(holders=holders, tokens=tokens, crashed=crashed, running=running))

    # ── Children that live ────────────────────────────────────────────────────────────────────────────────────────────

    def _vouch(self, working: list[Seat], now: float) -> None:
        self._vouched = now
        lost = self._scripts.vouch(holders=[seat.holder for seat in working])
        known, self._lost = self._lost, {}
        for seat in working:
            attempt = seat.attempt
            if attempt is not None and attempt.lease in known:
                self._lost[attempt.lease] = known[attempt.lease]
            mine = [lease.partition(" ")[2] for lease in lost if lease.startswith(f"{seat.holder} ")]
            for lease in mine:
                self._lost.setdefault(lease, now)
            if mine:
                seat.is_asked = True
                self._asked.setdefault(seat.number, now)
            else:  # it has heeded what it was asked, or ended it before it was
                self._ask_no_more(seat)

    def _ask_no_more(self, seat: Seat) -> None:
        seat.is_asked = False
        self._asked.pop(seat.number, None)

    def _enforce(self, seat: Seat, now: float) -> None:
        """End a child that does not heed what it was told."""
        attempt, beside = seat.attempt, seat.thread_attempt
        if not seat.is_asked:
            self._asked.pop(seat.number, None)
        if attempt and 0 < attempt.deadline < now - GIVE_UP_S:
            self._end(seat, f"the attempt {attempt.lease} ignores its timeout", main=attempt)
        elif beside and 0 < beside.deadline < now - 2 * GIVE_UP_S:  # its own keeper did not get a turn to give it up
            self._end(seat, f"the attempt {beside.lease} ignores its timeout", thread=beside)
        elif attempt and min(attempt.stopped or now, self._lost.get(attempt.lease, now)) < now - CANCEL_GRACE_S:
            self._end(seat, f"the attempt {attempt.lease} goes on, though its claim is lost (cancelled, or taken away)")
        elif not attempt and seat.token and self._asked.get(seat.number, now) < now - CANCEL_GRACE_S:
            self._end(seat, "an attempt in a thread goes on, though its claim is lost, and lets no other have a turn")
        elif 0 < seat.leaving < now - CANCEL_GRACE_S:
            self._end(seat, "it was told to end, and does not")

    def _end(self, seat: Seat, reason: str, main: Attempt | None = None, thread: Attempt | None = None) -> None:
        """Record what is to be recorded, hand back what else the child holds, and kill it: Celery starts another."""
        late = main or thread
        if late is not None:
            queue, _, token = seat.token.partition(" ")
            self._give_up(late.lease, (queue, token), seat.pid)
            if late not in (seat.attempt, seat.thread_attempt):
                return  # meanwhile it has ended after all
        self._give_back([seat], crashed=False)
        self._ended.add(seat.holder)
        if self._life_of(seat.pid) is not Life.DEAD:
            logger.error("%s: its process %d is killed", reason, seat.pid)
            self._kill(seat.pid)

    # ── The end ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _close(self, living: list[Seat], now: float) -> None:
        if not self._left:
            self._left = True
            self._leave()
        if self._board.phase is Phase.CLOSING and now - self._board.closed < self._grace_s:
            return
        busy = [seat for seat in living if seat.is_busy]
        if not self._over:
            self._over = now
            self._ended |= {seat.holder for seat in living}
            try:
                if busy:
                    logger.warning("what still runs is handed back: this worker ends")
                    self._give_back(busy, crashed=False)
            finally:
                self._board.end()  # only now: what is interrupted has nothing more to say
        elif now - self._over >= CANCEL_GRACE_S:
            for seat in busy:
                logger.warning("process %d does not end, and is killed", seat.pid)
                self._kill(seat.pid)
            if not living:
                self._escape()


def child_life(pid: int) -> Life:
    """Tell how a child of this process fares."""
    try:
        file = os.open(f"/proc/{pid}/stat", os.O_RDONLY)
    except FileNotFoundError:
        return Life.DEAD if Path("/proc/self/stat").exists() else _life_by_signal(pid)
    try:
        state, parent, *_ = os.read(file, 512).rpartition(b") ")[2].split()
    except (ProcessLookupError, ValueError):  # it went meanwhile
        return Life.DEAD
    finally:
        os.close(file)
    if state in b"ZXx" or int(parent) != os.getpid():  # another parent's: the number was given to a stranger
        return Life.DEAD
    return Life.STOPPED if state in b"Tt" else Life.ALIVE


def _life_by_signal(pid: int) -> Life:
    """Tell it where there is no /proc: a zombie counts as alive, until Celery has noticed it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return Life.DEAD
    return Life.ALIVE


def kill_child(pid: int) -> None:
    """Kill a child, if it is still one."""
    if child_life(pid) is not Life.DEAD:
        os.kill(pid, signal.SIGKILL)
