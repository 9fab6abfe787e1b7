"""The guard: a tiny process between an owner and one child, so that the child cannot outlive the owner.

::

    owner ──commands (stdin)──▶ guard ──starts, waits for──▶ child: own session, so its own process group
      ◀──pid or errno (stdout)───┘

SIGKILL gives an owner no chance to clean up, so somebody else must notice. The guard does, in two ways: its stdin
reaches end of file, or, if a fork of the owner still holds the other end open, its parent is no longer the owner.
``PR_SET_PDEATHSIG`` would need no process, but fires when the *thread* that forked ends, reaches only the child and
not the child's children, and exists on Linux only.

The guard is also the only process that signals the child. It has not yet waited for a child that it signals, so the
number cannot belong to a stranger in the meantime.

It is run by its path and needs only the standard library: no import of flowq, so it starts in about 20 ms.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys

TERMINATE = b"t"  # SIGTERM to the child alone: Celery's warm shutdown; its pool children must live on to finish
KILL = b"k"  # SIGKILL to the child's whole process group

EXIT_NOT_STARTED = 127  # as a shell has it
EXIT_SIGNALLED = 128  # plus the signal's number, as a shell has it

_COMMANDS, _REPLY, _LOG = 0, 1, 2  # file descriptors
_PARENT_CHECK_S = 1.0  # only matters if a fork of the owner keeps the pipe open; the pipe itself wakes us at once


def main(arguments: list[str]) -> int:
    """Run ``guard.py OWNER_PID DIRECTORY COMMAND...``; the exit status is the child's.

    ``DIRECTORY`` is removed if the owner is gone; empty for none. The child's pid, or minus the errno that kept it
    from starting, is written to stdout as one line; the child's own output goes to stderr.
    """
    owner_pid, directory, command = int(arguments[0]), arguments[1], arguments[2:]
    wakeup_fd = _wake_on_signals()
    try:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=_LOG, stderr=_LOG, start_new_session=True)
    except OSError as error:
        _reply(-(error.errno or 1))
        return EXIT_NOT_STARTED
    owner_is_gone = not _reply(child.pid) or _watch(child, owner_pid, wakeup_fd)
    # Also when the child ended by itself: what is left of its group has nobody who would stop it.
    with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for a group of zombies
        os.killpg(child.pid, signal.SIGKILL)
    status = child.wait()
    if owner_is_gone and directory:
        shutil.rmtree(directory, ignore_errors=True)
    return status if status >= 0 else EXIT_SIGNALLED - status


def _wake_on_signals() -> int:
    """Make SIGCHLD end ``select``, and let no other signal end the guard before its child; the fd to watch."""
    wakeup_fd, notify_fd = os.pipe()
    os.set_blocking(notify_fd, False)
    signal.set_wakeup_fd(notify_fd, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # A handler that does nothing, not SIG_IGN: the child would inherit that, and be deaf to SIGTERM.
        signal.signal(number, lambda *_: None)
    return wakeup_fd


def _reply(number: int) -> bool:
    """Tell the owner; False if there is nobody to tell."""
    try:
        os.write(_REPLY, b"%d\n" % number)
    except OSError:
        return False
    return True


def _watch(child: subprocess.Popen[bytes], owner_pid: int, wakeup_fd: int) -> bool:
    """Obey commands until the child has ended or must end; True if that is because the owner is gone."""
    while True:
        readable, _, _ = select.select([_COMMANDS, wakeup_fd], [], [], _PARENT_CHECK_S)
        if wakeup_fd in readable:
            os.read(wakeup_fd, 512)
        if _COMMANDS in readable:
            commands = os.read(_COMMANDS, 512)
            if not commands:
                return True
            if KILL in commands:
                return False
            if TERMINATE in commands:
                child.terminate()
        if os.getppid() != owner_pid:
            return True
        if child.poll() is not None:
            return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
