"""Nothing passes from worker to worker but through Redis: each has its own directories, and leaves none of its data."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from flowq import FlowStatus, flow, task
from flowq.testing.fleet import fleet
from tests.conformance.engines.flows.values import large


@task
def made(number: int) -> list[int]:
    """Give a large value that compresses badly: it goes by reference."""
    return large.function(3000 + number)


@task
def seen(values: list[int]) -> dict[str, str]:
    """Say what arrived, and where this ran."""
    digest = hashlib.sha256(repr(values).encode()).hexdigest()
    return {"digest": digest, "cwd": str(Path.cwd()), "tmp": tempfile.gettempdir(), "pid": str(os.getpid())}


@task
def both(left: dict[str, str], right: dict[str, str]) -> list[dict[str, str]]:
    return [left, right]


@flow
def crossing() -> list[list[dict[str, str]]]:
    return [both(seen(made(i)), seen(made(i))) for i in range(12)]


def test_workers_with_directories_of_their_own():
    with fleet(2, [__name__]) as started:
        result = crossing.submit(context=started).result(60)
        assert result.status is FlowStatus.COMPLETED
        found = [place for pair in result.output for place in pair]
        values = [hashlib.sha256(repr(large.function(3000 + i)).encode()).hexdigest() for i in range(12)]
        assert [place["digest"] for place in found] == [value for value in values for _ in range(2)]
        for kind in ("cwd", "tmp"):  # both workers took part, and share neither
            places = {place[kind]: place["pid"] for place in found}
            assert len(places) == len(set(places.values())) == 2
            files = [path for place in places for path in Path(place).rglob("*") if path.is_file()]
            assert files == []
