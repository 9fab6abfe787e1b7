from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowq.standalone import EmbeddedServer
from tests.chaos.aof.recording import Recording, record


@pytest.fixture(scope="session")
def recording() -> Iterator[Recording]:
    """Runs of all kinds, and the file that tells of them."""
    with EmbeddedServer() as server:
        made = record(server)
    yield made
    made.folder.cleanup()


@pytest.fixture(scope="session")
def living() -> Iterator[EmbeddedServer]:
    """A server that takes parts of a file while it lives."""
    with EmbeddedServer(appendonly=False) as server:
        yield server
