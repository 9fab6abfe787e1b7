"""How the costs of a run grow with it: chains by their length, fans, fan-ins and maps by their width."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from flowq import FunctionFlow, flow
from flowq.client.client import Client
from flowq.core.types import FlowStatus
from flowq.testing.fleet import use
from tests.bench.compare.flowq_flows import TASKS, flow_of
from tests.bench.compare.flowq_peer import FlowqPeer
from tests.bench.compare.measure import WrongResult
from tests.bench.compare.shapes import Chains, FanIn, Independent
from tests.bench.growth.memory import Peak, bytes_by_kind, more, used_bytes


@dataclass(frozen=True)
class Kind:
    """A family of flows: by its size, the flow, its input, and what comes of it."""

    name: str
    make: Callable[[int], tuple[FunctionFlow[..., Any], tuple[int, ...], Any]]


@dataclass(frozen=True)
class Point:
    """What a run of some size cost."""

    kind: str
    nodes: int
    plan_s: float = 0
    """To write the flow down, check and compile it: once for as many runs as one likes."""
    submit_s: float = 0
    run_s: float = 0
    """From the submission until the result was read; the plan was not known to the workers before."""
    cpu_s: float = 0
    """Of producer, server and workers, meanwhile."""
    used_bytes: int = 0
    """By how much the server's memory has grown, the plan in it."""
    key_bytes: dict[str, int] = field(default_factory=dict)
    """By how much the keys of each kind have grown."""
    producer_bytes: int = 0
    """By how much the producer was larger at its peak, the plan and the result in it."""
    failed: str = ""

    @property
    def ms_per_node(self) -> float:
        return self.run_s / self.nodes * 1000

    @property
    def plan_bytes(self) -> int:
        return sum(size for kind, size in self.key_bytes.items() if ":plan:" in kind)

    @property
    def run_bytes(self) -> int:
        return sum(self.key_bytes.values()) - self.plan_bytes


def _chain(size: int) -> tuple[FunctionFlow[..., Any], tuple[int, ...], Any]:
    return flow_of(Chains(size)), (0,), size


def _fan(size: int) -> tuple[FunctionFlow[..., Any], tuple[int, ...], Any]:
    one, inc = TASKS["one"], TASKS["inc"]

    @flow(name="fan")
    def made() -> list[int]:
        root = one(0)
        return [inc(root, by) for by in range(1, size)]

    return made, (), list(range(1, size))


def _fan_in(size: int) -> tuple[FunctionFlow[..., Any], tuple[int, ...], Any]:
    return flow_of(FanIn(size - 1)), (), sum(range(size - 1))


def _map(size: int) -> tuple[FunctionFlow[..., Any], tuple[int, ...], Any]:
    return flow_of(Independent(size)), (), list(range(size))


KINDS = (Kind("chain", _chain), Kind("fan", _fan), Kind("fan-in", _fan_in), Kind("map", _map))


def points(kinds: Sequence[Kind], sizes: Sequence[int], timeout_s: float) -> Iterator[Point]:
    """Measure runs of every size, each kind on workers and a server of its own; after a failure, no larger one."""
    for kind in kinds:
        peer = FlowqPeer("pull")
        peer.start()
        try:
            peer.warm_up()
            peer.tidy()
            for size in sizes:
                point = _point(peer, kind, size, timeout_s)
                yield point
                if point.failed:
                    break
        finally:
            peer.stop()


def _point(peer: FlowqPeer, kind: Kind, size: int, timeout_s: float) -> Point:
    client = peer.context.service("client")
    assert isinstance(client, Client)
    peer.resume()  # whose processor time is counted is found out anew
    gc.collect()
    peak, keys, used = Peak(), bytes_by_kind(peer.redis), used_bytes(peer.redis)
    began = time.perf_counter()
    made, given, expected = kind.make(size)
    with use(peer.context):
        made.plan()
    planned, cpu = time.perf_counter(), peer.cpu_s()
    handle = made.submit(*given, context=peer.context)
    submitted = time.perf_counter()
    try:
        result = handle.result(timeout=timeout_s)
    except TimeoutError:
        return Point(kind.name, size, planned - began, submitted - planned, failed=f"failed ({timeout_s:g} s)")
    ended, cpu = time.perf_counter(), peer.cpu_s() - cpu
    if result.status is not FlowStatus.COMPLETED or result.output != expected:
        raise WrongResult(f"{kind.name} of {size}: {result.status}, {str(result.output)[:200]}")
    point = Point(
        kind.name,
        size,
        plan_s=planned - began,
        submit_s=submitted - planned,
        run_s=ended - planned,
        cpu_s=cpu,
        producer_bytes=peak.bytes,
        used_bytes=used_bytes(peer.redis) - used,
        key_bytes=more(bytes_by_kind(peer.redis), keys),
    )
    client.forget(handle.run_id)
    return point
