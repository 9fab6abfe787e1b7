"""A server's append-only file: read as commands, cut anywhere, and put back before a server's start.

Redis 6.2 keeps one file; Redis 7 and Valkey keep a folder with a manifest, whose last file is the one that grows.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flowq.standalone import EmbeddedServer
from tests.chaos.replies.resp import Frames, end_of, request_of, words_of

_AT_ONCE = 200
"""Entries that are sent before their replies are read: few enough for a socket's buffer."""


class Entry(NamedTuple):
    """What a server takes as one: a command, or all that a transaction or a script has written."""

    ends: int
    """Where it ends in the file."""
    data: bytes
    replies: int
    """What comes back when it is sent to a server."""


class Log:
    """The recorded file of a server. It stays what it was when it was read."""

    def __init__(self, server: EmbeddedServer) -> None:
        self._name = growing_file(server.directory).relative_to(server.directory)
        self.data = (server.directory / self._name).read_bytes()
        self.entries = list(_entries(self.data))

    def before(self, count: int) -> bytes:
        """Give the first so many entries, as they are in the file."""
        return self.data[: self.entries[count - 1].ends] if count else b""

    def pour(self, server: EmbeddedServer, count: int) -> None:
        """Give a living server the first so many entries in the place of all that it has: much quicker than a start."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(server.directory / "redis.sock"))
            _send(connection, request_of([b"FLUSHALL"]), 1)
            if b"FUNCTION" in self.data:
                _send(connection, request_of([b"FUNCTION", b"FLUSH"]), 1)
            for first in range(0, count, _AT_ONCE):
                entries = self.entries[first : min(count, first + _AT_ONCE)]
                _send(connection, b"".join(entry.data for entry in entries), sum(entry.replies for entry in entries))

    def put_back(self, server: EmbeddedServer, length: int) -> None:
        """Have a server come back with so many bytes of the file: a crash, and a disk that has the rest no more."""
        server.kill()
        # In a folder, the manifest that stays there names this file as the one that grows.
        (server.directory / self._name).write_bytes(self.data[:length])
        server.restart()


def _send(connection: socket.socket, data: bytes, replies: int) -> None:
    """Send requests and wait until all are answered."""
    connection.sendall(data)
    frames = Frames()
    while replies > 0:
        found = frames.feed(connection.recv(1 << 16))
        bad = [reply for reply in found if reply[:1] == b"-"]
        assert bad == [], f"the server does not take its own file: {bad[:3]}"
        replies -= len(found)


def growing_file(directory: Path) -> Path:
    """Give the file that the server appends to."""
    single = directory / "appendonly.aof"
    if single.is_file():
        return single
    manifest = next((directory / "appendonlydir").glob("*.manifest"))
    incremental = [line.split() for line in manifest.read_text().splitlines() if line.split()[-1] == "i"]
    return manifest.parent / incremental[-1][1]


def _entries(data: bytes) -> Sequence[Entry]:
    """Cut a file into entries. A transaction that does not end is not there, as a server takes it."""
    found: list[Entry] = []
    at = began = 0
    replies, in_transaction = 0, False
    while (end := end_of(data, at)) >= 0:
        if data[at : at + 1] == b"#":  # when what follows was written
            at = began = end
            continue
        command = words_of(data[at:end])[0].upper()
        in_transaction = command == b"MULTI" or (in_transaction and command != b"EXEC")
        replies += 1
        at = end
        if not in_transaction:
            found.append(Entry(end, data[began:end], replies))
            began, replies = end, 0
    return found
