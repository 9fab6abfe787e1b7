"""Flows that a test draws at random: what each node does, what it needs and what it can do without."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flowq import FlowType, FunctionFlow, Skip, flow, optional, required, task


def digest(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


@task
def node(name: str, does: str, needs: list[Any], wants: list[Any]) -> str:
    if does == "skip":
        raise Skip("nothing to do")
    if does == "fail":
        raise ValueError(f"{name} is told to fail")
    return digest(name, needs, wants)


@task
def numbers(name: str, count: int, needs: list[Any], wants: list[Any]) -> list[int]:
    return list(range(count))


@task
def item(number: int, fails_at: int) -> str:
    if number == fails_at:
        raise ValueError(f"item {number} is told to fail")
    return digest(number)


@dataclass
class Drawn:
    """One node of a drawn flow."""

    name: str
    does: str = "succeed"
    """``succeed``, ``fail``, ``skip``, or ``map``: count to ``count`` and map over that."""
    needs: list[int] = field(default_factory=list)
    wants: list[int] = field(default_factory=list)
    placement: FlowType = FlowType.PROCESS
    count: int = 0
    fails_at: int = -1


def flow_of(nodes: list[Drawn]) -> FunctionFlow[..., Any]:
    """Make a flow of these nodes; each knows those before it by their positions. Its output is the last one's."""

    def drawn() -> Any:
        done: list[Any] = []
        for spec in nodes:
            needs = [required(done[index]) for index in spec.needs]
            wants = [optional(done[index]) for index in spec.wants]
            options = {"name": spec.name, "flow_type": spec.placement}
            done.append(_write(spec, options, needs, wants))
        return done[-1]

    return flow(drawn)


def _write(spec: Drawn, options: dict[str, Any], needs: list[Any], wants: list[Any]) -> Any:
    if spec.does != "map":
        call: Callable[..., Any] = node.options(**options)
        return call(spec.name, spec.does, needs, wants)
    counted = numbers.options(**options | {"name": f"{spec.name}-count"})(spec.name, spec.count, needs, wants)
    return item.options(name=spec.name).map(counted, spec.fails_at)
