from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.conformance.scripts.desk import Desk
from tests.property.servers import FINDERS, serve


@pytest.fixture(scope="session", params=FINDERS)
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection to each kind of server in turn."""
    yield from serve(request.param)


@pytest.fixture
def desk(client: Any) -> Iterator[Desk]:
    """The scripts under a prefix of the test's own. One worker with two slots is there."""
    made = Desk(client)
    yield made
    made.clear()
