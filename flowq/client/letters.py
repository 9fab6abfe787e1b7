"""Dead letters: nodes that were given up, kept for a person to look at."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict

from flowq.core.errors import RunNotFound
from flowq.core.result import Failure
from flowq.core.types import NodeStatus
from flowq.runtime.events import Ref
from flowq.runtime.missing import label
from flowq.runtime.state import State


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
    found, gone = [], []
    for entry, at in state.client.zrange(state.keys.dead, 0, -1, desc=True, withscores=True):
        run, key = entry.decode().split(" ")
        try:
            head = state.head(run)
        except RunNotFound:
            gone.append(entry.decode())
            continue
        ref = Ref.parse(key)
        record = state.records(run, [key])[0]
        if record is None or record.status is not NodeStatus.FAILED:  # it was retried
            gone.append(entry.decode())
            continue
        text = state.client.hget(state.keys.failures(run), key)
        found.append(
            DeadLetter(
                run_id=run,
                flow=head["name"],
                node=label(state.plan(head["plan"]), ref),
                key=key,
                at=datetime.fromtimestamp(at / 1000, UTC),
                failure=None if text is None else Failure.model_validate_json(text),
            )
        )
    if gone:
        state.scripts.drop(letters=gone)
    return found
