"""A flow whose nodes are short, but for one that waits until it may go on."""

from __future__ import annotations

import time
from pathlib import Path

from flowq import flow, task

WARM_UP = 40
"""So many nodes before it make the processor known as short."""


@task
def wait_for(number: int, gate: str) -> int:
    if number == WARM_UP:
        while not Path(gate).exists():
            time.sleep(0.02)
    return number


@flow
def gated(numbers: list[int], gate: str) -> list[int]:
    return wait_for.map(numbers, gate=gate)
