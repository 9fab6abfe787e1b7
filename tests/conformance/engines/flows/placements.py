"""Nodes that wait for each other: only if all of them run at once does any of them end."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import Any

from pydantic import BaseModel

from flowq import Flow, FlowConfig, FlowType, current_attempt
from tests.conformance.engines.effects import effects, note

GIVE_UP_S = 15.0


class Meets(BaseModel):
    """Ends when so many nodes of its run have begun."""

    others: int

    def process(self, input_data: dict[str, Any]) -> str:
        self.arrive(input_data["log"])
        deadline = time.monotonic() + GIVE_UP_S
        while not self.all_there(input_data["log"]):
            if time.monotonic() > deadline:
                raise TimeoutError("the others did not come")
            time.sleep(0.01)
        return threading.current_thread().name

    def arrive(self, log: str) -> None:
        note(log, "start", os.getpid())

    def all_there(self, log: str) -> bool:
        return len(effects(log, current_attempt().run_id)) >= self.others


class AsyncMeets(Meets):
    async def process(self, input_data: dict[str, Any]) -> str:  # type: ignore[override]
        self.arrive(input_data["log"])
        async with asyncio.timeout(GIVE_UP_S):
            while not self.all_there(input_data["log"]):  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(0.01)
        return threading.current_thread().name


def meeting(count: int, placement: FlowType, *, is_async: bool) -> Flow:
    end = Flow(None, FlowConfig(name="end"))
    for i in range(count):
        processor = AsyncMeets(others=count) if is_async else Meets(others=count)
        Flow(processor, FlowConfig(name=f"n{i}", flow_type=placement)).register_to(end)
    return end
