"""Steps that succeed, fail and skip on demand, and flows that put them before required and optional edges."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FlowType, Skip, flow, optional, required, task


class Step(BaseModel):
    """Behaves as it is told, and says what it saw."""

    does: str = "succeed"

    def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> dict[str, Any]:
        if self.does == "fail":
            raise ValueError("told to fail")
        if self.does == "skip":
            raise Skip("nothing to do")
        missing = {name: str(reason) for name, reason in dependencies.missing().items()}
        return {"saw": {name: dependencies[name] is not None for name in dependencies}, "missing": missing}


class Sleeper(BaseModel):
    """Takes longer than it may."""

    async def process(self, input_data: dict[str, Any]) -> None:
        import asyncio

        await asyncio.sleep(60)


def step(name: str, does: str = "succeed", **options: Any) -> Flow:
    return Flow(Step(does=does), FlowConfig(name=name, **options))


def parent(name: str = "end", flow_type: FlowType = FlowType.PARALLEL) -> Flow:
    return Flow(Step(), FlowConfig(name=name, flow_type=flow_type))


@task
def number(value: int) -> int:
    return value


@task
def broken(value: int) -> int:
    raise ValueError(f"told to fail with {value}")


@task
def nothing(value: int) -> int:
    raise Skip("nothing to do")


@task
def both(first: int, second: int | None = None) -> list[int | None]:
    return [first, second]


@flow
def optional_by_annotation(value: int) -> list[int | None]:
    return both(number(value), broken(value))


@flow
def optional_by_word(value: int) -> list[int | None]:
    return both(optional(broken(value)), number(value))


@flow
def required_by_word(value: int) -> list[int | None]:
    return both(number(value), required(broken(value)))


@flow
def skipped_upstream(value: int) -> list[int | None]:
    return both(number(value), nothing(value))


@flow
def only_skipped(value: int) -> int:
    return number(nothing(value))
