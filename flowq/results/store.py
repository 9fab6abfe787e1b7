"""Where large values lie: the contract, and the stores that need no server."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import threading
from pathlib import Path
from typing import Protocol

from flowq.core.types import StorageType


class Store(Protocol):
    """Holds values by run and digest. Putting one twice is the same as once."""

    type: StorageType

    def put(self, run_id: str, digest: str, data: bytes) -> None: ...
    def get(self, run_id: str, digest: str) -> bytes | None:
        """Give the value, or None if it is not there."""

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
        folder.mkdir(parents=True, exist_ok=True)
        # Written beside and moved into place, so that no reader ever sees half a value.
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(data)
        Path(file.name).replace(folder / digest)

    def get(self, run_id: str, digest: str) -> bytes | None:
        try:
            return (self._folder / run_id / digest).read_bytes()
        except FileNotFoundError:
            return None

    def delete(self, run_id: str) -> None:
        shutil.rmtree(self._folder / run_id, ignore_errors=True)

    def close(self) -> None:
        pass


class SqliteStore:
    """One SQLite file, shared by the processes of one machine."""

    type = StorageType.SQLITE

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(file, timeout=30, check_same_thread=False, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS results"
            " (run TEXT, digest TEXT, data BLOB, PRIMARY KEY (run, digest)) WITHOUT ROWID"
        )

    def put(self, run_id: str, digest: str, data: bytes) -> None:
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", (run_id, digest, data))

    def get(self, run_id: str, digest: str) -> bytes | None:
        with self._lock:
            row = self._db.execute("SELECT data FROM results WHERE run = ? AND digest = ?", (run_id, digest)).fetchone()
        return None if row is None else row[0]

    def delete(self, run_id: str) -> None:
        with self._lock:
            self._db.execute("DELETE FROM results WHERE run = ?", (run_id,))

    def close(self) -> None:
        self._db.close()
