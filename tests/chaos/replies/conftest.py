from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowq.standalone import EmbeddedServer


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    """A private server without files."""
    with EmbeddedServer(appendonly=False) as started:
        yield started
