"""Processors that go on until they are let go, heed nobody, or let nobody have a turn; and what was seen of them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flowq import Flow, FlowConfig, FlowType, RetryPolicy, current_attempt
from tests.conformance.engines.effects import Effect, effects, note


class Noted(BaseModel):
    """Writes down where and when it runs."""

    def process(self, input_data: dict[str, Any]) -> int:
        note(input_data["log"], "start", os.getpid())
        self.work(input_data)
        note(input_data["log"], "end", os.getpid())
        return current_attempt().attempt

    def work(self, input_data: dict[str, Any]) -> None:
        """Do nothing."""


class Waits(Noted):
    """Goes on until there is a file of its node's name and attempt, or one for all attempts."""

    def work(self, input_data: dict[str, Any]) -> None:
        info = current_attempt()
        files = [Path(f"{input_data['log']}.{info.node}"), Path(f"{input_data['log']}.{info.node}.{info.attempt}")]
        while not any(file.exists() for file in files):
            time.sleep(0.05)


class Stubborn(Waits):
    """The same, whatever is raised in it."""

    def work(self, input_data: dict[str, Any]) -> None:
        over = False
        while not over:
            with contextlib.suppress(BaseException):
                super().work(input_data)
                over = True


class Sleeps(Noted):
    """Sits in one call of C that lets no other thread have a turn, so many seconds."""

    for_s: int

    def work(self, input_data: dict[str, Any]) -> None:
        ctypes.PyDLL(None).sleep(self.for_s)


class Deaf(Noted):
    """Computes in C without end: no signal handler and no other thread gets a turn."""

    def work(self, input_data: dict[str, Any]) -> None:
        max(itertools.repeat(1))


class Backtracks(Noted):
    """A regular expression that takes for ever; signal handlers get a turn, other threads do not."""

    letters: int = 40

    def work(self, input_data: dict[str, Any]) -> None:
        re.match("(a+)+$", "a" * self.letters + "b")


def alone(processor: Any, name: str = "only", **config: Any) -> Flow:
    """Make a flow of one node."""
    return Flow(processor, FlowConfig(name=name, **config))


def beside(processor: Any, number: int, placement: FlowType = FlowType.THREAD) -> Flow:
    """Make a flow of several nodes that run at once."""
    parent = Flow(None, FlowConfig(name="all"))
    for i in range(number):
        Flow(processor, FlowConfig(name=f"n{i}", flow_type=placement)).register_to(parent)
    return parent


def forked(processor: Any) -> Flow:
    """Make a flow of a node that two others come after."""
    parent = Flow(None, FlowConfig(name="all"))
    first = Flow(processor, FlowConfig(name="first"))
    first.register_to(parent)
    for name in ("left", "right"):
        Flow(processor, FlowConfig(name=name)).register_to(parent, required_deps=[first.process_id])
    return parent


AT_ONCE = RetryPolicy(max_attempts=2, delay_s=0)


def let_go(log: str, node: str = "only", attempt: int | None = None) -> None:
    """Have a node that waits go on; in one attempt, or in all."""
    Path(f"{log}.{node}" if attempt is None else f"{log}.{node}.{attempt}").touch()


def starts(log: str, run: str | None = None, node: str | None = None) -> list[Effect]:
    """Give the attempts that have begun; ``more`` is the process."""
    return [seen for seen in effects(log, run) if seen.what == "start" and node in (None, seen.node)]


def ends(log: str, run: str | None = None, node: str | None = None) -> list[Effect]:
    """Give the attempts that came to their own end."""
    return [seen for seen in effects(log, run) if seen.what == "end" and node in (None, seen.node)]


def is_gone(pid: int) -> bool:
    """Tell whether a process has ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return True
    return state in b"ZX"


def children(pid: int) -> list[int]:
    """Give a worker's pool processes."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int((entry / "stat").read_bytes().rpartition(b") ")[2].split()[1]) == pid:
                found.append(int(entry.name))
    return found
