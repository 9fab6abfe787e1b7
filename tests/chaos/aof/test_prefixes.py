"""A server comes back with a part of its append-only file: all that it holds ends as it must.

FLOWQ_THOROUGH=1 cuts at every command; ``python -m tests.chaos.aof --help`` does so with several recordings.
"""

from __future__ import annotations

import random

import pytest

from flowq.standalone import EmbeddedServer
from tests.chaos.aof.prefixes import Survivor
from tests.chaos.aof.recording import record
from tests.chaos.replies.pair import dump
from tests.property.choices import THOROUGH, TIMEOUT_S
from tests.property.servers import FINDERS

CUTS = 10_000 if THOROUGH else 24
"""At commands, spread over the file; at most at each."""

BYTES = 200 if THOROUGH else 4
"""Cuts within commands, each with a real start of a server."""

UNIQUE_FENCE = "math.max(run.fence + 1, clock[1] * 1000000 + clock[2] - run.submitted * 1000)"


@pytest.mark.timeout(TIMEOUT_S)
def test_every_prefix_ends_as_it_must(recording, living):
    count = len(recording.log.entries)
    seen = set()
    with Survivor(living.redis_url, recording) as survivor:
        for position in range(0, count + 1, max(1, count // CUTS)):
            recording.log.pour(living, position)
            survivor.show_clock()
            try:
                seen.add(survivor.finish())
            except BaseException as error:
                error.add_note(f"cut after {position} of {count} entries")
                raise
    assert 0 in seen, "before the first run"
    assert len(recording.runs) in seen, "after the last one"


@pytest.mark.timeout(TIMEOUT_S)
@pytest.mark.parametrize("kind", FINDERS)
def test_a_server_that_starts_with_a_torn_file_goes_on(kind):
    path = FINDERS[kind]()
    if path is None:
        pytest.skip(f"no server from {kind} on this machine")
    choose = random.Random(5)
    with EmbeddedServer(binary=path) as server:
        recorded = record(server)
        with Survivor(server.redis_url, recorded) as survivor, recorded.folder:
            for _ in range(BYTES):
                length = choose.randrange(len(recorded.log.data))
                recorded.log.put_back(server, length)
                survivor.show_clock()
                try:
                    survivor.finish()
                except BaseException as error:
                    error.add_note(f"cut after {length} bytes")
                    raise


def test_what_is_poured_into_a_server_is_what_it_would_load(recording, living):
    """The quick way and the real one give the same data."""
    entries = len(recording.log.entries) * 2 // 3
    end = recording.log.entries[entries - 1].ends
    recording.log.pour(living, entries)
    with EmbeddedServer() as server:
        recording.log.put_back(server, end + 9)  # in the middle of the next one
        with Survivor(server.redis_url, recording) as real, Survivor(living.redis_url, recording) as quick:
            loaded = dump(real.client, "aof")
            assert loaded == dump(quick.client, "aof")
            assert len(loaded) > 20


@pytest.fixture(scope="module")
def with_counted_fences():
    """Fences as a counter gives them: planted."""
    planted = {"lib": [(UNIQUE_FENCE, "run.fence + 1")]}
    with EmbeddedServer() as server:
        made = record(server, planted)
    yield made, planted
    made.folder.cleanup()


def test_a_fence_that_is_given_out_twice_is_found(with_counted_fences, living):
    """A zombie with a claim from the part that is gone would be taken for the one who has the node now."""
    made, planted = with_counted_fences
    count = len(made.log.entries)

    def cut_everywhere() -> None:
        for position in range(0, count, max(1, count // 80)):  # the first claims come early, most waits late
            made.log.pour(living, position)
            survivor.show_clock()
            survivor.finish()

    with Survivor(living.redis_url, made, planted) as survivor, pytest.raises(AssertionError, match="never gave"):
        cut_everywhere()
