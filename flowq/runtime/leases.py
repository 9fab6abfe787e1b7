"""Keeps a worker process's claims alive while it works on them, and stops what it lost."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowq.execution import Interruptible
from flowq.runtime.scripts import Message, Scripts

logger = logging.getLogger("flowq.worker")

GIVE_UP_S = 2.0
"""An attempt that ignores the end of its time for so long is given up."""


class LeaseKeeper:
    """A thread that renews the leases of this process, watches the time of its attempts, and sweeps when a retry that
    was scheduled here is due (the fleet's sweep would do it too, but later).

    It sleeps until the next of these; without any claim it costs nothing.
    """

    def __init__(
        self, scripts: Scripts, worker: str, renew_s: float, lease_s: float, send: Callable[[list[Message]], None]
    ) -> None:
        self._scripts = scripts
        self._worker = worker
        self._renew_s, self._lease_s = renew_s, lease_s
        self._send = send
        self._held: dict[str, Interruptible | None] = {}
        self.drains: list[tuple[str, str]] = []
        """The queue and token of every drain that is at work here."""
        self._due: list[float] = []
        self._changed = threading.Condition()
        self._renewed = time.monotonic()
        self._thread: threading.Thread | None = None
        self.on_stuck: Callable[[str, Interruptible], None] = lambda lease, scope: None
        """Called with an attempt that ignores the end of its time, after it was given up here."""

    def hold(self, lease: str) -> None:
        """Renew this lease from now on."""
        with self._changed:
            self._held[lease] = None
            self._notice()

    def drop(self, lease: str) -> None:
        """Renew it no longer: its attempt is settled."""
        with self._changed:
            self._held.pop(lease, None)

    @contextmanager
    def running(self, lease: str, scope: Interruptible) -> Iterator[bool]:
        """Stop what runs in ``scope`` if the lease is lost meanwhile; gives False if it is lost already."""
        with self._changed:
            held = lease in self._held
            if held:
                self._held[lease] = scope
                self._notice()
        try:
            yield held
        finally:
            with self._changed:
                if lease in self._held:
                    self._held[lease] = None

    @contextmanager
    def draining(self, queue: str, token: str) -> Iterator[None]:
        """Keep a drain known as being at work."""
        with self._changed:
            self.drains.append((queue, token))
            self._notice()
        try:
            yield
        finally:
            with self._changed:
                self.drains.remove((queue, token))

    def remind(self, delay_s: float) -> None:
        """Sweep after so many seconds."""
        with self._changed:
            heapq.heappush(self._due, time.monotonic() + delay_s)
            self._notice()

    def _notice(self) -> None:
        if self._thread is None:
            self._renewed = time.monotonic()
            self._thread = threading.Thread(target=self._main, name="flowq-leases", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _main(self) -> None:
        while True:
            with self._changed:
                self._changed.wait(self._pause())
                now = time.monotonic()
                stuck = {lease: scope for lease, scope in self._held.items() if scope and scope.overdue_s > GIVE_UP_S}
                for lease in stuck:
                    del self._held[lease]
                renew = bool(self._held or self.drains) and now - self._renewed >= self._renew_s
                if not self._held and not self.drains:
                    self._renewed = now
                leases, drains = list(self._held), [f"{queue} {token}" for queue, token in self.drains]
                due = bool(self._due) and self._due[0] <= now
                while self._due and self._due[0] <= now:
                    heapq.heappop(self._due)
            try:
                for lease, scope in stuck.items():
                    self.on_stuck(lease, scope)
                if renew:
                    self._renew(leases, drains)
                if due:
                    self._send(self._scripts.sweep(worker=self._worker, every_ms=0).messages)
            except Exception:
                logger.exception("leases could not be renewed; they are tried again")
                self._stop_if_expired()

    def _pause(self) -> float | None:
        """Give the seconds until something is to do; None: nothing is."""
        now = time.monotonic()
        moments = [self._due[0]] if self._due else []
        if self._held or self.drains:
            moments.append(self._renewed + self._renew_s)
        if any(scope is not None and scope.timeout_s is not None for scope in self._held.values()):
            moments.append(now + 1.0)
        return max(0.0, min(moments) - now) if moments else None

    def _renew(self, leases: list[str], drains: list[str]) -> None:
        lost = self._scripts.renew(leases=leases, tokens=drains)
        self._renewed = time.monotonic()
        with self._changed:
            for position in lost:
                self._lose(leases[position])

    def _lose(self, lease: str) -> None:
        scope = self._held.pop(lease, None)
        if scope is not None:
            logger.warning("the claim %s is lost (cancelled, or taken away): its attempt is stopped", lease)
            scope.stop()

    def _stop_if_expired(self) -> None:
        """Who could not renew for a whole lease does not hold it any more: somebody else may be running the node."""
        with self._changed:
            if time.monotonic() - self._renewed > self._lease_s:
                for lease in list(self._held):
                    self._lose(lease)
        time.sleep(min(0.5, self._renew_s))  # the connection's own retries have waited already
