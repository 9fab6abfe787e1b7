"""Anything may lie in a queue: no worker ends, and every run goes on beside it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from flowq.runtime.transport import quarantine
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from tests.conformance.engines.flows import maps
from tests.conformance.leftovers import clear_now
from tests.conformance.transport.garbage import garbage
from tests.integration.eager_fleets import client_of, eager, pids

ITEMS = {"prefork": 5_000, "solo": 2_500, "threads": 2_500}
"""By pool: what reads a message is the same in all of them."""
TIMES = 10 if os.environ.get("FLOWQ_THOROUGH") else 1
BATCH = 250
SEED = int(os.environ.get("FLOWQ_SEED") or random.randrange(2**32))


@pytest.fixture(scope="module", params=["prefork", "solo", "threads"])
def workers(request) -> Iterator[EmbeddedContext]:
    with eager(pool=request.param) as started:
        yield started


@pytest.fixture
def items(request) -> int:
    """How much of it there is."""
    return TIMES * ITEMS[request.node.callspec.params["workers"]]


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear_now(workers)


@pytest.mark.timeout(1800)
def test_no_item_ends_a_worker_and_no_run_waits_for_ever(context, items):
    draw = random.Random(SEED)
    client, before = client_of(context), pids(context)
    handles = []
    for start in range(0, items, BATCH):
        client.lpush("flowq", *(garbage(draw.choice, "flowq", start + i) for i in range(BATCH)))
        handles.append(maps.chained.submit(4, context=context))
    assert [handle.result(600).output for handle in handles] == [6 + 4 * 12] * len(handles)
    wait_until(lambda: client.llen("flowq") == 0, 600, lambda: client.llen("flowq"))
    assert pids(context) == before, SEED
    assert maps.chained.submit(4, context=context).result(60).output == 6 + 4 * 12
    kept = quarantine.read(client, "flowq:quarantine")
    assert len(kept) == 1000
    assert 0 < client.ttl("flowq:quarantine") <= 7 * 24 * 3600
    assert all(entry.reason and len(entry.raw) <= 64 * 1024 for entry in kept)
