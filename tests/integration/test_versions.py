"""Workers of two versions beside each other: a run keeps to the version that it was submitted with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from flowq import FailureKind, FlowStatus
from flowq.standalone import EmbeddedContext, EmbeddedServer
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.integration import versioned_flows as flows

QUICK = {"sweep_s": 0.2, "unknown_s": 6.0}
"""A node is there for whoever comes first every half second: in twelve times it is not always the wrong one."""


@pytest.fixture(scope="module")
def both() -> Iterator[dict[str, EmbeddedContext]]:
    """Two workers on one server; gives their contexts by version."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as environment:
        server = stack.enter_context(EmbeddedServer())
        found: dict[str, EmbeddedContext] = {}
        for version in ("1", "2"):
            environment.setenv("SHOP_VERSION", version)
            started = fleet(1, [flows], server=server, settings=QUICK)
            found[version] = stack.enter_context(started)
        yield found
        for context in found.values():
            context.workers.stop(grace_s=0)  # nothing runs any more


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_run_goes_to_workers_of_its_version(both, dispatch):
    runs = [flows.ship.submit(number, context=both["2"], dispatch=dispatch) for number in range(8)]
    outputs = {run.result(60).output.split(" ")[0] for run in runs}
    assert outputs == {"1"}, "this process has version 1"


@pytest.mark.parametrize("version", ["1", "2"])
def test_a_class_says_it_by_an_attribute(both, monkeypatch, version):
    monkeypatch.setattr(flows.Charge, "processor_version", version)
    runs = [flows.charge().submit({}, context=both["1"]) for _ in range(4)]
    assert {run.result(60).output.split(" ")[0] for run in runs} == {version}


def test_a_version_that_nobody_has_waits_for_a_worker_and_fails_then(both, monkeypatch):
    monkeypatch.setattr(flows.Charge, "processor_version", "3")
    handle = flows.charge().submit({}, context=both["1"])
    logs = [context.workers.directory / "worker-1.log" for context in both.values()]
    said = "and the run was submitted with version '3'"
    wait_until(lambda: any(said in log.read_text() for log in logs), 20)
    assert handle.status() is FlowStatus.RUNNING, "there may be one that has it"
    result = handle.result(30)
    assert result.status is FlowStatus.FAILED
    failure = result.nodes["charge"].failure
    assert failure is not None
    assert failure.kind is FailureKind.UNKNOWN_PROCESSOR
    assert "Charge@" in failure.message
    assert [letter.node for letter in both["1"].client.dead_letters()] == ["charge"]


@pytest.mark.parametrize("version", ["", "two words", "x" * 65, 2])
def test_a_version_is_a_short_text(version):
    from flowq import DefinitionError, task

    with pytest.raises(DefinitionError, match="version"):

        @task(version=version)
        def anything() -> int:
            return 1
