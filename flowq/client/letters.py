"""Dead letters: nodes that were given up, kept for a person to look at."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict

from flowq.core.result import Failure
from flowq.core.types import NodeStatus
from flowq.results.connection import store_errors
from flowq.runtime.events import Ref
from flowq.runtime.missing import label
from flowq.runtime.state import Record, State

CHUNK = 1000
"""Letters that are looked up at once."""


class DeadLetter(BaseModel):
    """A node whose attempts died with their workers, or that no worker knew how to run."""

    model_config = ConfigDict(frozen=True)

    run_id: str
    flow: str
    node: str
    """Its path; of a map's item, with the item's position."""
    key: str
    """Names it where it is kept."""
    at: datetime
    failure: Failure | None


def dead_letters(state: State) -> list[DeadLetter]:
    """Give the dead letters, the latest first; those of runs that are gone are dropped."""
    letters: list[DeadLetter] = []
    gone: list[str] = []
    entries = state.client.zrange(state.keys.dead, 0, -1, desc=True, withscores=True)
    for first in range(0, len(entries), CHUNK):
        chunk = [(entry.decode(), at) for entry, at in entries[first : first + CHUNK]]
        for (entry, at), (name, plan, record, failure) in zip(chunk, _looked_up(state, chunk), strict=True):
            if (
                record is None or Record.parse(record).status is not NodeStatus.FAILED
            ):  # it was retried, or its run gone
                gone.append(entry)
                continue
            run, key = entry.split(" ")
            letters.append(
                DeadLetter(
                    run_id=run,
                    flow=name.decode(),
                    node=label(state.plan(plan.decode()), Ref.parse(key)),
                    key=key,
                    at=datetime.fromtimestamp(at / 1000, UTC),
                    failure=None if failure is None else Failure.model_validate_json(failure),
                )
            )
    if gone:
        state.scripts.drop(letters=gone)
    return letters


def _looked_up(state: State, entries: list[tuple[str, float]]) -> Iterator[tuple[Any, Any, Any, Any]]:
    """Give the flow, the plan, the record and the failure of each, in one round trip."""
    with store_errors, state.client.pipeline(transaction=False) as pipe:
        for entry, _ in entries:
            run, key = entry.split(" ")
            pipe.hmget(state.keys.run(run), ("name", "plan"))
            pipe.hget(state.keys.nodes(run), key)
            pipe.hget(state.keys.failures(run), key)
        found = pipe.execute()
    for position in range(0, len(found), 3):
        (name, plan), record, failure = found[position : position + 3]
        yield name, plan, None if plan is None else record, failure
