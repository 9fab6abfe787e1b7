from __future__ import annotations

from collections.abc import Iterator

import pytest

from flowq.standalone import EmbeddedServer
from tests.conformance.transport.post import Post
from tests.property.servers import FINDERS


@pytest.fixture(scope="session", params=FINDERS)
def server(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    """Each kind of server in turn."""
    path = FINDERS[request.param]()
    if path is None:
        pytest.skip(f"no server from {request.param} on this machine")
    with EmbeddedServer(binary=path) as running:
        yield running


@pytest.fixture
def post(server: EmbeddedServer) -> Iterator[Post]:
    """Producers and consumers of both transports on that server."""
    with Post(server) as made:
        yield made
