"""Keeps a worker process's claims alive while it works on them; stops what it lost, hands back what it must leave."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowq.execution import Interruptible
from flowq.runtime.board import Board, Phase, Seat
from flowq.runtime.replies import Message
from flowq.runtime.scripts import Scripts

logger = logging.getLogger("flowq.worker")

GIVE_UP_S = 2.0
"""An attempt that ignores the end of its time for so long is given up."""

LOOK_S = 0.5
"""How often a process that holds something looks at its attempts' time, and at what its parent says."""


class LeaseKeeper:
    """A thread that renews what this process holds, watches the time of its attempts, and sweeps when a retry that was
    scheduled here is due (the fleet's sweep would do it too, but later).

    It sleeps until the next of these; without any claim it costs nothing.

    Args:
        board: says when the worker is to end.
        seat: this process's, if a parent looks after it. Then it is the parent that ends this process, should an
            attempt in its main thread not stop.
    """

    def __init__(
        self,
        scripts: Scripts,
        worker: str,
        renew_s: float,
        lease_s: float,
        send: Callable[[list[Message]], None],
        board: Board | None = None,
        seat: Seat | None = None,
    ) -> None:
        self._scripts = scripts
        self._worker = worker
        self._renew_s, self._lease_s = renew_s, lease_s
        self._send = send
        self._board, self._seat = board, seat
        self._held: dict[str, Interruptible | None] = {}
        self.drains: list[tuple[str, str]] = []
        """The queue and token of every drain that is at work here."""
        self._relieves: list[Callable[[], None]] = []
        self._due: list[float] = []
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._main_thread = threading.main_thread().ident
        self._renewed = time.monotonic()
        """When it was last certain that what is held here is still held."""
        self._called = time.monotonic()
        """When the thread last renewed: also of a process whose drains are short, so that claims whose replies it never
        got are missed."""
        self._wakes: float | None = None
        """When the thread looks next; None: when it is told to."""
        self._limits: dict[str, float] = {}
        """When the time of attempts in threads is up, of those that have a limit."""
        self._thread: threading.Thread | None = None
        self.on_stuck: Callable[[str, Interruptible], None] = lambda lease, scope: None
        """Called with an attempt that ignores the end of its time, after it was given up here."""

    @property
    def is_busy(self) -> bool:
        """Something is held here, or about to be."""
        return bool(self._held or self.drains)

    def hold(self, *leases: str) -> None:
        """Renew these leases from now on."""
        with self._lock:
            self._begin()
            self._held.update(dict.fromkeys(leases))

    def drop(self, *leases: str) -> None:
        """Renew them no longer: their attempts are settled."""
        with self._lock:
            for lease in leases:
                self._held.pop(lease, None)

    def begin(self, lease: str, scope: Interruptible, fused: str = "") -> bool:
        """Stop what runs in ``scope`` if the lease is lost before ``end``; gives False if it is lost already.

        ``fused``: the node that runs, if it is not the claim's own.
        """
        with self._lock:
            if lease not in self._held:
                return False
            self._held[lease] = scope
        if self._seat is not None:
            self._show(self._seat, lease, scope, fused)
        return True

    def end(self, lease: str) -> None:
        """What was begun under this lease has ended."""
        with self._lock:
            if lease in self._held:
                self._held[lease] = None
        if self._seat is not None and threading.get_ident() == self._main_thread:
            self._seat.finish()

    @contextmanager
    def draining(self, queue: str, token: str, relieve: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Keep a drain known as being at work; ``relieve`` is called now and then."""
        with self._changed:
            self._begin()
            self.drains.append((queue, token))
            self._relieves.append(relieve)
        if self._seat is not None:
            self._seat.drain(queue, token)
        try:
            yield
        finally:
            if self._seat is not None:
                self._seat.drain()
            with self._changed:
                self.drains.remove((queue, token))
                self._relieves.remove(relieve)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Tell the parent that this process waits: should it end, nothing that it was given meanwhile is to blame."""
        if self._seat is None:
            yield
            return
        self._seat.is_listening = True
        try:
            yield
        finally:
            self._seat.is_listening = False

    def remind(self, delay_s: float) -> None:
        """Sweep after so many seconds."""
        with self._changed:
            heapq.heappush(self._due, time.monotonic() + delay_s)
            self._notice(delay_s)

    def _show(self, seat: Seat, lease: str, scope: Interruptible, fused: str) -> None:
        """Tell the parent what runs, and from when to when its time does."""
        if threading.get_ident() == self._main_thread:
            seat.begin(f"{lease} {fused}" if fused else lease)
            scope.told = seat.time
        else:
            scope.told = lambda deadline: self._limit(lease, deadline)

    def _limit(self, lease: str, deadline: float) -> None:
        """Tell the parent of the thread whose time is up first."""
        assert self._seat is not None
        with self._changed:
            if deadline:
                self._limits[lease] = deadline
            else:
                self._limits.pop(lease, None)
            limits = ((limit, lease) for lease, limit in self._limits.items())
            deadline, lease = min(limits, default=(0.0, ""))
            self._seat.begin_thread(lease, deadline)

    def _begin(self) -> None:
        if not self.is_busy:
            self._renewed = time.monotonic()  # whoever claims says that this process lives
        self._notice(LOOK_S)

    def _notice(self, within_s: float) -> None:
        """Have the thread look within so many seconds: it need not be woken up for every attempt of a busy process."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._main, name="flowq-leases", daemon=True)
            self._thread.start()
        elif self._wakes is None or self._wakes > time.monotonic() + within_s:
            self._changed.notify()

    def _main(self) -> None:
        while True:
            with self._changed:
                now = time.monotonic()
                self._wakes = self._next(now)
                if self._wakes is None or self._wakes > now:
                    self._changed.wait(None if self._wakes is None else self._wakes - now)
                now = time.monotonic()
                self._wakes = now  # who comes while it looks finds it awake
                stuck = self._stuck()
                must_leave = bool(self._held) and self._must_leave()
                asked = self._is_asked()  # in any case: a mark that stays would later be taken for one not heeded
                has_to = self.is_busy or self._is_in_doubt(now)
                renew = has_to and (asked or now - self._called >= self._renew_s)
                leases, drains = list(self._held), [f"{queue} {token}" for queue, token in self.drains]
                relieves = list(self._relieves)
                due = bool(self._due) and self._due[0] <= now
                while self._due and self._due[0] <= now:
                    heapq.heappop(self._due)
            try:
                for lease, scope in stuck.items():
                    self.on_stuck(lease, scope)
                if must_leave:
                    self._hand_back(drains)
                elif renew:
                    self._renew(leases, drains)
                for relieve in relieves:
                    relieve()
                if due:
                    self._send(self._scripts.sweep(worker=self._worker, every_ms=0).messages)
            except Exception:
                logger.exception("leases could not be renewed; they are tried again")
                self._stop_if_expired()

    def _next(self, now: float) -> float | None:
        """Give the moment when something is to do; None: nothing is."""
        moments = self._due[:1]
        if self.is_busy:
            moments += [now + LOOK_S, self._called + self._renew_s]
        elif self._is_in_doubt(now):
            moments.append(self._called + self._renew_s)
        return min(moments, default=None)

    def _is_in_doubt(self, now: float) -> bool:
        """A claim may have been made for this process that it never heard of: it says that it does not hold it, until
        that has been taken notice of (and so that its end is not taken for a crash of what it never ran)."""
        return now - self._scripts.unanswered < self._lease_s + 3 * self._renew_s

    def _stuck(self) -> dict[str, Interruptible]:
        """Take away, and give, the attempts that do not heed the end of their time."""
        stuck = {
            lease: scope
            for lease, scope in self._held.items()
            if scope and scope.overdue_s > GIVE_UP_S and not (self._seat is not None and scope.in_main_thread)
        }
        for lease in stuck:
            del self._held[lease]
        return stuck

    def _must_leave(self) -> bool:
        """This process has to end now, whatever it holds."""
        if self._seat is not None and self._seat.leaving:
            return True
        return self._board is not None and self._board.phase is Phase.OVER

    def _is_asked(self) -> bool:
        if self._seat is None or not self._seat.is_asked:
            return False
        self._seat.is_asked = False
        return True

    def _hand_back(self, drains: list[str]) -> None:
        """Give what is held to others, then stop it: what it still says comes too late to be recorded."""
        self._send(self._scripts.bury(holders=[self._scripts.holder], tokens=drains, crashed=False))
        with self._changed:
            for lease in list(self._held):
                self._lose(lease, "handed back, as this worker ends")

    def _renew(self, leases: list[str], drains: list[str]) -> None:
        lost, messages = self._scripts.renew(leases=leases, tokens=drains)
        self._renewed = self._called = time.monotonic()
        with self._changed:
            for position in lost:
                self._lose(leases[position], "lost (cancelled, or taken away)")
        self._send(messages)

    def _lose(self, lease: str, why: str) -> None:
        self._stop(lease, self._held.pop(lease, None), why)

    def _stop(self, lease: str, scope: Interruptible | None, why: str) -> None:
        if scope is not None and not scope.stopped:
            logger.warning("the claim %s is %s: its attempt is stopped", lease, why)
            if self._seat is not None and scope.in_main_thread:
                self._seat.stop(time.monotonic())
            scope.stop()

    def _stop_if_expired(self) -> None:
        """Stop attempts whose claims could not be renewed for a whole lease: somebody else may be running their nodes.

        The claims are still named, should they be valid after all: what has ended is still to be stored.
        """
        with self._changed:
            if time.monotonic() - self._renewed > self._lease_s:
                for lease, scope in self._held.items():
                    self._stop(lease, scope, "given up, as it could not be renewed")
        time.sleep(min(LOOK_S, self._renew_s))  # the connection's own retries have waited already
