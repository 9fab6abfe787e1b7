"""Nodes that go on until somebody stops them."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from pydantic import BaseModel

from flowq import Flow, FlowConfig, FlowType, flow, task
from tests.conformance.engines.effects import note


class Endless(BaseModel):
    """Notes its process, and how it was stopped if it could."""

    def process(self, input_data: dict[str, Any]) -> None:
        note(input_data["log"], "start", os.getpid())
        try:
            while True:
                time.sleep(0.01)
        except BaseException as error:
            note(input_data["log"], "stopped", type(error).__name__)
            raise


class AsyncEndless(BaseModel):
    async def process(self, input_data: dict[str, Any]) -> None:
        note(input_data["log"], "start", os.getpid())
        try:
            await asyncio.sleep(60)
        except BaseException as error:
            note(input_data["log"], "stopped", type(error).__name__)
            raise


class Quick(BaseModel):
    def process(self, input_data: dict[str, Any]) -> int:
        note(input_data["log"], "start", os.getpid())
        return 1


def endless(placement: FlowType, *, is_async: bool = False) -> Flow:
    """Give quick ─▶ endless ─▶ late ─▶ end."""
    end = Flow(Quick(), FlowConfig(name="end"))
    quick = Flow(Quick(), FlowConfig(name="quick", flow_type=placement))
    processor = AsyncEndless() if is_async else Endless()
    middle = Flow(processor, FlowConfig(name="endless", flow_type=placement, retries=3))
    late = Flow(Quick(), FlowConfig(name="late", flow_type=placement))
    quick.register_to(end)
    middle.register_to(end, required_deps=[quick.process_id])
    late.register_to(end, optional_deps=[middle.process_id])
    return end


@task
def slow_item(item: int, log: str) -> int:
    note(log, "start", item)
    time.sleep(0.05)
    return item


@flow
def many_slow_items(count: int, log: str) -> list[int]:
    return slow_item.map(items_of(count), log=log)


@task
def items_of(count: int) -> list[int]:
    return list(range(count))


class CancelsItself(BaseModel):
    """Awaits something of its own that was cancelled: a failure, and nobody's wish to end the run."""

    async def process(self, input_data: dict[str, Any]) -> None:
        inner = asyncio.ensure_future(asyncio.sleep(60))
        inner.cancel()
        await inner


class Leaves(BaseModel):
    """Calls sys.exit, as a script would."""

    def process(self, input_data: dict[str, Any]) -> None:
        raise SystemExit(3)
