"""pytest fixtures for flows. Installed with flowq; a test asks for what it needs by name.

=================  ==========================================================================================
fixture            gives
=================  ==========================================================================================
``flowq_local``    a context of the test's own: ``flow.run(...)`` and ``await flow.execute(...)``, no server
``flowq_context``  a context whose ``flow.submit(...)`` reaches real workers; what the test submits is cleared
``flowq_fleet``    the private server and the workers behind it, started once per session (and xdist worker)
=================  ==========================================================================================

Workers know the modules that the ini option ``flowq_include`` lists, or else those of all processors that the test
modules have defined or imported. Override the session fixtures ``flowq_include`` and ``flowq_settings`` in the topmost
``conftest.py`` to say it in code.

Nothing is imported and nothing is started before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from flowq.core.context import FlowContext
    from flowq.standalone import EmbeddedContext


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini options."""
    parser.addini("flowq_include", "modules whose processors the workers of flowq_fleet know", type="args", default=[])
    parser.addini("flowq_workers", "how many worker processes flowq_fleet starts", default="2")


@pytest.fixture(scope="session")
def flowq_include(pytestconfig: pytest.Config) -> Any:
    """Give the modules (or their names) that the workers include; None: those of all processors known by then."""
    return pytestconfig.getini("flowq_include") or None


@pytest.fixture(scope="session")
def flowq_settings() -> dict[str, Any]:
    """Give further fields of ``flowq.Settings`` for the fleet, such as ``{"lease_s": 1}``."""
    return {}


@pytest.fixture(scope="session")
def flowq_fleet(
    pytestconfig: pytest.Config, flowq_include: Any, flowq_settings: dict[str, Any]
) -> Iterator[EmbeddedContext]:
    """Start a private Redis server and Celery worker processes; they end with the session.

    Tests that kill workers or the server start their own with ``flowq.embedded``.
    """
    from flowq.testing.fleet import fleet

    workers = int(pytestconfig.getini("flowq_workers"))
    with fleet(workers, flowq_include, settings=flowq_settings) as started:
        yield started


@pytest.fixture
def flowq_context(flowq_fleet: EmbeddedContext) -> Iterator[EmbeddedContext]:
    """Make the fleet's context the default one for a test, and clear what the test has submitted.

    Runs that are still open are cancelled. The test fails if any key is left without a TTL after that.
    """
    from flowq.testing.fleet import use
    from flowq.testing.keyspace import clear

    with use(flowq_fleet):
        yield flowq_fleet
    clear(flowq_fleet)


@pytest.fixture
def flowq_local() -> Iterator[FlowContext]:
    """Make a fresh context the default one for a test; its threads and processes end with the test."""
    from flowq.core.context import FlowContext
    from flowq.testing.fleet import use

    context = FlowContext()
    with use(context):
        yield context
    context.close()
