"""`flowq worker`, started by hand beside a server of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flowq.standalone import EmbeddedServer

MODULE = """
from flowq import flow, task

@task
def double(x: int) -> int:
    return 2 * x

@flow
def doubled(x: int) -> int:
    return double(x)
"""
SUBMIT = "import doubling; print(doubling.doubled.submit(x=21).result(timeout=60).output)"


@pytest.mark.parametrize(
    "options", [["--concurrency", "1"], ["--pool", "solo", "--queues", "other,flowq"]], ids=" ".join
)
def test_it_finds_its_modules_where_it_is_started(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "doubling.py").write_text(MODULE)
    with EmbeddedServer() as server:
        given = {"FLOWQ_BROKER_URL": server.url, "FLOWQ_STATE_URL": server.redis_url, "FLOWQ_INCLUDE": "doubling"}
        command = [str(Path(sys.executable).with_name("flowq")), "worker", *options]
        with (tmp_path / "log").open("w") as log:
            worker = subprocess.Popen(command, cwd=tmp_path, env=os.environ | given, stdout=log, stderr=log)
        try:
            submit = [sys.executable, "-c", SUBMIT]
            done = subprocess.run(
                submit, cwd=tmp_path, env=os.environ | given, capture_output=True, text=True, timeout=100, check=False
            )
            assert done.stdout == "42\n", done.stderr + (tmp_path / "log").read_text()
        finally:
            worker.terminate()
            assert worker.wait(timeout=20) == 0


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"FLOWQ_INCLUDE": "nowhere", "FLOWQ_BROKER_URL": "redis://127.0.0.1:1/0"}
    command = [str(Path(sys.executable).with_name("flowq")), "worker"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert "FLOWQ_INCLUDE names the module 'nowhere'" in done.stderr
