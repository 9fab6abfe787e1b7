"""Drives the state machine alone through a run, in any order, with replayed, stale and forged events in between.

After every event it checks what must always hold, by the commands and by what it has done itself. An ended run may be
opened again, and driven to another end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple
from types import ModuleType
from typing import Any

from flowq.core.types import FINAL, FlowStatus, NodeStatus
from flowq.plan import Plan
from flowq.runtime import machine as production
from flowq.runtime import reopening
from flowq.runtime.events import Ref
from tests.property.anew import check_reopened, choose_roots
from tests.property.choices import Choose, one_of
from tests.property.reference import Ending, Fates, Stand, check_end

MOST_STEPS = 2000
"""More than any run can take; then it does not end."""


class Drive:
    """One run of a plan on a machine: the production one, or one with a planted bug."""

    def __init__(
        self,
        plan: Plan,
        choose: Choose,
        *,
        cut: FlowStatus | None = None,
        lives: int = 1,
        machine: ModuleType = production,
        reopening: ModuleType = reopening,
    ) -> None:
        """
        Args:
            cut: ends the run before its time: CANCELLED, or FAILED by its deadline.
            lives: how often it is driven to an end.
        """
        self.plan, self.choose, self.machine, self.reopening = plan, choose, machine, reopening
        self.fates = Fates(plan, choose)
        self.cut, self.cut_at = cut, choose(30) if cut else -1
        self.is_cut = False
        self.lives = lives
        self.kept: set[Ref] = set()
        """What an end before its time has cancelled, and nobody has begun anew."""
        self.ready: list[Ref] = []
        self.running: dict[Ref, int] = {}
        """By the fence that is valid; 0: a map whose items are all open."""
        self.timers: set[tuple[Ref, int]] = set()
        self.ended: dict[Ref, int] = {}
        """How many attempts have ended."""
        self.chunks: dict[Ref, int] = {}
        """Of a map's attempt: the items that it still opens before it ends."""
        self.final: dict[Ref, NodeStatus] = {}
        self.history: list[Any] = []
        self.end: FlowStatus | None = None
        self.state, commands = machine.start(plan)
        self._obey(commands)
        self._check()

    def run(self) -> None:
        """Drive the run to its ends, and check these."""
        self._run()
        for _ in range(self.lives - 1):
            if self._reopen():
                self._run()

    def _run(self) -> None:
        for step in range(MOST_STEPS):
            if step == self.cut_at and self.end is None:
                self.is_cut = True
                is_cancel = self.cut is FlowStatus.CANCELLED
                self._apply(self.machine.Cancel() if is_cancel else self.machine.Overrun())
            if not self._progress():
                break
            self._check()
            for _ in range(self.choose(4)):
                self._disturb()
        assert self.end is not None, f"the run does not end: {self.state}"
        for _ in range(5):
            self._disturb()
        nodes = self.state.nodes.items()
        seen = {ref: Stand(node.status, node.reason, node.attempt, node.crashes) for ref, node in nodes}
        check_end(self.plan, self.fates, seen, self.end, self.cut if self.is_cut else None, self.kept)

    def _reopen(self) -> bool:
        """Open the ended run again; False: there is nothing to be done anew."""
        before = self._snapshot()[1]
        roots = choose_roots(self.plan, self.state, self.choose)
        blocked = self.reopening.blockers(self.state, roots)
        assert self._snapshot()[1] == before
        if blocked:
            assert roots, "without a choice, whatever blocks is run again"
            assert all(self.final[ref] is not NodeStatus.COMPLETED for ref in blocked)
            return False
        opened = self.reopening.reopen(self.state, roots)
        check_reopened(self.plan, before, self.state, roots, opened)
        if not opened.anew:
            assert self._snapshot()[1] == before
            return False
        self.end, self.is_cut, self.cut_at = None, False, -1
        self.ready, self.timers = list(opened.ready), set()
        for ref in {*opened.anew, *opened.dropped}:
            self.final.pop(ref, None)
            if ref in self.state.nodes and self.state.nodes[ref].status is NodeStatus.RUNNING:
                self.running[ref] = 0  # a map whose items are all open
                continue
            self.running.pop(ref, None)
            self.ended.pop(ref, None)
            self.fates.renew(ref)
        self.kept = {ref for ref, status in self.final.items() if status is NodeStatus.CANCELLED}
        self._check()
        return True

    def _progress(self) -> bool:
        """Cause one of the events that are due; False: there is none."""
        if self.end is not None:
            return False
        due: list[tuple[Callable[..., None], Any]] = [
            *((self._go_on, ref) for ref, fence in sorted(self.running.items()) if fence),
            *((self._claim, ref) for ref in self.ready),
            *((self._fire, timer) for timer in sorted(self.timers)),
        ]
        if not due:
            return False
        cause, what = one_of(self.choose, due)
        cause(what)
        return True

    def _fire(self, timer: tuple[Ref, int]) -> None:
        self.timers.remove(timer)
        self._apply(self.machine.Due(*timer))

    def _go_on(self, ref: Ref) -> None:
        if self.plan.nodes[ref.node].is_map and ref.item < 0:
            self._go_on_with_map(ref)
        else:
            self._end_attempt(ref)

    def _claim(self, ref: Ref) -> None:
        if ref.item < 0:
            for edge in self.plan.nodes[ref.node].edges:
                upstream = self.state.nodes[Ref(edge.upstream)].status
                assert upstream in FINAL, f"{ref} is ready before {edge}"
                assert upstream is NodeStatus.COMPLETED or not edge.required, f"{ref} is ready in spite of {edge}"
        self.ready.remove(ref)
        before = set(self.running.values())
        self._apply(self.machine.Claim(ref))
        node = self.state.nodes[ref]
        assert node.status is NodeStatus.RUNNING
        assert node.fence not in before | {0}
        self.running[ref] = node.fence
        if ref.item < 0 and self.plan.nodes[ref.node].is_map:
            self.chunks[ref] = self.fates.of(ref).opened[self.ended.get(ref, 0)]

    def _go_on_with_map(self, ref: Ref) -> None:
        """Open some more items, or end the attempt."""
        fate, opened = self.fates.of(ref), self.state.nodes[ref].opened
        left = fate.items - opened
        completes = fate.endings[self.ended.get(ref, 0)] is Ending.COMPLETED
        if not completes:
            left = min(left - 1, self.chunks[ref])
            if left <= 0:
                self._end_attempt(ref)
                return
        count = left - self.choose(left) if left else 0
        self.chunks[ref] -= count
        # A call that is repeated after a crash begins with items that are open already.
        offset = opened - self.choose(opened + 1)
        self._apply(self.machine.Extend(ref, self.running[ref], offset, opened + count - offset, fate.items))
        assert self.state.nodes[ref].opened == opened + count
        if opened + count == fate.items and ref in self.running:
            self.running[ref] = 0
            self.ended[ref] = self.ended.get(ref, 0) + 1

    def _end_attempt(self, ref: Ref) -> None:
        ending = self.fates.of(ref).endings[self.ended.get(ref, 0)]
        fence = self.running.pop(ref)
        self.ended[ref] = self.ended.get(ref, 0) + 1
        self._apply(event_of(self.machine, ending, ref, fence))

    # ── events that must change nothing

    def _disturb(self) -> None:
        """Repeat an event, or forge one, and see that nothing changes."""
        event = one_of(self.choose, self.history) if self.history and self.choose(2) == 0 else self._forged()
        if self._is_due(event):
            return
        before = self._snapshot()
        assert self.machine.apply(self.state, event) == [], f"{event} has consequences"
        assert self._snapshot() == before, f"{event} changes the state"

    def _forged(self) -> Any:
        machine, choose = self.machine, self.choose
        anywhere = Ref(choose(len(self.plan) + 1), choose(5) - 1)
        ref = one_of(choose, [anywhere, *sorted(self.running), *self.ready, *sorted(ref for ref, _ in self.timers)])
        node = self.state.nodes.get(ref, machine.NodeState())
        fence = one_of(choose, (node.fence, 0, node.fence - 1, self.state.fence + 1))
        match choose(6):
            case 0:
                return machine.Complete(ref, fence)
            case 1:
                return machine.Extend(ref, fence, node.opened + choose(3), choose(3), choose(4))
            case 2:
                return machine.Due(ref, node.attempt + choose(3) - 1)
            case 3:
                return machine.Claim(ref)
        return event_of(machine, one_of(choose, tuple(Ending)), ref, fence)

    def _is_due(self, event: Any) -> bool:
        """Whether this is what a worker, or the sweep, might rightly say now."""
        machine = self.machine
        if isinstance(event, machine.Cancel | machine.Overrun):
            return self.end is None
        if self.end is not None:
            return False
        if isinstance(event, machine.Claim):
            return event.ref in self.ready
        if isinstance(event, machine.Due):
            return (event.ref, event.attempt) in self.timers
        if event.fence == 0 or self.running.get(event.ref) != event.fence:
            return False
        is_map = event.ref.item < 0 and self.plan.nodes[event.ref.node].is_map
        if isinstance(event, machine.Extend):
            opened = self.state.nodes[event.ref].opened
            return is_map and event.offset <= opened and not 0 < event.offset + event.count <= opened
        return not (is_map and isinstance(event, machine.Complete))

    def _snapshot(self) -> Any:
        state = self.state
        head = (state.status, state.remaining, state.bad_sinks, state.fence)
        return head, {ref: astuple(node) for ref, node in state.nodes.items()}

    # ── what follows from an event

    def _apply(self, event: Any) -> None:
        self.history.append(event)
        self._obey(self.machine.apply(self.state, event))

    def _obey(self, commands: list[Any]) -> None:
        machine = self.machine
        for command in commands:
            assert self.end is None, f"{command} follows the end"
            if isinstance(command, machine.Enqueue):
                assert command.ref not in self.ready, f"{command}: it is ready already"
                assert self.running.get(command.ref) is None, f"{command}: it is running"
                self.ready.append(command.ref)
            elif isinstance(command, machine.SetTimer):
                self.timers.add((command.ref, command.attempt))
            elif isinstance(command, machine.Announce):
                assert command.ref not in self.final, f"{command}: settled twice"
                assert command.status in FINAL
                self.final[command.ref] = command.status
                self.running.pop(command.ref, None)
                if command.status is NodeStatus.CANCELLED:
                    self.ready = [ref for ref in self.ready if ref != command.ref]
                    self.timers = {timer for timer in self.timers if timer[0] != command.ref}
            elif isinstance(command, machine.Stop):
                assert self.running.get(command.ref) == command.fence != 0, command
            elif isinstance(command, machine.End):
                self.end = command.status

    def _check(self) -> None:
        state = self.state
        assert state.status == (self.end or (FlowStatus.RUNNING if self.history else FlowStatus.PENDING))
        assert {ref: node.status for ref, node in state.nodes.items() if node.status in FINAL} == self.final
        for ref, node in state.nodes.items():
            assert node.fence == self.running.get(ref, 0), (ref, node)
            assert 0 <= node.crashes <= self.plan.nodes[ref.node].max_crashes, (ref, node)
            assert node.attempt - node.crashes <= self.plan.nodes[ref.node].retry.max_attempts, (ref, node)
            if node.status is NodeStatus.PENDING and node.attempt == 0:
                edges = self.plan.nodes[ref.node].edges
                waiting = sum(Ref(edge.upstream) not in self.final for edge in edges)
                assert node.waiting == waiting, (ref, node, waiting)


def event_of(machine: ModuleType, ending: Ending, ref: Ref, fence: int) -> Any:
    """Give the event that says so of an attempt."""
    match ending:
        case Ending.COMPLETED:
            return machine.Complete(ref, fence)
        case Ending.FAILED:
            return machine.Fail(ref, fence)
        case Ending.TIMED_OUT:
            return machine.Fail(ref, fence, timed_out=True)
        case Ending.FATAL:
            return machine.Fail(ref, fence, retry=False)
        case Ending.SKIPPED:
            return machine.Skip(ref, fence)
        case Ending.LOST:
            return machine.Expire(ref, fence)
        case Ending.RELEASED:
            return machine.Release(ref, fence)
