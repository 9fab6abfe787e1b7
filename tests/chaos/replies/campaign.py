"""Run after run over a connection that loses what passes it, with a count of all that happened."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from flowq import FlowContext
from flowq.core.config import Dispatch
from flowq.standalone import EmbeddedServer
from flowq.testing.keyspace import SETTLE_S, open_keys
from flowq.testing.waiting import wait_until
from tests.chaos.replies.faults import ByRate, Happened, Rates
from tests.chaos.replies.fleet import Fleet
from tests.chaos.replies.flows import CASES
from tests.chaos.replies.oracles import check
from tests.chaos.replies.proxy import FaultProxy

AT_ONCE = 6
"""Runs that are under way side by side."""


@dataclass
class Figures:
    """What a campaign has seen."""

    runs: int = 0
    executions: int = 0
    expected: int = 0
    """Executions, had nothing been lost."""
    requests: int = 0
    seconds: float = 0.0
    longest_s: float = 0.0
    """The run that took longest."""
    happened: Happened = field(default_factory=Happened)
    failures: Counter[str] = field(default_factory=Counter)
    """What drains and sweeps ended with, and left to others."""

    def __str__(self) -> str:
        text = (
            f"{self.runs} runs, {self.executions} executions of {self.expected} nodes and attempts,"
            f" {self.requests} requests in {self.seconds:.0f} s (longest run {self.longest_s:.1f} s); {self.happened};"
            f" replies lost: {self.happened.lost_replies}"
        )
        return f"{text}; failed: {dict(self.failures)}" if self.failures else text


class Campaign:
    """A fleet behind a proxy, and runs of every kind on it. A context manager."""

    def __init__(
        self, server: EmbeddedServer, folder: Path, rates: Rates, *, seed: int, dispatch: Dispatch = "pull"
    ) -> None:
        self.figures = Figures()
        self._server, self._folder, self._dispatch = server, folder, dispatch
        self._proxy = FaultProxy(server.redis_url, ByRate(seed, rates))
        self._stack = ExitStack()
        self._began = time.monotonic()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._proxy)
        settings = {"prefix": f"c{os.urandom(4).hex()}", "dispatch": self._dispatch}
        self._fleet = self._stack.enter_context(Fleet(self._proxy.redis_url, slots=4, settings=settings))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                wait_until(lambda: not self._open_keys(), SETTLE_S, lambda: f"keys without TTL: {self._open_keys()}")

    def round(self) -> Figures:
        """Let one run of each kind end, and check them; gives what was seen so far."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._one, CASES):
                pass
        figures = self.figures
        figures.requests, figures.happened = self._proxy.requests, self._proxy.happened
        figures.seconds = time.monotonic() - self._began
        figures.failures = Counter(type(error).__name__ for error in self._fleet.failures)
        return figures

    def until(self, lost: int, say: Callable[[Figures], object] = lambda figures: None) -> Figures:
        """Go on until so many replies were lost."""
        while self.round().happened.lost_replies < lost:
            say(self.figures)
        return self.figures

    def _open_keys(self) -> list[str]:
        # Not through the proxy: a pipeline of hundreds of requests would never get through.
        settings = self._fleet.context.settings.model_copy(update={"state_url": self._server.redis_url})
        context = FlowContext(settings)
        try:
            return open_keys(context)
        finally:
            context.close()

    def _one(self, name: str) -> None:
        case = CASES[name]
        began = time.monotonic()
        log = self._folder / f"{self.figures.runs}-{os.urandom(4).hex()}.log"
        handle = case.submit(str(log), self._fleet.context)
        executions = check(handle, case, str(log))
        log.unlink()
        figures = self.figures
        figures.longest_s = max(figures.longest_s, time.monotonic() - began)
        figures.runs += 1
        figures.executions += executions
        figures.expected += case.executions
