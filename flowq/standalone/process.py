"""The owner's side of a guarded child process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from flowq.standalone import guard

_KILL_WAIT_S = 5.0  # SIGKILL takes milliseconds; a guard that needs longer was itself stopped or starved
_TAIL_BYTES = 64 * 1024  # enough for any sensible number of lines, whatever the log has grown to


class GuardedProcess:
    """A child process in a session of its own that ends, with its whole process group, when this process does.

    Nothing typed at the terminal reaches it, so this process can stop things in order. Starting is done when the
    constructor returns: ``pid`` is the child's own, not the guard's.

    Args:
        name: what messages call it.
        argv: the command; ``argv[0]`` is looked up on PATH.
        env: its whole environment; None for this process's.
        cwd: its working directory.
        log_path: where its output is appended.
        remove: a directory to delete should this process be killed before it could do so itself.

    Raises:
        OSError: the command could not be executed.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        cwd: Path,
        log_path: Path,
        env: Mapping[str, str] | None = None,
        remove: Path | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        # -I -S: no site-packages and no PYTHON* variables, for a quick start that the environment cannot disturb.
        command = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(remove or ""), *argv]
        with log_path.open("ab") as log:
            self._guard = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=cwd,
                env=None if env is None else dict(env),
                start_new_session=True,
                bufsize=0,
            )
        assert self._guard.stdin is not None
        # If we are forgotten without kill(): subprocess keeps a running Popen, hence the pipe, for later reaping.
        weakref.finalize(self, self._guard.stdin.close)
        self.pid = self._await_pid(argv[0])

    @property
    def returncode(self) -> int | None:
        """None while it runs, else its exit status; 128 + n if signal n ended it."""
        status = self._guard.poll()
        if status is None:
            return None
        if status >= 0:
            self._close_commands()
            return status
        # Somebody killed the guard, which would have ended the group: do it instead, but once only, for later the
        # number may belong to a stranger.
        if self._close_commands():
            self._kill_group()
        return guard.EXIT_SIGNALLED + signal.SIGKILL

    @property
    def alive(self) -> bool:
        return self.returncode is None

    def terminate(self) -> None:
        """Send SIGTERM to the process, not to its children; no effect if it has ended."""
        self._command(guard.TERMINATE)

    def kill(self) -> None:
        """SIGKILL its whole process group and wait until it has ended; no effect if it has."""
        self._command(guard.KILL)
        if not self.wait(_KILL_WAIT_S):
            self._kill_group()
            self._guard.kill()
            self._guard.wait()
            self._close_commands()

    def wait(self, timeout_s: float) -> bool:
        """Wait until it has ended, at most ``timeout_s`` seconds; whether it has."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._guard.wait(max(timeout_s, 0.0))
        return not self.alive

    def log_tail(self, lines: int = 20) -> str:
        """Return the last lines of its output so far."""
        try:
            with self.log_path.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _TAIL_BYTES))
                text = log.read().decode(errors="replace")
        except FileNotFoundError:  # the owner has removed the private directory
            return ""
        return "\n".join(deque(text.splitlines(), maxlen=lines))

    def _await_pid(self, program: str) -> int:
        assert self._guard.stdout is not None
        with self._guard.stdout as replies:
            reply = int(replies.readline() or 0)
        if reply > 0:
            return reply
        status = self._guard.wait()
        self._close_commands()
        if reply < 0:
            raise OSError(-reply, os.strerror(-reply), program)
        raise ChildProcessError(f"the guard of {self.name} ended with status {status}: {self.log_tail()}")

    def _command(self, command: bytes) -> None:
        assert self._guard.stdin is not None
        # BrokenPipeError: the guard has ended. ValueError: we know, and have closed our end.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._guard.stdin.write(command)

    def _close_commands(self) -> bool:
        """Close our end of the pipe; False if it is closed already."""
        assert self._guard.stdin is not None
        was_open = not self._guard.stdin.closed
        self._guard.stdin.close()
        return was_open

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
