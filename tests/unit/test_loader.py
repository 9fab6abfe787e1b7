"""What a claim did not bring along is read in few calls, however many upstreams there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flowq.plan import Plan
from flowq.plan.model import Edge, Node
from flowq.runtime.remote import Loader
from flowq.runtime.replies import Claimed

WIDTH = 500


def test_the_inputs_of_a_wide_fan_in_are_read_together():
    edges = tuple(Edge(upstream, True, f"u{upstream}") for upstream in range(WIDTH))
    leaves = (Node(f"n{index}", "m:f") for index in range(WIDTH))
    plan = Plan((*leaves, Node("sink", "m:f", edges=edges)), output=WIDTH)
    asked: list[list[str]] = []

    def values(run: str, keys: list[str]) -> list[bytes]:
        asked.append(keys)
        return [f"j{key}".encode() for key in keys]

    state: Any = SimpleNamespace(plan=lambda _: plan, values=values, records=lambda run, keys: [None] * len(keys))
    context: Any = SimpleNamespace(results=SimpleNamespace(unpack=lambda run, data: data))
    claim = Claimed("r", str(WIDTH), 1, 0, 1, plan.hash, b"j{}", None, 0, None, None)
    inputs = Loader(context, state).attempt(claim).inputs
    assert [inputs.load(upstream) for upstream in range(WIDTH)] == [
        f"j{upstream}".encode() for upstream in range(WIDTH)
    ]
    assert len(asked) == 1
