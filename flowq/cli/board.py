"""Shows how far a run is: live on a terminal, elsewhere as a line now and then."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowq.core.handle import Handle
from flowq.core.types import FlowStatus, NodeStatus

NO_WORKER_S = 5.0
"""A run that nobody has begun after so long probably waits for workers that are not there."""


class Tally:
    """What each worker process is doing and has done, from the run's events.

    ``maps`` names the nodes that are maps: these are open while their items run, and keep no worker busy themselves.
    """

    def __init__(self, maps: Iterable[str] = ()) -> None:
        self._maps = frozenset(maps)
        self._lock = threading.Lock()
        self._running: dict[str, str] = {}
        self._done: Counter[str] = Counter()

    def listen(self, handle: Handle) -> None:
        """Note the run's events from now on, in a thread that ends with the run."""
        threading.Thread(target=self._listen, args=(handle,), name="flowq-tally", daemon=True).start()

    def note(self, node: str, status: NodeStatus, worker: str) -> None:
        """Note one event."""
        if node in self._maps:
            return
        with self._lock:
            if status is NodeStatus.RUNNING:
                self._running[node] = worker
                self._done.setdefault(worker, 0)
            elif self._running.pop(node, None) is not None and status.is_final:
                self._done[worker] += 1

    def by_worker(self) -> dict[str, tuple[int, list[str]]]:
        """Give, per worker process, how many nodes it has settled and which it is running now."""
        with self._lock:
            running: dict[str, list[str]] = {worker: [] for worker in self._done}
            for node, worker in self._running.items():
                running.setdefault(worker, []).append(node)
            return {worker: (self._done[worker], sorted(nodes)) for worker, nodes in sorted(running.items())}

    def _listen(self, handle: Handle) -> None:
        try:
            for change in handle.events():
                self.note(change.node, change.status, change.worker)
        except Exception:  # it only feeds the display, and Redis may stop first
            return


class Board:
    """The display of one run; a context manager. What it shows goes to stderr, so that stdout is for results.

    Args:
        console: where to.
        title: the flow's name.
        every_s: seconds between two lines where there is no terminal.
    """

    def __init__(self, console: Console, title: str, every_s: float = 2.0) -> None:
        self._console, self._title, self._every_s = console, title, every_s
        self._live = Live(console=console, transient=True, auto_refresh=False) if console.is_terminal else None
        self._started = self._last_line = time.monotonic()
        self._begun = self._warned = False

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Any, tally: Tally | None) -> None:
        """Show how far the run is; ``progress`` is None where only the time is known."""
        elapsed_s = time.monotonic() - self._started
        if progress is not None and progress.status is FlowStatus.PENDING and elapsed_s > NO_WORKER_S:
            self._warn()
        if self._live is not None:
            self._live.update(self._picture(progress, tally, elapsed_s), refresh=True)
        elif progress is not None and self._is_due(progress):
            self._last_line = time.monotonic()
            self._console.print(f"{elapsed_s:6.1f} s  {line(progress, tally)}", highlight=False, soft_wrap=True)

    def _is_due(self, progress: Any) -> bool:
        """Say whether to write a line: when the time has come, and once at the very beginning."""
        first = not self._begun and progress.settled > 0
        self._begun = self._begun or first
        return first or time.monotonic() - self._last_line >= self._every_s

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            self._console.print(
                "No worker has taken the run up yet. Is one running, on this broker, with the flow's module in"
                " FLOWQ_INCLUDE?",
                style="yellow",
                soft_wrap=True,
            )

    def _picture(self, progress: Any, tally: Tally | None, elapsed_s: float) -> RenderableType:
        head = Table.grid(padding=(0, 2))
        if progress is None:
            head.add_row(Text(self._title, "bold"), ProgressBar(width=40, pulse=True), f"{elapsed_s:.1f} s, here")
            return head
        bar = ProgressBar(total=max(progress.total, 1), completed=progress.settled, width=40)
        settled = f"{progress.settled}/{progress.total} nodes"
        head.add_row(Text(self._title, "bold"), bar, settled, f"{elapsed_s:.1f} s")
        workers = Table.grid(padding=(0, 2))
        for worker, (done, running) in ({} if tally is None else tally.by_worker()).items():
            now = Text(", ".join(running) or "idle", "cyan" if running else "dim")
            workers.add_row(f"  {worker}", Text(f"{done} nodes", justify="right"), now)
        return Group(head, Text(f"  {counts(progress)}"), workers)


def line(progress: Any, tally: Tally | None) -> str:
    """Give one line that says it all: ``412/741 nodes (411 completed, 1 failed); running on 2 workers: w1, w2``."""
    running = [worker for worker, (_, nodes) in ({} if tally is None else tally.by_worker()).items() if nodes]
    text = f"{progress.settled}/{progress.total} nodes ({counts(progress)})"
    return f"{text}; running on {', '.join(running)}" if running else text


def counts(progress: Any) -> str:
    """Give the settled nodes by status."""
    known = {
        "completed": progress.completed,
        "failed": progress.failed,
        "skipped": progress.skipped,
        "upstream failed": progress.upstream_failed,
    }
    return ", ".join(f"{count} {name}" for name, count in known.items() if count or name == "completed")
