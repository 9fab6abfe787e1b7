"""Takes messages from several lists over one connection, waiting for them without popping and without polling.

Redis can wait on one list with a move (``BLMOVE``), on several only with a pop. So a consumer waits on the first list
of one of its queues, where Redis serves whoever waits longest, and has Redis ring a bell when one of the others is
written to: client-side caching (``CLIENT TRACKING``) tells when a key that was looked at changes. While the bell has
not rung since all the others were seen empty, a message costs one ``BLMOVE``; else one call of ``take``, which goes by
priority, then round robin. Without a bell (not every server has it) the other lists are looked at once a second.
"""

from __future__ import annotations

import logging
import time
from typing import Any, NamedTuple

import redis

from flowq.runtime.transport.wire import BROKEN, TAKE, Wire

logger = logging.getLogger("flowq.transport")

_INTERRUPT_TRIES = 5
_INTERRUPT_PAUSE_S = 0.002


class Lists(NamedTuple):
    """What to take from: list and where its messages go, by priority, then in turn; and the one to wait on."""

    pairs: tuple[tuple[str, str], ...]
    wait: tuple[str, str]
    sources: frozenset[str]
    """The lists, in no order."""


class Taker:
    """Sends one command that takes at a time, so that a consumer never gets more than it has asked for."""

    def __init__(self, wire: Wire, wait_s: float) -> None:
        self._wire, self._wait_s = wire, wait_s
        self.bell: int | None = None
        """The client id of the connection that hears the bell; None: there is none."""
        self.deaf = False
        """The server has no bell."""
        self._tuned: tuple[Any, int | None] = (None, None)
        self._client_id: int | None = None
        self._rings = 0
        self._armed: tuple[int, frozenset[str]] | None = None
        self._waiting = False
        self._pairs: tuple[tuple[str, str], ...] = ()
        self._unknown_script = False

    def send(self, connection: Any, lists: Lists) -> None:
        """Ask for a message."""
        self._tune(connection)
        self._waiting = True  # before the look at the rings: who rings looks the other way round
        if self._armed == (self._rings, lists.sources):
            self._pairs = (lists.wait,)
            connection.send_command("BLMOVE", *lists.wait, "RIGHT", "LEFT", self._wait_s)
            return
        self._waiting = False
        self._pairs = lists.pairs
        names = [name for pair in lists.pairs for name in pair]
        if self._unknown_script:
            self._unknown_script = False
            connection.send_command("EVAL", TAKE.source, len(names), *names)
        else:
            connection.send_command("EVALSHA", TAKE.sha, len(names), *names)

    def receive(self, connection: Any, lists: Lists) -> tuple[str, str, bytes] | None:
        """Read the answer: the list, where the message is now, and the message; or None."""
        try:
            answer = connection.read_response()
        except redis.exceptions.NoScriptError:
            self._unknown_script = True
            return None
        if self._waiting:
            self._waiting = False
            if answer is None or self.bell is None:
                self._armed = None  # look at them all: a bell may break without a sound
            return None if answer is None else (*self._pairs[0], answer)
        if answer is None:
            self._arm(connection, lists)
            return None
        number, raw = answer
        if self._pairs[number] == lists.wait:
            self._arm(connection, lists)  # most often there is nothing elsewhere, and scripts cost more than BLMOVE
        return (*self._pairs[number], raw)

    def ring(self) -> None:
        """Somebody has written to one of the lists; called from another thread."""
        self._rings += 1
        if self._waiting:
            self.interrupt()

    def interrupt(self) -> None:
        """End the wait, whose answer then comes at once: a message, if there was one before that."""
        for _ in range(_INTERRUPT_TRIES):
            if not self._waiting or self._client_id is None or self._wire.call("CLIENT", "UNBLOCK", self._client_id):
                return
            time.sleep(_INTERRUPT_PAUSE_S)  # between "I wait" and the command's arrival

    def _arm(self, connection: Any, lists: Lists) -> None:
        """If all lists but the one to wait on are empty, wait there, and have the bell ring when that changes."""
        rings = self._rings
        others = [source for source, _ in lists.pairs if source != lists.wait[0]]
        if others:
            connection.send_command("EXISTS", *others)
            if connection.read_response():
                return
        self._armed = rings, lists.sources

    def _tune(self, connection: Any) -> None:
        """Have this connection's bell ring where it is heard, once for each connection and bell."""
        now = (connection._sock, self.bell)
        if now == self._tuned:
            return
        self._armed = None
        self._client_id = _ask(connection, "CLIENT", "ID")
        if self.bell is not None:
            try:
                _ask(connection, "CLIENT", "TRACKING", "OFF")
                _ask(connection, "CLIENT", "TRACKING", "ON", "REDIRECT", self.bell, "NOLOOP")
            except redis.ResponseError as error:
                logger.info("this Redis tells nobody of new messages (%s): some may wait a second", error)
                self.deaf, self.bell = True, None
        self._tuned = (connection._sock, now[1])


def _ask(connection: Any, *command: Any) -> Any:
    connection.send_command(*command)
    return connection.read_response()


class Bell:
    """The connection on which Redis tells of changed lists; RESP2, where that comes as a published message."""

    def __init__(self, pool: Any) -> None:
        # Without what redis-py 8 adds for RESP3 over TCP, and refuses to go without it.
        given = {
            name: value
            for name, value in pool.connection_kwargs.items()
            if not name.startswith(("maint_notifications", "orig_"))
        }
        self._connection = pool.connection_class(**{**given, "protocol": 2})
        self._hears = False

    def listen(self, taker: Taker, timeout_s: float) -> None:
        """Ring when Redis says so, and return after some time in any case."""
        if not self._hears:
            client_id = _ask(self._connection, "CLIENT", "ID")
            _ask(self._connection, "SUBSCRIBE", "__redis__:invalidate")
            self._hears, taker.bell = True, client_id
            taker.ring()
        if self._connection.can_read(timeout=timeout_s):
            try:
                self._connection.read_response()
            except redis.InvalidResponse:  # Valkey says it wrongly when a whole database is flushed
                self.hang_up(taker)
            taker.ring()

    def hang_up(self, taker: Taker) -> None:
        """Close the connection; the next ``listen`` makes another one."""
        taker.bell, self._hears = None, False
        try:
            self._connection.disconnect()
        except BROKEN:
            logger.debug("the bell's connection could not be closed", exc_info=True)
