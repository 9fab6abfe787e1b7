"""Stock Flower beside the workers shows a run's nodes as tasks, with their names, states and family."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowStatus
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.conformance.engines.flows import digests, retries

SHAPE = {f"n{i}": sorted({f"n{i // 2}", f"n{i // 3}"}) if i else [] for i in range(199)}
"""With the parent that gathers, 200 nodes."""


class Flower:
    """A Flower process on a port of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process, self._url, self._log = process, f"http://127.0.0.1:{port}", log

    def get(self, path: str) -> Any:
        """Give what it answers, or None while it does not."""
        assert self._process.poll() is None, self._log.read_text()
        try:
            with urllib.request.urlopen(self._url + path, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def tasks(self, **query: Any) -> dict[str, dict[str, Any]]:
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return self.get(f"/api/tasks?limit=10000&{text}") or {}


@pytest.fixture(scope="module")
def workers():
    with fleet(2, [digests, retries], events=True) as started:
        yield started


@pytest.fixture(scope="module")
def flower(workers, tmp_path_factory) -> Iterator[Flower]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("flower") / "log"
    argv = [sys.executable, "-m", "celery", f"--broker={workers.server.url}", "flower"]
    argv += ["--address=127.0.0.1", f"--port={port}"]
    env = {**os.environ, "FLOWER_UNAUTHENTICATED_API": "true"}
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT, env=env, cwd=log.parent)
    try:
        made = Flower(process, port, log)

        def listens() -> bool:
            seen = made.get("/workers?json=1") or {"data": []}
            return sum(bool(worker["status"]) for worker in seen["data"]) == 2

        wait_until(listens, 30, lambda: log.read_text())
        yield made
    finally:
        process.terminate()
        process.wait(10)


def test_a_run_of_200_nodes_is_200_tasks(workers, flower, tmp_path):
    handle = digests.as_class_form(SHAPE).submit({"log": str(tmp_path / "log")}, context=workers)
    result = handle.result(30)
    assert result.status is FlowStatus.COMPLETED

    def tasks() -> dict[str, dict[str, Any]]:
        found = flower.tasks()
        return {uuid: task for uuid, task in found.items() if uuid.startswith(handle.run_id)}

    wait_until(lambda: sum(task["state"] == "SUCCESS" for task in tasks().values()) == 200, 20, lambda: len(tasks()))
    found = tasks()
    assert {task["name"] for task in found.values()} == {*SHAPE, "end"}
    assert {task["state"] for task in found.values()} == {"SUCCESS"}
    assert {task["root_id"] for task in found.values()} == {handle.run_id}
    assert {task["worker"].partition("@")[0] for task in found.values()} == {"w1", "w2"}
    names = {uuid: task["name"] for uuid, task in found.items()}
    for task in found.values():
        upstreams = SHAPE.get(task["name"], list(SHAPE))
        assert (names[task["parent_id"]] in upstreams) if upstreams else task["parent_id"] is None
        assert task["started"] is not None
        assert task["runtime"] is not None
    assert "flowq.drain" not in {task["name"] for task in flower.tasks().values()}


def test_retries_and_failures_are_shown(workers, flower, tmp_path):
    handle = retries.flaky.submit(9, str(tmp_path / "log"), context=workers)
    assert handle.result(30).status is FlowStatus.FAILED
    uuid = f"{handle.run_id}.0"
    wait_until(lambda: flower.tasks().get(uuid, {}).get("state") == "FAILURE", 20, lambda: flower.tasks().get(uuid))
    task = flower.tasks()[uuid]
    assert task["name"] == "succeeds_in"
    assert "Flaky: attempt 4" in task["exception"]
    assert task["retries"] == 3
