"""A server that has come back with a part of its file: what it holds, and that all of it ends as it must.

The work is done by a worker in this very thread, on a clock that the test sets: so no wait takes any time.
"""

from __future__ import annotations

import itertools
from collections import deque
from contextlib import ExitStack
from typing import Any, NamedTuple, Self

import pytest

from flowq import FlowContext, FlowStatus, RunNotFound, Settings
from flowq.core.types import FINAL
from flowq.runtime.replies import Claimed, Message
from flowq.runtime.scripts import OutcomeEntry, Scripts
from flowq.runtime.state import Record, State
from flowq.runtime.worker import WorkerProcess
from flowq.testing.keyspace import open_keys
from tests.chaos.aof.recording import LEASE, PREFIX, Recording
from tests.chaos.replies.clocked import Clock, clocked
from tests.chaos.replies.fleet import answer, taking_canvases
from tests.chaos.replies.oracles import check, recorded_ends
from tests.property.calls import Changes

STEP_S = 4.0
"""How far the clock goes when nothing is left to do: far less than a lease, or that would be a silence."""

MOST_STEPS = 60
"""Then a run is stuck."""

MOST_ZOMBIES = 20
"""Claims from the part that is gone that one prefix is tried with."""


class Held(NamedTuple):
    """What the server holds of a run when it is back."""

    status: FlowStatus
    ends: dict[bytes, tuple[bytes, bytes | None]]
    """The nodes that have ended, with their records and outputs as they are stored."""


class Messages(deque[Any]):
    """What is to be sent, in order."""

    put = deque.append


