"""Where large values lie: the contract, and the stores that need no server."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Any, Protocol

from flowq.core.types import StorageType


class Store(Protocol):
    """Holds values by run and digest (or another name in letters and digits). Putting one twice is the same as once."""

    type: StorageType

    def put(self, run_id: str, digest: str, data: bytes) -> None: ...
    def get(self, run_id: str, digest: str) -> bytes | None:
        """Give the value, or None if it is not there."""

    def remove(self, run_id: str, digest: str) -> None:
        """Delete one value of a run, if it is there; with the last one, nothing of the run is left."""

    def delete(self, run_id: str) -> None:
        """Delete all of a run's values."""

    def close(self) -> None: ...


class MemoryStore:
    """This process's memory: for the local engine and for tests."""

    type = StorageType.MEMORY

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, bytes]] = {}

    def put(self, run_id: str, digest: str, data: bytes) -> None:
        self._runs.setdefault(run_id, {})[digest] = data

    def get(self, run_id: str, digest: str) -> bytes | None:
        return self._runs.get(run_id, {}).get(digest)

    def remove(self, run_id: str, digest: str) -> None:
        self._runs.get(run_id, {}).pop(digest, None)

    def delete(self, run_id: str) -> None:
        self._runs.pop(run_id, None)

    def close(self) -> None:
        self._runs.clear()


class DiskStore:
    """Files below a folder, one folder a run. Workers on several machines need a shared file system for it."""

    type = StorageType.DISK

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def put(self, run_id: str, digest: str, data: bytes) -> None:
        folder = self._folder / run_id
        # Written beside and moved into place, so that no reader ever sees half a value.
        with self._file_in(folder) as file:
            file.write(data)
        Path(file.name).replace(folder / digest)

    def get(self, run_id: str, digest: str) -> bytes | None:
        try:
            return (self._folder / run_id / digest).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, run_id: str, digest: str) -> None:
        (self._folder / run_id / digest).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds other values, or is gone
            (self._folder / run_id).rmdir()

    def delete(self, run_id: str) -> None:
        shutil.rmtree(self._folder / run_id, ignore_errors=True)

    def _file_in(self, folder: Path) -> Any:
        while True:
            with contextlib.suppress(FileExistsError):  # it was there a moment ago
                folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # somebody removes its last value just now
                return tempfile.NamedTemporaryFile(dir=folder, delete=False)

    def close(self) -> None:
        pass


class SqliteStore:
    """One SQLite file, shared by the processes of one machine."""

    type = StorageType.SQLITE

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._left: list[sqlite3.Connection] = []
        """Of the process that forked this one: to close them here would disturb it."""
        self._open()
        self._run(
            "CREATE TABLE IF NOT EXISTS results"
            " (run TEXT, digest TEXT, data BLOB, PRIMARY KEY (run, digest)) WITHOUT ROWID"
        )

    def put(self, run_id: str, digest: str, data: bytes) -> None:
        self._run("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", run_id, digest, data)

    def get(self, run_id: str, digest: str) -> bytes | None:
        rows = self._run("SELECT data FROM results WHERE run = ? AND digest = ?", run_id, digest)
        return rows[0][0] if rows else None

    def remove(self, run_id: str, digest: str) -> None:
        self._run("DELETE FROM results WHERE run = ? AND digest = ?", run_id, digest)

    def delete(self, run_id: str) -> None:
        self._run("DELETE FROM results WHERE run = ?", run_id)

    def close(self) -> None:
        self._db.close()

    def _open(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._db = sqlite3.connect(self._file, timeout=30, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")

    def _run(self, statement: str, *values: str | bytes) -> list[tuple[bytes]]:
        if self._pid != os.getpid():  # SQLite forbids to go on with a connection after a fork
            self._left.append(self._db)
            self._open()
        with self._lock:
            return self._db.execute(statement, values).fetchall()
