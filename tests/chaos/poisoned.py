"""Nodes that kill their own process among good ones, and nodes that are far longer than a lease: what is measured."""

from __future__ import annotations

import itertools
import os
import random
import signal
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel

from flowq import Flow, FlowConfig, FlowResult, FlowStatus, FlowType, current_attempt
from flowq.standalone import EmbeddedContext
from tests.chaos.effects import Effect, Writer, effects

RESULT_S = 300.0


class Noted(BaseModel):
    """Notes its start and its end."""

    def process(self, input_data: dict[str, Any]) -> None:
        info = current_attempt()
        writer = Writer(input_data["log"], info.run_id, info.node, info.attempt, {})
        self.work()
        writer.ended("end")

    def work(self) -> None:
        """Do nothing."""


class Good(Noted):
    """Takes 10 ms."""

    def work(self) -> None:
        time.sleep(0.01)


class Poison(Noted):
    """Kills its own process."""

    def work(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Poisoned(NamedTuple):
    """What came of the poison."""

    seconds: float
    """From the first start to the end of the last good node."""
    executions: Counter[int]
    """How many poison nodes had so many."""
    letters: int
    good: int
    """Good runs that have completed,"""
    failed: int
    """and poisoned ones that have failed."""


def poison(context: EmbeddedContext, seed: int, good: int, bad: int) -> Poisoned:
    """Run so many good and bad nodes, each in a run of its own, in random order, and wait for the end of all."""
    client: Any = context.client
    choose = random.Random(f"poison {seed}")
    order = choose.sample([True] * good + [False] * bad, good + bad)
    flows = {is_good: Flow(Good() if is_good else Poison(), FlowConfig(name="only")) for is_good in (True, False)}
    before = len(client.dead_letters())
    with tempfile.TemporaryDirectory(prefix="poison-") as folder:
        log = Path(folder) / "effects"
        runs = [(is_good, flows[is_good].submit({"log": str(log)}, context=context)) for is_good in order]
        statuses = Counter((is_good, run.result(RESULT_S).status) for is_good, run in runs)
        noted = effects(log)
    ended = max(effect.at for effect in noted if effect.what == "end")
    done = {effect.nonce for effect in noted if effect.what == "end"}
    fatal = Counter(effect.run for effect in noted if effect.what == "start" and effect.nonce not in done)
    return Poisoned(
        seconds=(ended - noted[0].at) / 1e9,
        executions=Counter(fatal.values()),
        letters=len(client.dead_letters()) - before,
        good=statuses[True, FlowStatus.COMPLETED],
        failed=statuses[False, FlowStatus.FAILED],
    )


def _run(context: EmbeddedContext, flow: Flow) -> tuple[FlowResult, list[Effect]]:
    with tempfile.TemporaryDirectory(prefix="poison-") as folder:
        log = str(Path(folder) / "effects")
        handle = flow.submit({"log": log}, context=context)
        result: FlowResult = handle.result(RESULT_S)
        return result, [effect for effect in effects(log) if effect.run == handle.run_id]


# ── nodes that are far longer than a lease ────────────────────────────────────────────────────────────────────────────

How = Literal["sleeps", "spins", "holds"]


class Long(Noted):
    """Takes long: asleep, busy in Python, or in one call of C that lets no other thread have a turn."""

    how: How
    seconds: float

    def work(self) -> None:
        match self.how:
            case "sleeps":
                time.sleep(self.seconds)
            case "spins":
                end = time.monotonic() + self.seconds
                while time.monotonic() < end:
                    zlib.crc32(b"turn")
            case "holds":
                # How fast it is depends on who else computes just now; the first piece is nearly all of it.
                end, rate = time.monotonic() + self.seconds, steps_per_s()
                while (left := end - time.monotonic()) > 0.01:
                    max(itertools.repeat(1, int(left * rate)))


def steps_per_s() -> float:
    """Find out how fast a call in C is at present."""
    began, steps = time.perf_counter(), 10_000_000
    max(itertools.repeat(1, steps))
    return steps / (time.perf_counter() - began)


class Executed(NamedTuple):
    """What came of the long nodes."""

    seconds: float
    """From the first start to the last end."""
    shortest: float
    """Of all executions that ended."""
    executions: Counter[int]
    """How many nodes had so many."""
    status: FlowStatus


def long(context: EmbeddedContext, hows: Sequence[How], count: int, seconds: float, flow_type: FlowType) -> Executed:
    """Run so many nodes that are that long, of each kind in turn."""
    parent = Flow(None, FlowConfig(name="all"))
    for number in range(count):
        processor = Long(how=hows[number % len(hows)], seconds=seconds)
        Flow(processor, FlowConfig(name=f"n{number}", flow_type=flow_type)).register_to(parent)
    result, noted = _run(context, parent)
    starts = [effect for effect in noted if effect.what == "start"]
    began = {start.nonce: start.at for start in starts}
    took = [(effect.at - began[effect.nonce]) / 1e9 for effect in noted if effect.what == "end"]
    return Executed(
        seconds=(max(effect.at for effect in noted) - starts[0].at) / 1e9,
        shortest=min(took),
        executions=Counter(Counter(start.node for start in starts).values()),
        status=result.status,
    )
