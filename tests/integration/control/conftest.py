"""Two workers for flows that wait until a test says otherwise, and the files by which it says so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet, use
from tests.conformance.engines.flows import cancelling
from tests.conformance.leftovers import clear_now
from tests.integration import gated_flows
from tests.integration.gated_flows import SHORT


@pytest.fixture(scope="module")
def workers() -> Iterator[EmbeddedContext]:
    with fleet(2, [cancelling, gated_flows], settings=SHORT) as started:
        yield started


@pytest.fixture
def context(workers: EmbeddedContext) -> Iterator[EmbeddedContext]:
    with use(workers):
        yield workers
    clear_now(workers)


@pytest.fixture
def log(tmp_path: Path) -> str:
    return str(tmp_path / "effects")


@pytest.fixture
def go(tmp_path: Path) -> Path:
    return tmp_path / "go"
