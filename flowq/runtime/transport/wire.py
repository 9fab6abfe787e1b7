"""One connection for commands that are answered at once, held open; and the scripts that go over it."""

from __future__ import annotations

import threading
from hashlib import sha1
from importlib.resources import files
from typing import Any, NamedTuple

import redis


class Script(NamedTuple):
    """A Lua script and the name that Redis knows it by."""

    source: str
    sha: str


def _read(name: str) -> Script:
    source = (files("flowq.runtime.transport") / "lua" / f"{name}.lua").read_text("utf-8")
    return Script(source, sha1(source.encode()).hexdigest())  # noqa: S324 # what EVALSHA asks for


TAKE, BEAT, GIVE_BACK, RECOVER, BURY = map(_read, ("take", "beat", "give_back", "recover", "bury"))
QUARANTINE, PUT_BACK = map(_read, ("quarantine", "put_back"))

BROKEN = (redis.ConnectionError, redis.TimeoutError, OSError)
"""What a connection raises that is of no use any more."""


class Wire:
    """A connection of a pool that several threads may use, without the 60 µs that a client of kombu's costs each time.

    Everything sent over it may be repeated: a connection that was lost is made anew once, within the call.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._connection: Any = None
        self._lock = threading.Lock()
        self._closed = False

    def call(self, *command: Any) -> Any:
        """Send a command and give its answer; raises redis-py's errors."""
        with self._lock:
            try:
                return self._call(command)
            except redis.ConnectionError:  # the server was restarted, or it closed an idle connection
                return self._call(command)
            finally:
                if self._closed and self._connection is not None:
                    self._connection.disconnect()

    def script(self, script: Script, keys: list[str], *args: Any) -> Any:
        """Run a script."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self.call("EVAL", script.source, len(keys), *keys, *args)

    def open(self) -> None:
        """Stay connected after each call, as from the beginning."""
        self._closed = False

    def close(self) -> None:
        """Hang up. It may still be used (late acknowledgements are), and hangs up after each call then."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.disconnect()

    def forked(self) -> None:
        """Let go, in a child process, of what belongs to its parent."""
        self._lock = threading.Lock()  # a thread of the parent may have held it
        self._connection = None

    def _call(self, command: tuple[Any, ...]) -> Any:
        if self._connection is None:
            self._connection = self._pool.get_connection()
        try:
            self._connection.send_command(*command)
            return self._connection.read_response()
        except redis.exceptions.ReadOnlyError as error:  # a replica now: another connection finds the master
            self._connection.disconnect()
            raise redis.ConnectionError(str(error)) from error
