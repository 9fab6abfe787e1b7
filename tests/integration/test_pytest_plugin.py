"""The pytest plugin as its users have it: a project of their own, and pytest in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = """
from flowq import flow, task

@task
def double(x: int) -> int:
    return 2 * x

@flow
def doubled(x: int) -> int:
    return double(double(x))
"""


class Project:
    """A folder with tests in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.write("pytest.ini", "[pytest]\n")
        self.write("shop_flows.py", FLOWS)

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def run(self, *options: str) -> tuple[str, int]:
        """Give what pytest said, and its exit code."""
        command = [sys.executable, "-m", "pytest", "-p", "no:randomly", "-p", "no:cacheprovider", "-q", "-rA", *options]
        # What the project's tests import lies beside them; flowq comes from where this test has it.
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(Path(path).absolute()) for path in sys.path)}
        run = subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        return run.stdout + run.stderr, run.returncode


@pytest.fixture
def project(tmp_path) -> Project:
    return Project(tmp_path)


QUICK = """
import pytest

@pytest.fixture(scope="session")
def flowq_settings():
    return {"renew_s": 0.2, "lease_s": 1, "sweep_s": 0.2}
"""
"""Each test waits for a sweep of the fleet: by default they are seconds apart."""

LOCAL_AND_DISTRIBUTED = """
import pytest
from flowq import FlowContext
from shop_flows import doubled

before = FlowContext.get_instance()

def test_local(flowq_local):
    assert doubled.context is flowq_local
    assert doubled.run(3).output == 12

def test_distributed(flowq_context):
    assert doubled.context is flowq_context
    result = doubled.submit(3).result(30)
    assert result.output == 12
    assert result.nodes["double"].worker.startswith(("w1@", "w2@"))

@pytest.mark.parametrize("x", range(3))
def test_every_test_finds_a_clean_key_space(flowq_context, x):
    from flowq.testing.keyspace import runs
    assert runs(flowq_context) == []
    assert doubled.submit(x).result(30).output == 4 * x
    assert len(runs(flowq_context)) == 1

def test_outside_of_the_fixtures_the_default_context_is_the_old_one(flowq_fleet):
    assert doubled.context is before
"""

LEAVES_A_RUN_OPEN = """
import time
from flowq import FlowStatus, flow, task

@task
def sleeps(x: int) -> int:
    time.sleep(60)
    return x

@flow
def sleepy(x: int) -> int:
    return sleeps(x)

def test_first(flowq_context):
    sleepy.submit(1)

def test_second(flowq_context):
    assert flowq_context.client.handle  # the fleet is there still
    from flowq.testing.keyspace import runs
    assert runs(flowq_context) == []
"""

LEAVES_A_KEY_WITHOUT_TTL = """
from flowq.testing import keyspace
from shop_flows import doubled

def test_leaks(flowq_context):
    handle = doubled.submit(3)
    handle.result(30)
    client = flowq_context.service("state").client
    client.persist(f"flowq:run:{handle.run_id}:nodes")
    keyspace.SETTLE_S = 0.5
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[str, int]:
    """A project of several files that share a fleet, run once: what pytest said, and its exit code."""
    project = Project(tmp_path_factory.mktemp("whole"))
    project.write("conftest.py", QUICK)
    project.write("test_1_shop.py", LOCAL_AND_DISTRIBUTED)
    project.write("test_2_open.py", LEAVES_A_RUN_OPEN)
    project.write("test_3_leak.py", LEAVES_A_KEY_WITHOUT_TTL)  # the last: what it leaves stays
    return project.run()


def passed(said: str, file: str) -> set[str]:
    """Give the tests of a file that have passed and whose ends have, too."""
    found = {
        outcome: set(re.findall(rf"^{outcome} {file}::(\S+)", said, re.MULTILINE)) for outcome in ("PASSED", "ERROR")
    }
    return found["PASSED"] - found["ERROR"]


def test_local_and_distributed_runs(whole):
    said, _ = whole
    clean = {f"test_every_test_finds_a_clean_key_space[{x}]" for x in range(3)}
    after = "test_outside_of_the_fixtures_the_default_context_is_the_old_one"
    assert passed(said, "test_1_shop.py") == {"test_local", "test_distributed", *clean, after}, said


def test_what_a_test_leaves_open_is_ended(whole):
    said, _ = whole
    assert passed(said, "test_2_open.py") == {"test_first", "test_second"}, said


def test_a_key_without_a_ttl_fails_the_test_that_left_it(whole):
    said, code = whole
    assert code == 1, said
    assert "9 passed, 1 error" in said
    assert "ERROR test_3_leak.py::test_leaks" in said
    assert re.search(r"keys without TTL: \[.*'flowq:run:", said), said


def test_the_workers_know_the_modules_that_the_ini_file_lists(project):
    project.write("pytest.ini", "[pytest]\nflowq_include = shop_flows\nflowq_workers = 1\n")
    project.write(
        "conftest.py",
        """
import pytest

@pytest.fixture(scope="session")
def flowq_settings():
    return {"unknown_s": 0.2, "sweep_s": 0.2}  # nobody will come who knows it
""",
    )
    project.write(
        "test_shop.py",
        """
from flowq import FailureKind, flow, task
from shop_flows import doubled

@task
def unlisted(x: int) -> int:
    return x

@flow
def unknown(x: int) -> int:
    return unlisted(x)

def test_listed(flowq_context):
    assert len(flowq_context.workers.processes) == 1
    assert flowq_context.settings.include == ("shop_flows",)
    assert doubled.submit(1).result(30).output == 4

def test_not_listed(flowq_context):
    result = unknown.submit(1).result(30)
    assert result.nodes["unlisted"].failure.kind is FailureKind.UNKNOWN_PROCESSOR
    assert "FLOWQ_INCLUDE" in result.error
""",
    )
    said, code = project.run()
    assert code == 0, said
    assert "2 passed" in said


def test_every_xdist_worker_has_a_fleet_of_its_own(project):
    project.write("pytest.ini", "[pytest]\nflowq_workers = 1\n")
    project.write("conftest.py", QUICK)
    project.write(
        "test_shop.py",
        """
import os, pytest
from shop_flows import doubled

@pytest.mark.parametrize("x", range(2))
def test_one(flowq_context, x):
    assert doubled.submit(x).result(30).output == 4 * x
    print("server", flowq_context.server.pid, "end")
""",
    )
    said, code = project.run("-n", "2", "--dist", "each")
    assert code == 0, said
    assert "4 passed" in said
    assert len({line for line in said.splitlines() if line.startswith("server")}) == 2


def test_nothing_starts_that_nobody_asks_for(project):
    project.write(
        "test_shop.py",
        """
import sys

def test_plain():
    assert not {"celery", "redis", "flowq.standalone", "flowq.runtime"} & set(sys.modules)
""",
    )
    said, code = project.run()
    assert code == 0, said


def test_the_options_and_fixtures_are_documented(project):
    project.write("test_shop.py", "")
    said, _ = project.run("--fixtures")
    for fixture in ("flowq_local", "flowq_context", "flowq_fleet [session scope]", "flowq_include [session scope]"):
        assert fixture in said
    assert "no docstring available" not in said[said.index("flowq_include") : said.index("flowq_local")]
    said, _ = project.run("--help")
    assert "flowq_include" in said
