"""What nodes did, as they wrote it down themselves: a file that they append to, on one clock of the machine."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from flowq import current_attempt


class Effect(NamedTuple):
    """One line of the log."""

    run: str
    node: str
    attempt: int
    what: str
    at: int
    """CLOCK_MONOTONIC, which all processes of a machine share; nanoseconds."""
    more: Any = None


def note(log: str, what: str, more: Any = None) -> None:
    """Append one line; called by processors. O_APPEND makes a short write one piece, whoever else writes."""
    info = current_attempt()
    line = json.dumps([info.run_id, info.node, info.attempt, what, time.monotonic_ns(), more]).encode() + b"\n"
    file = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        assert os.write(file, line) == len(line)
    finally:
        os.close(file)


def effects(log: str | Path, run: str | None = None) -> list[Effect]:
    """Give what was noted (by one run), in order."""
    path = Path(log)
    lines = path.read_text().splitlines() if path.exists() else []
    found = [Effect(*json.loads(line)) for line in lines]
    return [effect for effect in found if run is None or effect.run == run]


def by_node(log: str | Path, run: str, what: str) -> dict[str, list[Effect]]:
    """Give one kind of effect by node."""
    found: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects(log, run):
        if effect.what == what:
            found[effect.node].append(effect)
    return dict(found)
