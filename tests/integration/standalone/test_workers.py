"""Embedded workers: a stand-in that does nothing for the life cycle, and real Celery workers once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowq.standalone import EmbeddedServer, EmbeddedWorkerError, WorkerProcesses, binary

STAND_IN = """
import json, os, pathlib, signal, subprocess, sys
name, board, behaviour = sys.argv[1:]
if behaviour == "dies":
    sys.exit(f"{name} has no broker")
child = subprocess.Popen(["sleep", "60"])  # as Celery's pool has children: in the same process group
if behaviour == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
elif behaviour != "abrupt":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print(name, "is up", flush=True)
about = {"pid": os.getpid(), "child": child.pid, "cwd": os.getcwd(), "setting": os.environ.get("FLOWQ_SETTING")}
if behaviour != "silent":
    draft = pathlib.Path(board, f".{name}")
    draft.write_text(json.dumps(about))
    draft.rename(pathlib.Path(board, name))
while True:
    signal.pause()
"""


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 5.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


def is_gone(pid: int) -> bool:
    """Whether nothing runs under this number; a zombie that its adopter has not reaped yet runs nothing."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    try:
        return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return not Path("/proc").is_dir() or is_gone(pid)


class Board:
    """Where stand-ins say that they are up, and who they are."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir() if not path.name.startswith(".")}

    def about(self, name: str) -> dict[str, Any]:
        return dict(json.loads((self.directory / name).read_text()))

    def workers(self, count: int, behaviour: str = "polite", **options) -> WorkerProcesses:
        argv = [sys.executable, "-c", STAND_IN, "{name}", str(self.directory), behaviour]
        return WorkerProcesses(count, argv, ready=self.names, **options)


@pytest.fixture
def board(tmp_path) -> Board:
    directory = tmp_path / "board"
    directory.mkdir()
    return Board(directory)


def test_start_use_and_stop(board):
    with board.workers(2, env={"FLOWQ_SETTING": "set"}) as workers:
        workers.wait_ready(10)
        first, second = board.about("w1"), board.about("w2")
        directory = workers.directory
        assert [(worker.name, worker.pid, worker.alive) for worker in workers.processes] == [
            ("w1", first["pid"], True),
            ("w2", second["pid"], True),
        ]
        assert first["setting"] == "set"
        assert first["cwd"] != second["cwd"]  # nothing can be passed through local files
        assert list(Path(first["cwd"]).iterdir()) == []
        assert workers.processes[1].log_tail() == "w2 is up"
        assert (directory / "worker-2.log").read_text() == "w2 is up\n"
        assert os.getpgid(first["child"]) == first["pid"]
        seen = workers.processes
    assert [worker.returncode for worker in seen] == [0, 0]  # they were asked, not killed
    assert is_gone(first["pid"])
    assert is_gone(second["pid"])
    wait_until(lambda: is_gone(first["child"]) and is_gone(second["child"]), "what was left of the groups is gone")
    assert not directory.exists()
    assert workers.processes == []
    workers.stop()


def test_argv_may_be_a_function_and_cwd_given(board, tmp_path):
    def argv(i: int) -> list[str]:
        return [sys.executable, "-c", STAND_IN, f"w{i}", str(board.directory), "polite"]

    with WorkerProcesses(1, argv, ready=board.names, cwd=tmp_path) as workers:
        workers.wait_ready(10)
        assert board.about("w1")["cwd"] == str(tmp_path)
    assert tmp_path.is_dir()


def test_kill_and_restart(board):
    with board.workers(2) as workers:
        workers.wait_ready(10)
        first, second = board.about("w1"), board.about("w2")
        workers.kill(1)
        assert is_gone(first["pid"])
        wait_until(lambda: is_gone(first["child"]), "the whole group is gone")
        assert [worker.alive for worker in workers.processes] == [False, True]
        assert workers.processes[0].returncode == 128 + signal.SIGKILL
        workers.kill(1)
        (board.directory / "w1").unlink()
        workers.restart(1)
        workers.wait_ready(10)
        assert board.about("w1")["pid"] not in (first["pid"], second["pid"])
        assert workers.processes[0].log_tail() == "w1 is up\nw1 is up"
        assert workers.processes[1].pid == second["pid"]
        with pytest.raises(EmbeddedWorkerError, match=r"no worker 3 .*\[1, 2\]"):
            workers.kill(3)


def test_the_group_goes_with_its_leader(board):
    with board.workers(1) as workers:
        workers.wait_ready(10)
        about = board.about("w1")
        os.kill(about["pid"], signal.SIGKILL)  # by somebody else, and only the leader
        wait_until(lambda: not workers.processes[0].alive, "the death is noticed")
        wait_until(lambda: is_gone(about["child"]), "the group is gone")


def test_a_worker_without_a_handler_hears_sigterm_too(board):
    with board.workers(1, "abrupt") as workers:
        workers.wait_ready(10)
        worker = workers.processes[0]
    assert worker.returncode == 128 + signal.SIGTERM


@pytest.mark.parametrize("behaviour", ["deaf", "stopped"])
def test_who_does_not_stop_is_killed(board, behaviour, caplog):
    workers = board.workers(1, behaviour)
    workers.start()
    workers.wait_ready(10)
    about, worker = board.about("w1"), workers.processes[0]
    if behaviour == "stopped":
        os.killpg(about["pid"], signal.SIGSTOP)
    workers.stop(grace_s=0.2)
    assert worker.returncode == 128 + signal.SIGKILL
    assert is_gone(about["pid"])
    wait_until(lambda: is_gone(about["child"]), "the group is gone")
    assert "w1 did not stop within 0.2 s" in caplog.text


def test_a_worker_that_dies_is_reported_with_its_log(board):
    with board.workers(2, "dies") as workers, pytest.raises(EmbeddedWorkerError) as caught:
        workers.wait_ready(60)
    message = str(caught.value)
    assert "ended before all workers were ready" in message
    assert "exit status 1" in message
    assert "has no broker" in message


def test_a_worker_that_is_not_ready_in_time_is_reported(board):
    with board.workers(1, "silent") as workers:
        wait_until(lambda: "is up" in workers.processes[0].log_tail(), "it runs")
        with pytest.raises(EmbeddedWorkerError, match=r"(?s)w1: not ready within 0\.1 s.*\(running\).*w1 is up"):
            workers.wait_ready(0.1)


def test_a_command_that_does_not_exist():
    workers = WorkerProcesses(2, ["/no/such/{name}"], ready=set)
    with pytest.raises(EmbeddedWorkerError, match=r"worker w1 could not be started .*/no/such/w1"):
        workers.start()
    for action in (workers.wait_ready, lambda: workers.directory):
        with pytest.raises(EmbeddedWorkerError, match="not started"):
            action()


OWNER = """
import json, signal, sys
from flowq.standalone import EmbeddedServer, WorkerProcesses
binary, board, stand_in, count = sys.argv[1:]
argv = [sys.executable, "-c", stand_in, "{name}", board, "abrupt"]
import pathlib
ready = lambda: {path.name for path in pathlib.Path(board).iterdir()}
with EmbeddedServer(binary=binary) as server, WorkerProcesses(int(count), argv, ready=ready) as workers:
    workers.wait_ready(10)
    print(json.dumps([server.pid, str(server.directory), str(workers.directory)]), flush=True)
    signal.pause()
