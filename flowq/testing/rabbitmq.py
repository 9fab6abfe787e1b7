"""A private RabbitMQ server for tests, for as long as its owner lives."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from flowq.core.errors import FlowqError
from flowq.standalone.process import GuardedProcess

_REMEDY = "install the package rabbitmq-server of your system, or put RabbitMQ's own sbin directory on PATH"
_HOST = "127.0.0.1"
_PORTS = range(20_000, 32_000)
"""Below those that systems give to whoever connects to somewhere: a client that tries again and again while the server
is away could be given the server's own number, and would then be connected to itself."""
_PORT_TRIES = 100
_POLL_S = 0.02  # between two attempts to connect; a server is up in about 2 s
_ANSWER_S = 1.0  # a server that accepts a connection answers in a few milliseconds
_STORY_LINES = 60  # what is wrong comes first in what RabbitMQ says, before all that Erlang has to add
_HELLO = b"AMQP\x00\x00\x09\x01"  # the protocol header of AMQP 0-9-1
_METHOD_FRAME = b"\x01"  # what an AMQP 0-9-1 server answers begins so; any other answer begins with an A

_CONFIG = """\
listeners.tcp.1 = {host}:{port}
log.file = false
log.console = true
"""


class RabbitServerError(FlowqError):
    """The private RabbitMQ server could not be found or started, or is not running; the message says what to do."""


