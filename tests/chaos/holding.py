"""Nodes that go on until they are let go, and the log that says when they started."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flowq import Flow, FlowConfig, FlowType, current_attempt
from flowq.testing import wait_until
from tests.chaos.effects import Effect, Reader, Writer

LOOK_S = 0.05
"""Between two looks of a node at whether it may end."""


class Holds(BaseModel):
    """Its first execution goes on until it is let go; later ones end at once."""

    def process(self, input_data: dict[str, Any]) -> None:
        info, log = current_attempt(), input_data["log"]
        writer = Writer(log, info.run_id, info.node, info.attempt, {})
        first = Path(f"{log}.{info.run_id}.{info.node}")
        with contextlib.suppress(FileExistsError):
            first.touch(exist_ok=False)
            free = Path(f"{log}.free.{writer.nonce}")
            while not free.exists():
                time.sleep(LOOK_S)
        writer.ended("end")


class Takes(BaseModel):
    """Takes its time."""

    seconds: float

    def process(self, input_data: dict[str, Any]) -> None:
        info = current_attempt()
        writer = Writer(input_data["log"], info.run_id, info.node, info.attempt, {})
        time.sleep(self.seconds)
        writer.ended("end")


def one(processor: Any, **config: Any) -> Flow:
    """Make a flow of one node."""
    return Flow(processor, FlowConfig(name="only", max_crashes=50, **config))


def many(processor: Any, count: int, flow_type: FlowType = FlowType.PROCESS) -> Flow:
    """Make a flow of nodes that do not wait for each other."""
    parent = Flow(None, FlowConfig(name="all"))
    for number in range(count):
        Flow(processor, FlowConfig(name=f"n{number}", flow_type=flow_type, max_crashes=50)).register_to(parent)
    return parent


class Log:
    """What nodes noted: their starts, by run."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._reader = Reader(path)
        self._starts: dict[str, list[Effect]] = defaultdict(list)
        self._lock = threading.Lock()

    @property
    def given(self) -> dict[str, str]:
        """The input of a run."""
        return {"log": self.path}

    def starts(self, run: str = "") -> list[Effect]:
        """Give the starts of a run, or of all, in the order in which they were noted."""
        with self._lock:
            for effect in self._reader.new():
                if effect.what == "start":
                    self._starts[effect.run].append(effect)
                    self._starts[""].append(effect)
            return list(self._starts[run])

    def await_start(self, run: str, number: int = 1, timeout_s: float = 60.0) -> Effect:
        """Wait for the n-th start of a run of one node."""
        wait_until(lambda: len(self.starts(run)) >= number, timeout_s, f"start {number} of {run}")
        return self.starts(run)[number - 1]

    def let_go(self, start: Effect) -> None:
        """Let an execution end that holds on."""
        Path(f"{self.path}.free.{start.nonce}").touch()
