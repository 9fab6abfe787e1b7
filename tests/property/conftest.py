from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.property.servers import FINDERS, serve


@pytest.fixture(scope="session")
def client() -> Iterator[Any]:
    """A connection to the server that flowq itself would take."""
    yield from serve()


@pytest.fixture(scope="session", params=FINDERS)
def each_client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection to each kind of server in turn."""
    yield from serve(request.param)
