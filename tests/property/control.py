"""The twin with what is done to runs and processes as wholes.

Runs are paused and resumed, have deadlines, and are retried when they have ended: from nothing, from nodes, from items.
Processes die with what they hold, found by the sweep or buried by their parent; or hand everything back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from flowq.client import retrying as production
from flowq.core.errors import RunStatusError
from flowq.core.types import FlowType, NodeStatus
from flowq.plan import Plan
from flowq.runtime import events
from flowq.runtime.events import Ref
from flowq.runtime.reopening import blockers, reopen
from flowq.runtime.state import Record, State
from tests.property.calls import Changes
from tests.property.choices import one_of, some_of
from tests.property.faults import PAST_MS
from tests.property.reference import Ending
from tests.property.runs import DELAY_MS, Run
from tests.property.twin import MOST_STEPS, Twin, random_twin

MOST_LIVES = 3
"""Of a run."""


FAR_MS = 10**15
"""When a process is taken for dead that lives."""


class ControlTwin(Twin):
    """Runs of plans, on both, with control."""

    endings = (*[Ending.COMPLETED] * 6, *[Ending.LOST] * 3, *Ending)
    deadline_ms = DELAY_MS
    retrying = production
    """What clients retry with; tests plant bugs in it."""

    def run(self) -> None:
        """Drive all runs to their ends, and check these; and again, when some have been retried."""
        for _ in range(self.choose(MOST_STEPS)):
            self._step()
        self._drive()
        for _ in range(self.choose(MOST_LIVES)):
            for _ in range(1 + self.choose(3)):
                self._retry()
                self._check()
            for _ in range(self.choose(MOST_STEPS // 3)):
                self._step()
            self._drive()
        self._forget()

    def _steps(self) -> Sequence[Callable[[], None]]:
        own = (self._pause, self._resume, self._overrun, self._retry, self._bury, self._bury)
        return (*super()._steps(), *own)

    def _progress(self) -> None:
        paused = [run for run, seen in self.seen.runs.items() if seen.is_open and seen.is_paused]
        if paused and not self._at_work():
            self._resume()
            self._check()
        else:
            super()._progress()

    # ── runs

    def _pause(self) -> None:
        run = one_of(self.choose, list(self.runs.values()))
        status = self._call("pause", run=run.id)
        assert status == self._look().runs[run.id].head["status"]
        assert self._look().runs[run.id].is_paused or run.state.status.is_final

    def _resume(self) -> None:
        seen = self.seen.runs
        paused = [run for run in self.runs.values() if seen[run.id].is_open and seen[run.id].is_paused]
        run = one_of(self.choose, paused or list(self.runs.values()))
        changed = self._call("resume", run=run.id)
        self.seen = self._look()
        assert changed.said == self.seen.runs[run.id].head["status"]
        assert not (self.seen.runs[run.id].is_paused and self.seen.runs[run.id].is_open)
        assert changed.unfinished or not self.seen.runs[run.id].aside, "the caller goes on"

    def _overrun(self) -> None:
        """Let a run's time be over."""
        deadlines = sorted(timer for timer in self.seen.timers if timer.endswith(" deadline 0"))
        expected = {f"{run.id} deadline 0" for run in self.runs.values() if self._has_deadline(run)}
        assert expected == {*deadlines}
        if not deadlines or self.choose(6) != 1:
            return
        deadline = one_of(self.choose, deadlines)
        for _ in range(MOST_STEPS):
            if self._behind():
                self._advance()
            elif self.dead or any(due < PAST_MS for due in self.seen.timers.values()):
                self._sweep()  # what comes before it
        if deadline in self.seen.timers:
            self._make_due(self.calls.keys.timers, deadline)
            self._sweep()

    def _has_deadline(self, run: Run) -> bool:
        return run.lives == 1 and self.seen.runs[run.id].is_open

    def _retry(self) -> None:
        """Open an ended run again, as a client does."""
        ended = [run for run in self.runs.values() if run.state.status.is_final and run.lives < MOST_LIVES]
        ended = [run for run in ended if not self.seen.runs[run.id].is_behind]  # else the store has yet to end it
        if not ended:
            return
        run = one_of(self.choose, ended)
        refs = sorted(ref for ref in run.state.nodes if ref.item < 0 or self._is_item(run, ref))
        roots = some_of(self.choose, refs, 2)
        is_possible = not blockers(run.state, roots)
        try:
            changed = self.retrying.retry(self._state_of(run), run.id, roots)
        except RunStatusError:
            assert not is_possible or not roots
            return
        assert is_possible
        assert changed.said == "ok"
        self._reopened(run, roots)
        self.seen = self._look()
        assert changed.unfinished == bool(self.seen.runs[run.id].todo)

    def _is_item(self, run: Run, ref: Ref) -> bool:
        return run.state.nodes[Ref(ref.node)].opened == run.state.nodes[Ref(ref.node)].total

    def _reopened(self, run: Run, roots: list[Ref]) -> None:
        """Tell the state machine, and forget what is made anew."""
        opened = reopen(run.state, roots)
        assert opened.anew
        self.fresh |= {(run.id, ref) for ref in opened.ready}
        run.lives += 1
        run.cut = None
        for ref in opened.dropped:
            run.inputs.pop(ref, None)
        open_maps = {ref for ref in opened.anew if run.state.nodes[ref].status is NodeStatus.RUNNING}
        for ref in {*opened.anew, *opened.dropped}:
            run.letters.discard(ref)
            run.outputs.pop(ref, None)
            if ref not in open_maps:
                run.ended.pop(ref, None)
                run.fates.renew(ref)
        states = run.state.nodes.items()
        run.kept = {
            ref
            for ref, node in states
            if node.status is NodeStatus.CANCELLED
            and (ref.item < 0 or run.state.nodes[Ref(ref.node)].status is NodeStatus.RUNNING)
        }

    def _state_of(self, run: Run) -> State:
        """Give what a client retries with; its calls go through the test's hands."""
        client, keys = self.calls.client, self.calls.keys

        def head(_: str) -> dict[str, str]:
            return {name.decode(): text.decode() for name, text in client.hgetall(keys.run(run.id)).items()}

        def all_records(_: str) -> dict[Ref, Record]:
            found = client.hgetall(keys.nodes(run.id)).items()
            return {Ref.parse(key.decode()): Record.parse(text) for key, text in found}

        scripts = SimpleNamespace(
            retry=lambda **given: self._call("retry", **given), stage=lambda **given: self._call("stage", **given)
        )
        plan: Callable[[str], Plan] = lambda _: run.plan  # noqa: E731
        state: Any = SimpleNamespace(
            client=client, keys=keys, head=head, all_records=all_records, scripts=scripts, plan=plan
        )
        return cast("State", state)

    # ── processes

    def _bury(self) -> None:
        """Let a process end, and its parent say so."""
        event: type[events.Expire | events.Release]
        running = ""
        if self.choose(2):
            work = self._at_work()
            released = some_of(self.choose, work, 4) or work[:1]
            for run, ref in released:
                run.fates.release(ref, run.ended.get(ref, 0))
            leases, event = [run.held[ref].lease for run, ref in released], events.Release
        else:
            lost = self._lost()
            leases, event = [run.held[ref].lease for run, ref in lost], events.Expire
            if leases and len(leases) <= self.limits.batch and self.choose(2):
                running = self._blame(lost)
        buried = [self._hold_dead(leases, event, FAR_MS)] if leases else []
        before = self._look()
        self._call_as(one_of(self.choose, self.holders[:2]))
        tokens = some_of(self.choose, self.tokens, 2)
        drains = [(self.calls.keys.drains(token.queue), token.token) for token in tokens]
        self._call(
            "bury",
            holders=buried,
            tokens=[" ".join(token) for token in tokens],
            crashed=event is events.Expire,
            running=running,
        )
        assert not any(self.calls.client.zscore(*drain) for drain in drains), "a drain outlives its process"
        for holder in buried:
            self._taken_of(holder, event, self.limits.batch, before, running)
        for holder in buried:
            if len(leases) > self.limits.batch:
                self.dead[holder] = (0 if event is events.Expire else -1, event)  # the sweep goes on with the rest
            else:
                self.dead.pop(holder, None)

    def _blame(self, lost: list[tuple[Run, Ref]]) -> str:
        """Choose what the main thread was at when its process died; what else it held in that lane is innocent."""
        guilty = one_of(self.choose, lost)
        for run, ref in lost:
            if (run, ref) != guilty and run.plan.nodes[ref.node].placement is not FlowType.THREAD:
                run.fates.release(ref, run.ended.get(ref, 0))
        return guilty[0].held[guilty[1]].lease


def random_control(client: Any, seed: int, changes: Changes | None = None) -> ControlTwin:
    """Give a few runs that are the same for a seed."""
    return cast("ControlTwin", random_twin(client, seed, changes, ControlTwin))
