"""The shapes as flows. Workers know the processors by this module."""

from __future__ import annotations

from typing import Any

from flowq import FunctionFlow, flow, task
from tests.bench.compare.bodies import BODIES, named
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Sleeping, Tree

TASKS: dict[str, Any] = {name: task(body) for name, body in BODIES.items()}


def flow_of(shape: Shape) -> FunctionFlow[..., Any]:
    """Write a shape as a flow, to be submitted as often as ``inputs_of`` says."""
    inc, one, total = (TASKS[body] for body in ("inc", "one", "total"))
    match shape:
        case Chains(length):
            inc = TASKS[named("inc", shape.work)]

            @flow(name="chain")
            def made(x: Any) -> Any:
                for _ in range(length):
                    x = inc(x)
                return x
        case FanIn(leaves):
            one, total = TASKS[named("one", shape.work)], TASKS[named("total", shape.work)]

            @flow(name="fan-in")
            def made() -> Any:
                return total([one(leaf) for leaf in range(leaves)])
        case Independent(nodes):
            one = TASKS[named("one", shape.work)]

            @flow(name="independent")
            def made() -> Any:
                return one.map(list(range(nodes)))
        case Layered():
            value = TASKS["value"]

            @flow(name="layered")
            def made() -> list[int]:
                values: list[int] = []
                for number, upstreams in enumerate(shape.upstreams):
                    values.append(value([values[upstream] for upstream in upstreams], number))
                return [values[sink] for sink in shape.sinks]
        case Tree(leaves):

            @flow(name="tree")
            def made() -> Any:
                row: list[Any] = [one(leaf) for leaf in range(leaves)]
                while len(row) > 1:
                    row = [total(row[i : i + 2]) for i in range(0, len(row), 2)]
                return row[0]
        case Diamonds():
            inc, total = TASKS[named("inc", shape.work)], TASKS[named("total", shape.work)]

            @flow(name="diamond")
            def made(x: Any) -> Any:
                a = inc(x)
                return total([inc(a, by) for by in (1, 2, 3)])
        case Sleeping(upstreams, naps_ms):
            depth = TASKS["depth"]

            @flow(name="sleeping")
            def made() -> list[int]:
                depths: list[int] = []
                for before, ms in zip(upstreams, naps_ms, strict=True):
                    depths.append(depth([depths[upstream] for upstream in before], ms))
                return [depths[sink] for sink in shape.sinks]

    return made
