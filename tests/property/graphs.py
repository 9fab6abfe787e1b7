"""Random plans, made by the real compiler from random graphs.

They have required and optional edges, edges that only order, nested parents with upstreams of their own and with
required and optional children, maps over a list and over an upstream, nodes of every placement (so also fused ones),
several queues, retry policies and crash budgets.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from flowq.core.args import Arg
from flowq.core.config import FlowConfig, RetryPolicy
from flowq.core.graph import Dependency, Graph, Step
from flowq.core.processor import describe
from flowq.core.types import DependencyType, FlowType
from flowq.plan import Plan, compile_graph
from tests.property.choices import Choose, choices, one_of, some_of

QUEUES = (None, "side")
PLACEMENTS = (FlowType.PROCESS, FlowType.INLINE, FlowType.THREAD, FlowType.INLINE)
ORDERS = (FlowType.PARALLEL, FlowType.SEQUENTIAL, FlowType.INLINE)
POLICIES: tuple[int | RetryPolicy, ...] = (0, 1, RetryPolicy(max_attempts=3, delay_s=0.5, jitter=0))
DEPTH = 3


class Anything:
    """A processor that takes and gives anything. It is never called."""

    def process(self, input_data: Any, dependencies: Any) -> Any:
        raise AssertionError("property tests decide how attempts end")


ANYTHING = describe(Anything())


@st.composite
def plans(draw: st.DrawFn, most: int = 10) -> Plan:
    """Plans of up to ``most`` nodes."""
    return random_plan(draw(choices()), most)


def random_plan(choose: Choose, most: int = 10) -> Plan:
    """Give a plan of 1 to ``most`` nodes."""
    return compile_graph(random_graph(choose, most))


def random_graph(choose: Choose, most: int = 10) -> Graph:
    """Give a graph with one root above all (the class form), or with steps side by side (the function form)."""
    writer = _Writer(choose, 1 + choose(most))
    while writer.left:
        writer.write(None, 0)
    return Graph("flow", "flow", writer.steps, output=writer.done[-1]).validate([])


class _Writer:
    """Writes steps down; what a step waits for stands before it, so there are no cycles."""

    def __init__(self, choose: Choose, size: int) -> None:
        self.choose = choose
        self.left = size
        self.steps: dict[str, Step] = {}
        self.done: list[str] = []
        """Steps that are complete with all their children: anything may wait for them."""

    def write(self, parent: str | None, depth: int) -> str:
        choose = self.choose
        self.left -= 1
        name = f"s{len(self.steps)}"
        path = name if parent is None else f"{parent}/{name}"
        is_parent = self.left > 0 and depth < DEPTH and choose(4) == 1
        config = FlowConfig(
            name=name,
            flow_type=one_of(choose, ORDERS if is_parent else PLACEMENTS),
            retries=one_of(choose, POLICIES),
            max_crashes=1 + choose(3),
            queue=one_of(choose, QUEUES),
        )
        step = self.steps[path] = Step(path, parent, config, ANYTHING)
        for upstream in some_of(choose, self.done, 2 + choose(2)):
            step.deps[upstream] = Dependency(self._kind(), has_value=choose(4) != 1)
        if is_parent:
            self._write_children(step, depth)
        elif choose(3) == 1:
            step.over, step.item_parameter = self._items(step), "item"
        self.done.append(path)
        return path

    def _write_children(self, step: Step, depth: int) -> None:
        children: list[str] = []
        for _ in range(min(1 + self.choose(4), self.left)):
            if not self.left:
                break
            child = self.write(step.path, depth + 1)
            step.depend(child, Dependency(self._kind()))
            if step.config.flow_type is FlowType.SEQUENTIAL and children:
                self.steps[child].depend(children[-1], Dependency(DependencyType.REQUIRED))
            children.append(child)

    def _items(self, step: Step) -> Arg:
        sources = [upstream for upstream, dependency in step.deps.items() if dependency.has_value]
        if sources and self.choose(2):
            return ("step", one_of(self.choose, sources))
        return ("const", list(range(self.choose(5))))

    def _kind(self) -> DependencyType:
        return one_of(self.choose, (DependencyType.REQUIRED, DependencyType.OPTIONAL))
