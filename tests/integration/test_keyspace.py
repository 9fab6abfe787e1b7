"""What a run leaves in Redis: nothing without a TTL once it has ended, and nothing at all after its retention."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowStatus, RunNotFound
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from flowq.testing.keyspace import open_keys, runs
from tests.conformance.engines.conftest import submit
from tests.conformance.engines.effects import effects
from tests.conformance.engines.flows import cancelling, dependencies, digests, maps, retries, values
from tests.conformance.engines.shapes import montage

MODULES = [cancelling, dependencies, digests, maps, retries, values]


def started(**settings):
    return fleet(2, MODULES, settings={"lease_s": 1.5, "renew_s": 0.3, "sweep_s": 0.3, **settings})


def keys_of(context, run: str) -> set[str]:
    client = context.service("state").client
    return {key.decode() for key in client.scan_iter(match=f"*{run}*", count=1000)}


ENDINGS: dict[str, tuple[Any, dict[str, Any], FlowStatus]] = {
    "completed": (digests.as_class_form(montage()), {"log": "…"}, FlowStatus.COMPLETED),
    "failed": (dependencies.required_by_word, {"value": 1}, FlowStatus.FAILED),
    "skipped": (dependencies.only_skipped, {"value": 1}, FlowStatus.COMPLETED),
    "a map": (maps.chained, {"count": 30}, FlowStatus.COMPLETED),
    "an empty map": (maps.run_time_list, {"count": 0}, FlowStatus.COMPLETED),
    "a failed map": (maps.with_required_total, {"count": 5, "bad": [1], "skip": []}, FlowStatus.FAILED),
    "large values": (values.of_large_values, {"size": 20_000}, FlowStatus.COMPLETED),
    "a large input": (values.of_large_input, {"text": "a" * 50_000}, FlowStatus.COMPLETED),
    "retries": (retries.flaky, {"attempts": 9, "log": "…"}, FlowStatus.FAILED),
    "a crash": (retries.crashing, {"attempt": 99, "log": "…"}, FlowStatus.FAILED),
}


@pytest.fixture(scope="module")
def workers():
    with started(retention_s=3600) as context:
        yield context


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_key_of_an_ended_run_has_its_retention_as_ttl(workers, tmp_path, ending):
    flow, given, status = ENDINGS[ending]
    if "log" in given:
        given = {**given, "log": str(tmp_path / "effects")}
    handle = submit(flow, given, workers)
    assert handle.result(30).status is status
    found = keys_of(workers, handle.run_id)
    assert {f"flowq:run:{handle.run_id}", f"flowq:run:{handle.run_id}:nodes"} <= found
    client = workers.service("state").client
    ttls = {key: client.ttl(key) for key in found}
    assert all(3000 < ttl <= 3600 for ttl in ttls.values()), ttls
    wait_until(lambda: not open_keys(workers), 10, lambda: open_keys(workers))
    workers.client.forget(handle.run_id)
    assert keys_of(workers, handle.run_id) == set()


def test_a_cancelled_run(workers, tmp_path):
    log = str(tmp_path / "effects")
    handle = cancelling.many_slow_items.submit(100, log, context=workers)
    wait_until(lambda: len(effects(log)) > 3, 20)
    assert open_keys(workers)  # the checker sees what is open
    handle.cancel()
    wait_until(lambda: not open_keys(workers), 10, lambda: open_keys(workers))
    client = workers.service("state").client
    assert all(client.ttl(key) > 0 for key in keys_of(workers, handle.run_id))


def test_nothing_is_left_after_the_retention(tmp_path):
    with started(retention_s=1) as context:
        client = context.service("state").client
        before = set(client.scan_iter())
        handles = [
            maps.chained.submit(10, context=context),
            values.of_large_values.submit(20_000, context=context),
            dependencies.required_by_word.submit(1, context=context),
        ]
        assert [handle.result(30).status.is_final for handle in handles] == [True] * 3
        wait_until(lambda: not runs(context), 10, lambda: runs(context))
        with pytest.raises(RunNotFound, match="its retention has passed"):
            handles[0].result(1)
        ours = (b"flowq:drain:", b"flowq:queue", b"flowq:said:")  # of whoever is at work, or was a minute ago
        left = {key for key in set(client.scan_iter()) - before if not key.startswith(ours)}
        wait_until(lambda: not left & set(client.scan_iter()) - {b"flowq:sweep"}, 10, lambda: left)
