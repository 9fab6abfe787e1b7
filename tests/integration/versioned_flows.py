"""A processor that says which version it is; the worker's environment decides."""

from __future__ import annotations

import os
from typing import Any, ClassVar

from pydantic import BaseModel

from flowq import Flow, FlowConfig, flow, task

VERSION = os.environ.get("SHOP_VERSION", "1")


class Charge(BaseModel):
    processor_version: ClassVar[str] = VERSION

    def process(self, input_data: dict[str, Any]) -> str:
        return f"{self.processor_version} in {os.getpid()}"


@task(version=VERSION)
def pack(order: int) -> str:
    return f"{VERSION} in {os.getpid()}"


@flow
def ship(order: int) -> str:
    return pack(order)


def charge() -> Flow:
    return Flow(processor=Charge(), config=FlowConfig(name="charge"))
