"""What nodes do, on workers: they note what they see, take their time, fail as told, and give a value that can be told
from that of any other execution.

A value is ``{"core", "attempt", "nonce", "pad"}``. Its core follows from the graph alone; attempt and nonce say which
execution it is from; the pad makes some values too large for the run's own state.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import BaseModel

from flowq import DependencyData, FunctionFlow, Skip, current_attempt, flow, task
from tests.chaos.effects import Writer, digest_of

Value: TypeAlias = dict[str, Any]

MAX_CRASHES = 50
"""More often than the faults of a whole plan can strike one node: what fails by it is a false failure."""


class MeantToFail(Exception):
    """Raised by nodes that fail by design."""


class Body(BaseModel):
    """How the body of a node behaves."""

    takes_ms: int
    fails: int = 0
    """So many first attempts raise."""
    skips: bool = False
    pad: int = 0
    """Characters that its value is longer."""


def core_of(node: str, upstreams: Mapping[str, str | None]) -> str:
    """Give the part of a node's value that does not depend on who computed it, or when."""
    text = "\n".join([node, *(f"{name}={upstreams[name]}" for name in sorted(upstreams))])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def perform(body: Body, log: str, upstreams: Mapping[str, Value | None]) -> Value:
    """Be the body of a node."""
    info = current_attempt()
    writer = Writer(log, info.run_id, info.node, info.attempt, upstreams)
    time.sleep(body.takes_ms / 1000)
    if info.attempt <= body.fails:
        writer.ended("fail")
        raise MeantToFail(f"attempt {info.attempt}")
    if body.skips:
        writer.ended("skip")
        raise Skip("not needed, by design")
    cores = {name: None if value is None else value["core"] for name, value in upstreams.items()}
    pad = os.urandom(body.pad // 2).hex()
    value = {"core": core_of(info.node, cores), "attempt": info.attempt, "nonce": writer.nonce, "pad": pad}
    writer.ended("end", digest_of(value))
    return value


class Work(Body):
    """A node of a graph in the class form."""

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> Value:
        return perform(self, input_data["log"], dict(dependencies))


# ── maps: only functions have them ────────────────────────────────────────────────────────────────────────────────────


def part_core(index: int) -> str:
    return core_of(f"part {index}", {})


@task(max_crashes=MAX_CRASHES)
def spread(log: str, count: int, takes_ms: int) -> list[Value]:
    """Give a list whose every entry is a value."""
    info = current_attempt()
    writer = Writer(log, info.run_id, info.node, info.attempt, {})
    time.sleep(takes_ms / 1000)
    parts = [
        {"core": part_core(index), "attempt": info.attempt, "nonce": writer.nonce, "pad": ""} for index in range(count)
    ]
    writer.ended("end", digest_of(parts))
    return parts


@task(max_crashes=MAX_CRASHES)
def item(part: Value, log: str, takes_ms: int) -> Value:
    return perform(Body(takes_ms=takes_ms), log, {"part": part})


@task(max_crashes=MAX_CRASHES)
def gather(values: list[Value], log: str, takes_ms: int) -> Value:
    return perform(Body(takes_ms=takes_ms), log, {str(index): value for index, value in enumerate(values)})


def map_flow(count: int, takes_ms: int, placement: str) -> FunctionFlow[..., Value]:
    """Write a map: one node, as many as its list has entries, and one that takes them all."""

    @flow(name="map")
    def made(log: str) -> Value:
        parts = spread(log, count, takes_ms)
        items = item.options(flow_type=placement).map(parts, log=log, takes_ms=takes_ms)
        return gather(items, log, takes_ms)

    return made
