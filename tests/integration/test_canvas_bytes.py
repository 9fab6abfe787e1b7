"""How large a canvas's messages are, as they are published: none over 64 KB, all together as the graph grows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from flowq import FunctionFlow, flow, task
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet
from tests.conformance.leftovers import clear_now
from tests.integration import canvas_sizes

LARGEST = 64 * 1024
TIMEOUT_S = 100.0


@task
def one(x: int) -> int:
    return x + 1


@task
def total(values: list[int]) -> int:
    return sum(values)


@flow
def thousand_steps(x: int) -> int:
    for _ in range(1000):
        x = one(x)
    return x


@flow
def six_layers(x: int) -> int:
    """Every node of a layer stands after all of the one before."""
    layer: list[Any] = []
    for _ in range(6):
        layer = [one(x, after=layer) for _ in range(150)]
    return total(layer)


def nested_chords(deep: int, fan: int) -> FunctionFlow[..., int]:
    """Give a tree that is added up from its leaves."""

    @flow
    def tree(x: int) -> int:
        def below(level: int) -> Any:
            return one(x) if level == 0 else total([below(level - 1) for _ in range(fan)])

        return total([below(deep - 1) for _ in range(fan)])

    return tree


@pytest.fixture(scope="module")
def workers(tmp_path_factory) -> Iterator[EmbeddedContext]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(canvas_sizes.LOG, str(tmp_path_factory.mktemp("sizes") / "log"))
        patch.setattr(canvas_sizes.CHANNEL, "_put", canvas_sizes.CHANNEL._put)  # put back what install changes
        canvas_sizes.install()
        with fleet(2, [__name__, canvas_sizes], settings={"lease_s": 300}) as started:
            yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    canvas_sizes.reset()
    yield workers
    clear_now(workers)


def check_sizes(sizes: list[int], nodes: int, per_node: int) -> None:
    assert len(sizes) >= nodes
    assert max(sizes) < LARGEST
    assert sum(sizes) <= per_node * nodes


CASES: dict[str, tuple[Any, int, int, int]] = {
    "1,000 steps": (thousand_steps, 1000, 1000, 8 * 1024),
    "6 x 150, each after all before": (six_layers, 901, 150, 2 * 1024),  # six bytes for each node before would be more
    "chords in chords in chords": (nested_chords(3, 10), 1111, 1000, 4 * 1024),  # by hand 4 deep: 11,111, a minute
}
"""A flow, its nodes, its output, and the bytes of a node's messages on average: one is about 1 KB, and what follows in
its segment is carried along."""


@pytest.mark.parametrize(("case", "nodes", "output", "per_node"), CASES.values(), ids=CASES)
def test_the_bytes_of_a_canvas(context, case, nodes, output, per_node):
    handle = case.submit(0, context=context, dispatch="canvas")
    result = handle.result(TIMEOUT_S)
    assert (result.output, len(result.nodes)) == (output, nodes)
    check_sizes(canvas_sizes.sizes(), nodes, per_node)
    state = State.of(context)
    assert state.client.hget(state.keys.run(handle.run_id), "lost") is None
