"""Every store that values can lie in, opened by its address as a user would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flowq.results import Store, open_store
from flowq.standalone import EmbeddedServer

KINDS = ["memory", "disk", "sqlite", "redis"]


@pytest.fixture(scope="session")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(appendonly=False) as running:
        yield running


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def url(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    if kind == "redis":
        running: EmbeddedServer = request.getfixturevalue("server")
        return running.redis_url
    return {"memory": "memory://", "disk": f"file://{tmp_path}/values", "sqlite": f"sqlite://{tmp_path}/in/values.db"}[
        kind
    ]


@pytest.fixture
def open_again(url: str) -> Iterator[Callable[[], Store]]:
    """Open the store of this test, as another process would."""
    opened: list[Store] = []

    def open_it() -> Store:
        opened.append(open_store(url, "test"))
        return opened[-1]

    yield open_it
    for store in opened:
        for run in ("run1", "run2"):
            store.delete(run)
        store.close()


@pytest.fixture
def store(open_again: Callable[[], Store]) -> Store:
    return open_again()
