"""`flowq deadletter`, on a run whose node kills every process that runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flowq.standalone import EmbeddedContext, embedded

MODULE = """
import os, signal
from pathlib import Path
from flowq import flow, task

@task(max_crashes=2)
def poison(here: str) -> str:
    if not Path(here, "antidote").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "mended"

@task
def after(value: str) -> str:
    return value + ", and more"

@flow
def poisoned(here: str) -> str:
    return after(poison(here))
"""


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "poisoned_flow.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    with embedded(1, ["poisoned_flow"]) as started:
        yield started


def test_a_dead_letter_is_listed_and_run_again(fleet: EmbeddedContext, terminal, tmp_path: Path) -> None:
    import poisoned_flow  # type: ignore[import-not-found]

    given = {"FLOWQ_BROKER_URL": fleet.server.url, "FLOWQ_STATE_URL": fleet.server.redis_url}
    assert "There are no dead letters." in terminal.run("deadletter", "list", **given).stdout
    handle = poisoned_flow.poisoned.submit(str(tmp_path), context=fleet)
    assert handle.result(30).nodes["poison"].failure.kind == "lost"

    listed = terminal.run("deadletter", "list", COLUMNS="200", **given)
    assert f"{handle.run_id}:poison" in listed.stdout
    assert "2 attempts died with their worker" in listed.stdout
    (letter,) = json.loads(terminal.run("deadletter", "list", "--json", **given).stdout)
    assert (letter["id"], letter["flow"], letter["failure"]["kind"]) == (f"{handle.run_id}:poison", "poisoned", "lost")

    (tmp_path / "antidote").touch()
    again = terminal.run("deadletter", "retry", letter["id"], **given)
    assert (again.code, again.stdout) == (0, f"{letter['id']} runs again.\n"), again.stderr
    assert handle.result(30).output == "mended, and more"
    assert "There are no dead letters." in terminal.run("deadletter", "list", **given).stdout


def test_one_is_dropped(fleet: EmbeddedContext, terminal, tmp_path: Path) -> None:
    import poisoned_flow

    given = {"FLOWQ_BROKER_URL": fleet.server.url, "FLOWQ_STATE_URL": fleet.server.redis_url}
    handle = poisoned_flow.poisoned.submit(str(tmp_path), context=fleet)
    handle.result(30)
    nobody = terminal.run("deadletter", "drop", f"{handle.run_id}:nobody", **given)
    assert nobody.code == 2
    assert "there is no dead letter" in nobody.stderr
    assert terminal.run("deadletter", "drop", **given).code == 2
    assert terminal.run("deadletter", "drop", "--all", **given).stdout == "1 dropped.\n"
    assert "There are no dead letters." in terminal.run("deadletter", "list", **given).stdout
    assert handle.status() == "failed"
