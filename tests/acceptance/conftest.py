"""The command line as a user has it: the installed command, in an empty folder, with nothing set."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

FLOWQ = Path(sys.executable).with_name("flowq")
MARK = "ACCEPTANCE_TEST_MARK"
"""In the environment of what a test starts, and so of all that that starts, whoever its parent is by then."""


class Command:
    """A command that runs, with its output in files."""

    def __init__(self, arguments: list[str], folder: Path, environ: dict[str, str], given: str | None) -> None:
        self.mark = uuid.uuid4().hex
        self._logs = folder / f".{self.mark}"
        self._logs.mkdir()
        self._log("stdin").write_text(given or "")
        # Not below the folder: a socket's path must be short.
        self.temporary = Path(tempfile.mkdtemp(prefix="acceptance-"))
        with (
            self._log("stdin").open() as stdin,
            self._log("stdout").open("wb") as out,
            self._log("stderr").open("wb") as err,
        ):
            self.process = subprocess.Popen(
                [str(FLOWQ), *arguments],
                cwd=folder,
                env=environ | {MARK: self.mark, "TMPDIR": str(self.temporary)},
                stdin=stdin,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # What a shell starts in the background ignores Ctrl-C, and so would its children, these tests' too.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def stdout(self) -> str:
        return self._log("stdout").read_text()

    @property
    def stderr(self) -> str:
        return self._log("stderr").read_text()

    @property
    def code(self) -> int | None:
        """Its exit code; None while it runs."""
        return self.process.poll()

    def wait(self, timeout_s: float = 60) -> "Command":
        try:
            self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it has not ended after {timeout_s} s:\n{self.stdout}\n{self.stderr}")
        return self

    def until(self, condition: Callable[[], object], what: str, timeout_s: float = 60) -> None:
        """Wait until the condition holds, while the command runs; fail with what was seen."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            if self.code is not None or time.monotonic() > deadline:
                state = "still runs" if self.code is None else f"has ended with {self.code}"
                pytest.fail(f"{what}: not so; the command {state}:\n{self.stdout}\n{self.stderr}")
            time.sleep(0.01)

    def processes(self) -> dict[int, str]:
        """What runs now of all that it has started, itself included: process id and command."""
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
            except OSError:  # it has just ended, or is another user's
                continue
        return found

    def files(self) -> list[Path]:
        """What it has put into the folder for temporary files; without billiard's empty ones, if that was killed."""
        found = self.temporary.iterdir()
        return [path for path in found if not (path.name.startswith("pymp-") and not any(path.iterdir()))]

    def assert_nothing_left(self, timeout_s: float = 10) -> None:
        """Fail if a process or a temporary file is left; what cleans up by itself (after SIGKILL) is given the time."""
        deadline = time.monotonic() + timeout_s
        while left := [*self.processes().items(), *self.files()]:
            if time.monotonic() > deadline:
                pytest.fail(f"left behind: {left}")
            time.sleep(0.02)

    def kill(self) -> None:
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        shutil.rmtree(self._logs, ignore_errors=True)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _log(self, name: str) -> Path:
        return self._logs / name


class Terminal:
    """Starts commands in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Command] = []

    def start(self, *arguments: str, given: str | None = None, **environ: str) -> Command:
        """Start ``flowq`` with these arguments; ``given`` is its stdin, ``environ`` is added to PATH and so on."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "PYTHON"))}
        command = Command(list(arguments), self.folder, inherited | environ, given)
        self._started.append(command)
        return command

    def run(self, *arguments: str, given: str | None = None, **environ: str) -> Command:
        """Run ``flowq`` to its end."""
        return self.start(*arguments, given=given, **environ).wait()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def close(self) -> None:
        for command in self._started:
            command.kill()


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    """A terminal in an empty folder."""
    made = Terminal(tmp_path)
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared_terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """One terminal for a module, for what is run once and looked at by many tests."""
    made = Terminal(tmp_path_factory.mktemp("shared"))
    yield made
    made.close()