class RabbitServer:
    """A RabbitMQ server of one's own, on ports of 127.0.0.1 only. A context manager.

    It has no plugins, needs no configuration and no ``epmd``, never meets another RabbitMQ of this machine and leaves
    nothing behind: its data lie in a private temporary directory that goes when it stops. It also ends when this
    process does, however that ends.

    Args:
        binary: the ``rabbitmq-server`` to run; without it, the one of the system's package, else the one on PATH.
        ready_timeout_s: how many seconds it may take until it answers.

    Raises:
        RabbitServerError: from ``start()`` and ``restart()``, with the server's last output.
    """

    def __init__(self, *, binary: str | Path | None = None, ready_timeout_s: float = 60.0) -> None:
        self._chosen = None if binary is None else Path(binary).absolute()
        self._ready_timeout_s = ready_timeout_s
        self._directory: Path | None = None
        self._process: GuardedProcess | None = None
        self._port = self._distribution_port = 0

    @property
    def url(self) -> str:
        """The broker's URL for Celery and kombu; a restart does not change it."""
        _ = self.directory
        return f"amqp://guest:guest@{_HOST}:{self._port}//"

    @property
    def pid(self) -> int:
        """The server's process id; that of the last one after ``kill()``."""
        if self._process is None:
            raise _not_running()
        return self._process.pid

    @property
    def directory(self) -> Path:
        """The private directory: configuration, data and ``server.log``."""
        if self._directory is None:
            raise _not_running()
        return self._directory

    def start(self) -> None:
        """Start the server and wait until it speaks AMQP; no effect if it is running."""
        if self._directory is not None:
            return
        self._directory = Path(tempfile.mkdtemp(prefix="flowq-rabbitmq-"))
        try:
            self._port, self._distribution_port = _free_ports(2)
            self._launch()
        except BaseException:  # also Ctrl-C: __exit__ is not called for what __enter__ began
            self.stop()
            raise

    def stop(self) -> None:
        """End the server (SIGKILL: nobody wants its data any more) and remove its data; no effect if it is stopped."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def kill(self) -> None:
        """Crash the server: SIGKILL, keeping its directory for ``restart()``."""
        if self._process is None:
            raise _not_running()
        self._process.kill()

    def restart(self) -> None:
        """Start the server again with the same ports and data, after a ``kill()`` if it still runs."""
        self.kill()
        self._launch()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _launch(self) -> None:
        binary = self._chosen or find_rabbitmq_server()
        if binary is None:
            raise RabbitServerError(f"no RabbitMQ server on this machine: {_REMEDY}")
        try:
            self._process = GuardedProcess(
                "the private RabbitMQ server",
                [str(binary)],
                env=self._environment(),
                cwd=self.directory,
                log_path=self.directory / "server.log",
                remove=self.directory,
            )
        except OSError as error:
            raise _failed(binary, f"could not be executed ({error})") from error
        self._await_ready(binary, self._process)

    def _environment(self) -> dict[str, str]:
        """Give this process's environment, with all that RabbitMQ and Erlang go by in it said anew."""
        directory = self.directory
        (directory / "rabbitmq.conf").write_text(_CONFIG.format(host=_HOST, port=self._port))
        (directory / "enabled_plugins").write_text("[].\n")
        # A name that it has from the beginning, not one that RabbitMQ gives it: it would look the name up at an epmd
        # first. The port of the distribution is said instead of registered, so nobody needs an epmd later either.
        name = f"flowq-{self._port}@localhost"
        erlang = (
            f"-sname {name} -start_epmd false -erl_epmd_port {self._distribution_port}"
            f" -kernel inet_dist_use_interface {{{_HOST.replace('.', ',')}}}"
        )
        own = {
            "HOME": str(directory),  # for the cookie of the distribution
            "RUNNING_UNDER_SYSTEMD": "true",  # makes the script become the server, instead of being its parent
            "RABBITMQ_CONF_ENV_FILE": str(directory / "none"),
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ADVANCED_CONFIG_FILE": str(directory / "none"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOG_BASE": str(directory / "log"),
            "RABBITMQ_GENERATED_CONFIG_DIR": str(directory / "generated"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_NODENAME": name,
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": erlang,
            "ERL_CRASH_DUMP_SECONDS": "0",
        }
        foreign = ("RABBITMQ_", "ERL_", "NOTIFY_SOCKET")
        return {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | own

    def _await_ready(self, binary: Path, process: GuardedProcess) -> None:
        """Wait until the server has begun an AMQP connection; it opens its port last, when all else is up."""
        deadline = time.monotonic() + self._ready_timeout_s
        while True:
            if not process.alive:
                what = f"ended with status {process.returncode} before it answered"
                raise _failed(binary, what, process.log_tail(_STORY_LINES))
            try:
                with socket.create_connection((_HOST, self._port), timeout=_ANSWER_S) as connection:
                    connection.sendall(_HELLO)
                    if connection.recv(1) == _METHOD_FRAME:
                        return
                    what = "did not speak AMQP"
            except OSError as error:
                what = str(error)
            if time.monotonic() > deadline:
                what = f"did not answer within {self._ready_timeout_s:g} s ({what})"
                raise _failed(binary, what, process.log_tail(_STORY_LINES))
            process.wait(_POLL_S)  # a pause that the end of the server cuts short


def find_rabbitmq_server() -> Path | None:
    """Return the ``rabbitmq-server`` of the system's package, else the one on PATH; None if there is none.

    The one that such a package puts on PATH is a wrapper that runs the server as the user ``rabbitmq`` only.
    """
    packaged = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin/rabbitmq-server"))
    if packaged:
        return packaged[-1]
    found = shutil.which("rabbitmq-server")
    return Path(found) if found else None


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    with ExitStack() as probes:
        for _ in range(_PORT_TRIES):
            # Not from the module random: tests seed it, and parallel ones with the same seed would meet here.
            port = secrets.choice(_PORTS)
            probe = probes.enter_context(socket.socket())
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise RabbitServerError(f"no free ports from {_PORTS.start} to {_PORTS.stop} on {_HOST}: end what takes them")


def _not_running() -> RabbitServerError:
    return RabbitServerError("the RabbitMQ server is not running: use it in a with block, or call start() first")


def _failed(binary: Path, what: str, output: str = "") -> RabbitServerError:
    message = f"the RabbitMQ server {binary} {what}."
    if output:
        message += f" Its last output:\n{output}\n"
    return RabbitServerError(f"{message} Another one may do: {_REMEDY}")
