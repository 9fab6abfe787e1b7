"""A graph of 10,000 nodes: that it is right is asserted, how long it takes is printed (pytest -s, or -rP)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, Plan, flow, task
from flowq.core.runnable import Runnable

LAYERS, WIDTH = 100, 100


class Leaf(BaseModel):
    number: int

    class Input(BaseModel):
        x: int

    def process(self, input_data, dependencies: DependencyData):
        return 1


@task
def node(upstreams: list[int], x: int) -> int:
    return x


def as_classes() -> Flow:
    """Give 100 layers of 100 nodes, each after two of the layer before."""
    end = Flow(None, FlowConfig(name="end"))
    before: list[Flow] = []
    for layer in range(LAYERS):
        row = []
        for i in range(WIDTH):
            made = Flow(Leaf(number=i), FlowConfig(name=f"l{layer}n{i}"))
            made.register_to(end, required_deps=[before[i], before[(i * 7 + 1) % WIDTH]] if before else ())
            row.append(made)
        before = row
    return end


@flow
def end(x: int) -> dict[str, int]:
    """Give the same as a function."""
    found: dict[str, int] = {}
    before: list[int] = []
    for layer in range(LAYERS):
        row = []
        for i in range(WIDTH):
            upstreams = [before[i], before[(i * 7 + 1) % WIDTH]] if before else []
            row.append(node.options(name=f"l{layer}n{i}")(upstreams, x))
            found[f"l{layer}n{i}"] = row[-1]
        before = row
    return found


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began:.2f} s")  # noqa: T201


@pytest.mark.parametrize("make", [as_classes, lambda: end], ids=["classes", "function"])
def test_ten_thousand_nodes(make: Callable[[], Runnable]):
    with timed("define"):
        graph = make()
    with timed("build and check"):
        steps = graph._build().steps
    with timed("build, check, compile and verify"):
        plan: Plan = graph.plan()
    with timed("document and hash"):
        digest = plan.hash
    with timed("read back"):
        again = Plan.from_json(plan.document)
    with timed("check an input"):
        graph.graph().check_input({"x": 1})
    assert len(steps) == len(plan) == LAYERS * WIDTH + 1
    assert (again, again.hash) == (plan, digest)
    assert sum(len(found.edges) for found in plan) == (LAYERS - 1) * (2 * WIDTH - _same()) + LAYERS * WIDTH
    assert plan.sinks == (plan.index["end"],) == (len(plan) - 1,)
    assert [found.path for found in plan.nodes[:WIDTH]] == sorted(f"l0n{i}" for i in range(WIDTH))


def _same() -> int:
    """How many nodes of a layer have their two upstreams in one."""
    return sum(i == (i * 7 + 1) % WIDTH for i in range(WIDTH))
