"""The shapes as flows. Workers know the processors by this module."""

from __future__ import annotations

from typing import Any

from flowq import FunctionFlow, flow, task
from tests.bench.compare.shapes import Chains, Diamonds, FanIn, Independent, Layered, Shape, Tree, value_of


@task
def inc(x: int, by: int = 1) -> int:
    return x + by


@task
def one(number: int) -> int:
    return number


@task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@task
def value(upstreams: list[int], number: int) -> int:
    return value_of(number, upstreams)


def flow_of(shape: Shape) -> FunctionFlow[..., Any]:
    """Write a shape as a flow, to be submitted as often as ``inputs_of`` says."""
    match shape:
        case Chains(length):

            @flow(name="chain")
            def made(x: int) -> int:
                for _ in range(length):
                    x = inc(x)
                return x
        case FanIn(leaves):

            @flow(name="fan-in")
            def made() -> int:
                return total([one(leaf) for leaf in range(leaves)])
        case Independent(nodes):

            @flow(name="independent")
            def made() -> list[int]:
                return one.map(list(range(nodes)))
        case Layered():

            @flow(name="layered")
            def made() -> list[int]:
                values: list[int] = []
                for number, upstreams in enumerate(shape.upstreams):
                    values.append(value([values[upstream] for upstream in upstreams], number))
                return values[-shape.width :]
        case Tree(leaves):

            @flow(name="tree")
            def made() -> int:
                row = [one(leaf) for leaf in range(leaves)]
                while len(row) > 1:
                    row = [total(row[i : i + 2]) for i in range(0, len(row), 2)]
                return row[0]
        case Diamonds():

            @flow(name="diamond")
            def made(x: int) -> int:
                a = inc(x)
                return total([inc(a, by) for by in (1, 2, 3)])

    return made


def inputs_of(shape: Shape) -> list[tuple[int, ...]]:
    """Give the arguments of each run that the shape is."""
    match shape:
        case Chains():
            return [(0,)] * shape.count
        case Diamonds():
            return [(number,) for number in range(shape.count)]
        case _:
            return [()]