"""


def test_a_killed_owner_takes_everything_along(board):
    found = binary.find_server_binary()
    if found is None:
        pytest.skip("no Redis-compatible server on this machine")
    command = [sys.executable, "-c", OWNER, found.path, board.directory, STAND_IN, "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server, *directories = json.loads(owner.stdout.readline())
        pids = [server, *(board.about(name)[key] for name in ("w1", "w2") for key in ("pid", "child"))]
        assert not any(is_gone(pid) for pid in pids)
        owner.kill()
        wait_until(lambda: all(is_gone(pid) for pid in pids), "server, workers and their children are gone")
        wait_until(lambda: not any(Path(path).exists() for path in directories), "their directories are gone")


CELERY_APP = """
import os
from celery import Celery
app = Celery(broker=os.environ["EMBEDDED_URL"], backend=os.environ["EMBEDDED_URL"])
app.conf.broker_connection_retry_on_startup = True

@app.task
def who():
    return os.getppid(), os.getpid()
"""


def test_real_celery_workers(tmp_path, monkeypatch):
    found = binary.find_server_binary()
    if found is None:
        pytest.skip("no Redis-compatible server on this machine")
    from celery import Celery

    (tmp_path / "embedded_app.py").write_text(CELERY_APP)
    argv = [sys.executable, "-m", "celery", "-A", "embedded_app", "worker", "-n", "{name}@test", "--concurrency", "1"]
    argv += ["--without-mingle", "--without-gossip", "--without-heartbeat"]
    with EmbeddedServer() as server:
        client = Celery(broker=server.url, backend=server.url)

        def ready() -> set[str]:
            replies = client.control.ping(timeout=0.2)
            return {name.split("@")[0] for reply in replies for name in reply}

        env = {"EMBEDDED_URL": server.url, "PYTHONPATH": str(tmp_path)}
        with WorkerProcesses(1, argv, ready=ready, env=env) as workers:
            workers.wait_ready(20)
            main, child = client.send_task("embedded_app.who").get(timeout=10)
            assert main == workers.processes[0].pid
            workers.kill(1)
            assert is_gone(main)
            wait_until(lambda: is_gone(child), "the pool's child is gone")
            workers.restart(1)
            workers.wait_ready(20)
            main, child = client.send_task("embedded_app.who").get(timeout=10)
            last = workers.processes[0]
            assert main == last.pid
        assert last.returncode == 0  # a warm shutdown, not a kill
        assert is_gone(child)
        client.close()
