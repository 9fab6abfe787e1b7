"""Processors that do not end by themselves."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from pydantic import BaseModel

from flowq import Flow, FlowConfig, FlowType, RetryPolicy
from tests.conformance.engines.effects import note
from tests.conformance.engines.flows.dependencies import Step


class Busy(BaseModel):
    """Computes without end; never blocks, never yields."""

    def process(self, input_data: dict[str, Any]) -> None:
        note(input_data["log"], "start")
        while True:
            pass


class Blocked(BaseModel):
    """Sits in one long system call."""

    sleep_s: float = 60

    def process(self, input_data: dict[str, Any]) -> None:
        note(input_data["log"], "start")
        time.sleep(self.sleep_s)


class Waiting(BaseModel):
    """Awaits what does not come."""

    async def process(self, input_data: dict[str, Any]) -> None:
        note(input_data["log"], "start")
        await asyncio.sleep(60)


class Stubborn(BaseModel):
    """Swallows whatever is raised in it."""

    def process(self, input_data: dict[str, Any]) -> None:
        note(input_data["log"], "start")
        while True:
            try:
                time.sleep(60)
            except BaseException:
                note(input_data["log"], "swallowed")


class Raising(BaseModel):
    """Raises a TimeoutError of its own, which is a failure like any other."""

    async def process(self, input_data: dict[str, Any]) -> None:
        raise TimeoutError("the database did not answer")


def before_optional(
    processor: Any, placement: FlowType, timeout_s: float = 0.3, retries: int | RetryPolicy = 0
) -> Flow:
    """Put the processor before an optional edge."""
    end = Flow(Step(), FlowConfig(name="end"))
    config = FlowConfig(name="slow", timeout=timeout_s, retries=retries, flow_type=placement)
    Flow(processor, config).register_to(end, optional=True)
    return end
