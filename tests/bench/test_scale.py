"""Graphs of many nodes: that they are right is asserted, how long they take is printed (pytest -s, or -rP)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FunctionFlow, Plan, flow, task
from flowq.core.runnable import Runnable

WIDTH = 100


class Leaf(BaseModel):
    number: int

    class Input(BaseModel):
        x: int

    def process(self, input_data, dependencies: DependencyData):
        return 1


@task
def node(upstreams: list[int], x: int) -> int:
    return x


def as_classes(layers: int) -> Flow:
    """Give layers of 100 nodes, each after two of the layer before."""
    end = Flow(None, FlowConfig(name="end"))
    before: list[Flow] = []
    for layer in range(layers):
        row = []
        for i in range(WIDTH):
            made = Flow(Leaf(number=i), FlowConfig(name=f"l{layer}n{i}"))
            made.register_to(end, required_deps=[before[i], before[(i * 7 + 1) % WIDTH]] if before else ())
            row.append(made)
        before = row
    return end


def as_function(layers: int) -> FunctionFlow[..., dict[str, int]]:
    """Give the same as a function."""

    @flow
    def end(x: int) -> dict[str, int]:
        found: dict[str, int] = {}
        before: list[int] = []
        for layer in range(layers):
            row = []
            for i in range(WIDTH):
                upstreams = [before[i], before[(i * 7 + 1) % WIDTH]] if before else []
                row.append(node.options(name=f"l{layer}n{i}")(upstreams, x))
                found[f"l{layer}n{i}"] = row[-1]
            before = row
        return found

    return end


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began:.2f} s")


@pytest.mark.parametrize(("make", "layers"), [(as_classes, 100), (as_function, 20)], ids=["classes", "function"])
def test_layers_of_a_hundred_nodes(make: Callable[[int], Runnable], layers: int):
    print(f"{layers * WIDTH} nodes")
    with timed("define"):
        graph = make(layers)
    with timed("build, check, compile and verify"):
        plan: Plan = graph.plan()
    with timed("document and hash"):
        digest = plan.hash
    with timed("read back"):
        again = Plan.from_json(plan.document)
    with timed("check an input"):
        graph.graph().check_input({"x": 1})
    assert len(graph.graph().steps) == len(plan) == layers * WIDTH + 1
    assert (again, again.hash) == (plan, digest)
    assert sum(len(found.edges) for found in plan) == (layers - 1) * (2 * WIDTH - _same()) + layers * WIDTH
    assert plan.sinks == (plan.index["end"],) == (len(plan) - 1,)
    assert [found.path for found in plan.nodes[:WIDTH]] == sorted(f"l0n{i}" for i in range(WIDTH))


def _same() -> int:
    """How many nodes of a layer have their two upstreams in one."""
    return sum(i == (i * 7 + 1) % WIDTH for i in range(WIDTH))
