"""Named points that processes pass, and the order to die at one of them.

A stage (the test) and the processes it watches share a small file, mapped into the memory of each: what a process does
at a point costs a look at eight bytes while nothing is armed. How often a point was passed is counted across processes
by appending to a file: who appends the n-th byte strikes, and nobody else.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import struct
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = "FLOWQ_TEST_POINTS"
"""The environment variable that names the folder with the control file."""

CHILD, TREE, REDIS = "child", "tree", "redis"
"""Who dies: the process itself; its whole process group; the Redis server."""

_SIZE = 4096
_HEAD = struct.Struct("<QI")


class Struck(NamedTuple):
    """What the victim left behind."""

    pid: int
    group: int
    at: float
    """CLOCK_MONOTONIC."""


class Control:
    """The stage's side: arms one point at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._number = 0
        (folder / "control").write_bytes(bytes(_SIZE))
        with (folder / "control").open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), _SIZE)

    def record(self) -> None:
        """Have every point noted that anybody passes."""
        self._say({"record": True})

    def arm(self, point: str, nth: int, victim: str, server: int) -> None:
        """Have the process that passes ``point`` as the n-th one strike; ``server`` is the Redis server's pid."""
        self._say({"point": point, "nth": nth, "victim": victim, "server": server})

    def disarm(self) -> None:
        """Let everybody pass."""
        self._memory[: _HEAD.size] = bytes(_HEAD.size)

    def recorded(self) -> Counter[str]:
        """How often each point was passed since ``record``."""
        file = self.folder / f"passed-{self._number}"
        return Counter(file.read_text().split()) if file.exists() else Counter()

    def struck(self) -> Struck | None:
        """What became of the armed point; None: nobody has come to it so often."""
        file = self.folder / f"struck-{self._number}"
        text = file.read_text() if file.exists() else ""
        return Struck(*json.loads(text)) if text.endswith("]") else None

    def close(self) -> None:
        self._memory.close()

    def _say(self, order: dict[str, Any]) -> None:
        self.disarm()
        self._number += 1
        text = json.dumps(order).encode()
        self._memory[_HEAD.size : _HEAD.size + len(text)] = text
        self._memory[: _HEAD.size] = _HEAD.pack(self._number, len(text))  # last: from now on it counts


class _Orders:
    """A process's side."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._first = os.getpid()
        self.role = ""
        self._seen: tuple[int, dict[str, Any]] = (0, {})
        file = os.open(f"{folder}/control", os.O_RDONLY)
        self._memory = mmap.mmap(file, _SIZE, prot=mmap.PROT_READ)
        os.close(file)

    def passed(self, name: str) -> None:
        head = self._memory[: _HEAD.size]
        number, length = _HEAD.unpack(head)
        if not number:
            return
        if self._seen[0] != number:
            text = self._memory[_HEAD.size : _HEAD.size + length]
            if self._memory[: _HEAD.size] != head:
                return  # another order is being written: it is not in force yet
            self._seen = number, json.loads(text)
        number, order = self._seen
        # This module is loaded in a worker's parent, before it forks its pool.
        point = f"{self.role or ('parent' if os.getpid() == self._first else 'child')}:{name}"
        if "record" in order:
            _append(f"{self._folder}/passed-{number}", f"{point}\n")
        elif order["point"] == point and _append(f"{self._folder}/passed-{number}", ".") == order["nth"]:
            self._strike(number, order["victim"], order["server"])

    def _strike(self, number: int, victim: str, server: int) -> None:
        struck = Struck(os.getpid(), os.getpgrp(), time.monotonic())
        _append(f"{self._folder}/struck-{number}", json.dumps(struck))
        if victim == CHILD:
            os.kill(os.getpid(), signal.SIGKILL)
        elif victim == TREE:
            os.killpg(os.getpgrp(), signal.SIGKILL)
        else:
            with suppress(ProcessLookupError):  # whoever mends has been quicker, and has killed it
                os.kill(server, signal.SIGKILL)
            return
        signal.pause()


def _append(file: str, text: str) -> int:
    """Append, and give the size of the file with that: no two get the same."""
    opened = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(opened, text.encode())
        return os.lseek(opened, 0, os.SEEK_CUR)
    finally:
        os.close(opened)


_ORDERS = _Orders(os.environ[FOLDER]) if os.environ.get(FOLDER) else None


def passes(name: str) -> None:
    """Pass a point: go on, unless this process is the one to strike."""
    if _ORDERS is not None:
        _ORDERS.passed(name)


def play(role: str) -> None:
    """Say what this process is, if it is no worker's."""
    if _ORDERS is not None:
        _ORDERS.role = role
