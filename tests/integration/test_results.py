"""Large values in a folder or a file that all workers of a machine share, instead of in Redis."""

from __future__ import annotations

import secrets
import sqlite3
from pathlib import Path

import pytest

from flowq import Client, FailureKind, FlowContext, FlowStatus
from flowq.testing.fleet import fleet
from tests.conformance.engines.flows import values


def client_of(context: FlowContext) -> Client:
    client = context.client
    assert isinstance(client, Client)
    return client


def stored(url: str, run: str) -> int:
    """Count the values of a run, without asking flowq."""
    path = Path(url.partition("://")[2])
    if url.startswith("file"):
        return len(list((path / run).iterdir())) if (path / run).exists() else 0
    with sqlite3.connect(path) as db:
        (count,) = db.execute("SELECT count(*) FROM results WHERE run = ?", (run,)).fetchone()
    db.close()
    return int(count)


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_values_lie_where_the_settings_say(tmp_path, kind):
    url = f"{kind}://{tmp_path}/values"
    with fleet(2, [values], settings={"results_url": url, "inline_bytes": 2048}) as started:
        handle = values.of_large_values.submit(20_000, context=started)
        result = handle.result(30)
        assert (result.status, result.output) == (FlowStatus.COMPLETED, sum(values.large(20_000)) % 2**31)
        assert stored(url, handle.run_id) == 1  # two equal values, kept once
        client, keys = started.service("state").client, started.service("state").keys
        assert not client.exists(keys.results(handle.run_id))
        client_of(started).forget(handle.run_id)
        assert stored(url, handle.run_id) == 0


def test_a_value_that_is_gone_fails_the_node_that_needs_it(tmp_path):
    url = f"file://{tmp_path}/values"
    with fleet(1, [values], settings={"results_url": url, "inline_bytes": 2048}) as started:
        started.workers.kill(1)
        handle = values.of_large_input.submit(secrets.token_hex(25_000), context=started)
        for path in (tmp_path / "values" / handle.run_id).iterdir():
            path.unlink()
        started.workers.restart(1)
        result = handle.result(30)
        assert result.status is FlowStatus.FAILED
        failure = result.nodes["echo"].failure
        assert failure is not None
        assert failure.kind is FailureKind.ERROR
        assert failure.type == "flowq.core.errors.CorruptValueError"
        assert "is not in the results store" in failure.message