class Survivor:
    """The worker that finds the server as it is. A context manager."""

    def __init__(self, server_url: str, recording: Recording, changes: Changes | None = None) -> None:
        self._recording, self._changes = recording, changes
        self._messages = Messages()
        self.context = FlowContext(Settings(broker_url="memory://", state_url=server_url, **LEASE))
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        app: Any = self.context.celery_app
        app.send_task = lambda _name, args, **_options: self._messages.append(tuple(args))
        self._stack.enter_context(taking_canvases(self._messages))
        self._worker = WorkerProcess(self.context, "survivor@here")
        self._state: State = self._worker.state
        self.client = self._state.client
        self._clock: Clock = clocked(self._state.scripts, self.client, PREFIX, self._changes)
        self._worker.leases.remind = _ignore  # type: ignore[assignment,method-assign] # no sweeps but those of this thread
        self._zombie = Scripts(self.client, self.context.settings)
        self._zombie._installed = self._state.scripts._installed
        self._zombie.holder = self._recording.holder
        self._zombie._callers.next = (f"zombie.{number}" for number in itertools.count()).__next__  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self.context.close()

    def finish(self) -> int:
        """Find what is there, bring it to its end, and check everything; gives how many runs there were.

        The clock has to be there, see ``show_clock``.
        """
        self._messages.clear()
        before = {run: held for run in self._recording.runs if (held := self._look(run)) is not None}
        self._try_zombies(before)
        self._work(before)
        for run in self._recording.runs:
            if run not in before:
                with pytest.raises(RunNotFound):
                    self.context.client.handle(run)  # type: ignore[attr-defined]
            else:
                self._check(run, before[run])
        self._check_keys()
        return len(before)

    def show_clock(self) -> None:
        """Set the clock: it went with the server's data."""
        self._clock.show()

    def _look(self, run: str) -> Held | None:
        try:
            head = self._state.head(run)
        except RunNotFound:
            return None
        keys = self._state.keys
        records = self.client.hgetall(keys.nodes(run))
        outputs = self.client.hgetall(keys.values(run))
        ends = {
            key: (record, outputs.get(key)) for key, record in records.items() if Record.parse(record).status in FINAL
        }
        return Held(FlowStatus(head["status"]), ends)

    def _work(self, held: dict[str, Held]) -> None:
        """Do what a worker does, until all runs have ended."""
        scripts, settings = self._state.scripts, self.context.settings
        for _ in range(MOST_STEPS):
            self._send(scripts.register(worker=self._worker.name, queues=[settings.queue], slots=4))
            self._send(scripts.sweep(worker=self._worker.name, every_ms=0).messages)
            while self._messages:
                answer(self._worker, self._messages.popleft(), self._clock.go)
            if all(FlowStatus(self._state.head(run)["status"]).is_final for run in held):
                return
            self._clock.go(STEP_S)
        stuck = {run: self._state.head(run) for run in held}
        raise AssertionError(f"runs are stuck: {[head for head in stuck.values() if head['status'] == 'running']}")

    def _send(self, messages: list[Message]) -> None:
        self._worker.send(messages)

    def _check(self, run: str, held: Held) -> None:
        case, client = self._recording.runs[run], self.context.client
        handle = client.handle(run)  # type: ignore[attr-defined]
        now = self._look(run)
        assert now is not None
        changed = {key: (end, now.ends.get(key)) for key, end in held.ends.items() if now.ends.get(key) != end}
        assert changed == {}, "what was recorded has changed"
        if held.status.is_final:
            assert now == held, "a run that had ended has changed"
        if now.status is FlowStatus.CANCELLED:
            assert run in self._recording.cancelled
            assert held.status is FlowStatus.CANCELLED
            assert set(recorded_ends(handle).values()) <= {1}
        else:
            check(handle, case, timeout_s=0)

    def _check_keys(self) -> None:
        """Let time pass, and see that everything that is left will go."""
        for _ in range(20):
            self._clock.go(STEP_S)
            self._send(self._state.scripts.sweep(worker=self._worker.name, every_ms=0).messages)
            while self._messages:  # hints about nothing
                answer(self._worker, self._messages.popleft(), self._clock.go)
            if not open_keys(self.context):
                return
        raise AssertionError(f"keys without TTL: {open_keys(self.context)}")

    # ── zombies: processes that go on with claims of which the server knows nothing any more

    def _try_zombies(self, held: dict[str, Held]) -> None:
        """Have them tell how their attempts ended, before and after somebody else has the same nodes."""
        gone = [claim for claim in self._recording.claims if claim.run in held and not self._is_valid(claim)]
        if not gone:
            return
        gone = gone[:: max(1, len(gone) // MOST_ZOMBIES)]
        self._refuse(gone)
        lost, _ = self._zombie.renew(leases=[claim.lease for claim in gone], tokens=[])
        assert sorted(lost) == list(range(len(gone))), "a lease that nobody has given counts"
        scripts, queue = self._state.scripts, self.context.settings.queue
        self._clock.go(0.01)
        given: dict[str, Any] = {"worker": self._worker.name, "token": "second", "queue": queue}
        mine = scripts.claim(**given, process=20, thread=20, busy=1).claims
        same = {(claim.run, claim.key) for claim in mine}
        self._refuse([claim for claim in self._recording.claims if (claim.run, claim.key) in same])
        released = [_outcome(claim, "released") for claim in mine]
        following = scripts.settle(**given, process=0, thread=0, busy=0, inline=False, outcomes=released)
        assert following.stale == [], "the one who has the node is refused"
        self._send(following.messages)

    def _is_valid(self, claim: Claimed) -> bool:
        (record,) = self._state.records(claim.run, [claim.key])
        return record is not None and record.fence == claim.fence

    def _refuse(self, claims: list[Claimed]) -> None:
        """Settle claims, and open them if they are maps: none may count."""
        outcomes = [_outcome(claim, "completed") for claim in claims]
        found = self._zombie.settle(worker="zombie", inline=False, outcomes=outcomes)
        taken = [claims[position].lease for position in range(len(claims)) if position not in found.stale]
        assert taken == [], "outcomes of claims that the server never gave are recorded"
        for claim in claims[:5]:
            counted, _ = self._zombie.extend(
                run=claim.run, key=claim.key, fence=claim.fence, offset=0, total=1, values=[b"of a zombie"]
            )
            assert not counted, "a map is opened by a claim that the server never gave"


def _ignore(*_: Any) -> None:
    """Do nothing."""


def _outcome(claim: Claimed, kind: str) -> OutcomeEntry:
    value = b"of a zombie" if kind == "completed" else None
    return OutcomeEntry(claim.key, value, claim.run, claim.fence, kind)
