"""What clients ask of the simulated store: runs are started, cancelled, paused, resumed, retried and looked at."""

from __future__ import annotations

from typing import Any, NamedTuple

from flowq.core.types import FlowStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import RunState
from flowq.runtime.reopening import Reopened
from flowq.runtime.replies import Message
from tests.chaos.simulation import history as word
from tests.chaos.simulation.claims import DEADLINE, Claims
from tests.chaos.simulation.delivery import Call
from tests.chaos.simulation.kept import Stored, copied_state


class Submitted(NamedTuple):
    messages: list[Message]
    epoch: str


class Changed(NamedTuple):
    said: str
    messages: list[Message]


class Control(Claims):
    """Runs as a whole."""

    def clear(self) -> None:
        super().clear()
        self.epoch = ""
        """Made anew when there is none: then the data is gone, too."""

    def _begin_epoch(self, call: Call) -> None:
        if not self.epoch:
            self.epoch = f"{call[0]}.{call[1]} {self.now}"  # a call that is repeated makes another one

    def submit(self, call: Call, run: str, plan: Plan, deadline: int) -> Submitted:
        """Start a run; one that exists is left alone."""
        self._begin_epoch(call)
        if run not in self.runs:
            state, commands = self.machine.start(plan)
            stored = self.runs[run] = Stored(run, plan, plan.hash, state, self.now)
            if deadline:
                self.timers[run, DEADLINE, 0] = self.now + deadline
            self.history.append((word.SUBMITTED, self.now, run))
            self._obey(stored, commands, None)
        else:
            for node in plan.nodes:
                if not node.edges:
                    self._touched.add(node.queue or "main")
        return Submitted(self._wake_ups(call), self.epoch)

    def cancel(self, call: Call, run: str) -> Changed | None:
        """Cancel a run."""
        stored = self.runs.get(run)
        if stored is None:
            return None
        self._obey(stored, self.machine.apply(stored.state, self.machine.Cancel()), None)
        return Changed(stored.state.status, self._wake_ups(call))

    def pause(self, call: Call, run: str) -> str | None:
        """Have nothing more of a run begin."""
        stored = self.runs.get(run)
        if stored is None:
            return None
        if not stored.state.status.is_final and not stored.paused:
            stored.paused = True
            self.history.append((word.PAUSED, self.now, run))
        return stored.state.status

    def resume(self, call: Call, run: str) -> Changed | None:
        """Go on with a paused run."""
        stored = self.runs.get(run)
        if stored is None:
            return None
        if not stored.state.status.is_final:
            if stored.paused:
                stored.paused = False
                self.history.append((word.RESUMED, self.now, run))
            aside, stored.aside = stored.aside, {}
            for ref in aside:
                node = stored.state.nodes.get(ref)
                if node is not None and node.status is self.machine.READY:
                    self._enqueue(stored, ref)
        return Changed(stored.state.status, self._wake_ups(call))

    def retry(
        self, call: Call, run: str, ended: int, state: RunState, opened: Reopened, roots: tuple[Ref, ...]
    ) -> Changed | None:
        """Open an ended run again, if it is still as the caller saw it."""
        stored = self.runs.get(run)
        if stored is None:
            return None
        if not stored.state.status.is_final or stored.ended != ended:
            return Changed("changed", [])
        fence = stored.state.fence
        stored.state = copied_state(state)
        stored.state.fence = fence
        stored.paused, stored.ended = False, -1
        for ref in (*opened.anew, *opened.dropped):
            stored.values.pop(ref, None)
        for ref in opened.dropped:
            stored.items.pop(ref, None)
        self.history.append((word.RETRIED, self.now, run, roots, opened))
        for ref in opened.ready:
            self._enqueue(stored, ref)
        return Changed("ok", self._wake_ups(call))

    # ── reads

    def status(self, run: str) -> FlowStatus | None:
        """Give where a run stands."""
        stored = self.runs.get(run)
        return None if stored is None else stored.state.status

    def look(self, run: str) -> tuple[int, RunState] | None:
        """Give all that is known of an ended run, and when it has ended; of an open one, only that it is."""
        stored = self.runs.get(run)
        if stored is None:
            return None
        return stored.ended, (copied_state(stored.state) if stored.state.status.is_final else stored.state)

    def read_epoch(self) -> Any:
        return self.epoch
