"""What a consumer has done in the background: it shows that it lives, hears the bell, and looks after the dead."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque

from redis import RedisError

from flowq.runtime.transport.recovery import Books, Limit, beat, recover
from flowq.runtime.transport.taker import Bell, Taker
from flowq.runtime.transport.wire import BROKEN, Wire

logger = logging.getLogger("flowq.transport")

_BEATS_PER_DEATH = 3
"""A consumer shows that it lives so often in the time after which it is taken for dead."""
_PAUSE_S = 0.2  # after an error of the connection


class Keeper(threading.Thread):
    """One thread for each consumer, so that one whose event loop is held up by a task still counts as living."""

    def __init__(self, consumer: str, books: Books, limit: Limit, wire: Wire, taker: Taker, bell: Bell | None) -> None:
        super().__init__(name=f"flowq-keeper-{consumer}", daemon=True)
        self.sources: frozenset[str] = frozenset()
        """The lists that this consumer takes from."""
        self.owed: deque[tuple[str, bytes]] = deque()
        """Acknowledgements that could not be sent."""
        self._consumer, self._books, self._wire, self._taker, self._bell = consumer, books, wire, taker, bell
        self._limit = limit
        self._every_s = books.dead_ms / 1000 / _BEATS_PER_DEATH
        self._over = threading.Event()
        self._heard = self._since = time.monotonic()

    def stop(self) -> None:
        """End the thread; there is no beat after this."""
        self._over.set()
        if self._bell is not None:
            self._bell.hang_up(self._taker)  # wakes it up
        if self.is_alive() and threading.current_thread() is not self:
            self.join(1)

    def run(self) -> None:
        due = time.monotonic() + self._every_s
        while not self._over.is_set():
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + self._every_s
                    self._beat()
                self._listen(max(due - time.monotonic(), 0))
            except (*BROKEN, RedisError) as error:
                if not self._over.is_set():
                    logger.debug("a consumer's keeper: %s", error)
                    self._hang_up()
                    self._over.wait(_PAUSE_S)
            except Exception:  # its end would be the end of a living consumer's messages
                if not self._over.is_set():
                    logger.exception("a consumer's keeper")
                    self._hang_up()
                    self._over.wait(_PAUSE_S)

    def _beat(self) -> None:
        now = time.monotonic()
        dead = beat(self._wire, self._books, self._consumer, self.sources)
        if now - self._heard > 2 * self._every_s:
            self._since = now  # Redis was away, or this machine slept: the others, too, could not show that they live
        self._heard = now
        while self.owed:
            key, raw = self.owed[0]
            self._wire.call("LREM", key, 1, raw)
            self.owed.popleft()
        if now - self._since > self._books.dead_ms / 1000:
            for consumer, sources in dead:
                if consumer != self._consumer:
                    recover(self._wire, self._books, self._limit, consumer, sources)

    def _listen(self, timeout_s: float) -> None:
        if self._bell is None or self._taker.deaf:
            self._over.wait(timeout_s)
        else:
            self._bell.listen(self._taker, timeout_s)

    def _hang_up(self) -> None:
        if self._bell is not None:
            self._bell.hang_up(self._taker)
