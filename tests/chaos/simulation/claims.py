"""Claims in the simulated store: who holds what, under which fence, and how a claim is taken away."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

from flowq.core.types import FlowType, NodeStatus
from flowq.runtime.events import Ref
from flowq.runtime.replies import Claimed
from tests.chaos.simulation import history as word
from tests.chaos.simulation.delivery import US, Delivery
from tests.chaos.simulation.history import Event
from tests.chaos.simulation.kept import Stored

INLINE = 32

INLINE_PLACE = FlowType.INLINE
READY = NodeStatus.READY

DEADLINE = Ref(-1)
"""In a timer: the run's own."""

Lease: TypeAlias = tuple[str, Ref, int]
"""Run, node and fence."""


class Asked(NamedTuple):
    """What a drain asks for; without a token, it is none."""

    token: str
    queue: str
    process: int
    thread: int
    busy: int
    batch: bool
    listens: int
    """Milliseconds."""
    goes_on: bool = False


class Claims(Delivery):
    """Begins and ends claims, and does as the machine says."""

    def __init__(self, machine: ModuleType, lease: int, renew: int, history: list[Event]) -> None:
        self.machine, self.lease, self.history = machine, lease, history
        self.grace = min(lease, renew * 3 // 2 + US // 2)
        self.now = 0
        self.ended: list[str] = []
        """Runs whose end is to be published."""
        self.clear()

    def clear(self) -> None:
        super().clear()
        self.holders: dict[str, int] = {}
        """With when they are taken for dead."""
        self.leases: dict[str, dict[Lease, int]] = {}
        """By holder: its claims, with when they were made."""
        self.unnamed: dict[Lease, Any] = {}
        """Old claims that their holder did not name when it was last heard, by that call."""
        self.timers: dict[tuple[str, Ref, int], int] = {}
        self.swept = (-1, 0)
        """When somebody did, and how often that is to be."""
        self._inline: list[tuple[str, Ref]] = []
        self._fused: set[tuple[str, Ref]] = set()
        self._goes_on = False
        """Other claims run before those that this call gives."""
        self._drawn: dict[str, tuple[int, set[Ref]]] = {}
        """By run: the fence that this call claims under, and what it has claimed."""

    # ── holders

    def _touch(self, holder: str) -> None:
        self.holders[holder] = self.now + self.lease
        self.history.append((word.CONTACT, self.now, holder))

    def _holds(self, stored: Stored, ref: Ref, fence: int) -> bool:
        node = stored.state.nodes.get(ref)
        return not stored.state.status.is_final and node is not None and node.fence == fence != 0

    def _is_valid(self, lease: Lease) -> bool:
        stored = self.runs.get(lease[0])
        return stored is not None and self._holds(stored, lease[1], lease[2])

    def _let_go(self, holder: str, lease: Lease) -> None:
        self.leases.get(holder, {}).pop(lease, None)

    def _expire(self, every: int) -> None:
        """Take the leases of holders that nobody has heard of; after a silence, they all get time to be heard first."""
        last, before = self.swept
        every = every or before
        self.swept = self.now, every
        if last < 0 or self.now - last > max(self.lease - self.grace, 3 * every):
            for holder, expires in self.holders.items():
                self.holders[holder] = max(expires, self.now + self.grace)
        for holder, expires in list(self.holders.items()):
            if expires <= self.now:
                del self.holders[holder]
                for lease in sorted(self.leases.pop(holder, ())):
                    self._take(holder, lease, "expired", crashed=True)

    def _take(self, holder: str, lease: Lease, why: str, *, crashed: bool) -> None:
        run, ref, fence = lease
        stored = self.runs.get(run)
        if stored is None:
            return
        event = self.machine.Expire if crashed else self.machine.Release
        commands = self.machine.apply(stored.state, event(ref, fence))
        if commands:
            self.history.append((word.TAKEN, self.now, run, ref, fence, holder, why))
            self._obey(stored, commands, ref)

    # ── what the machine asks for

    def _obey(
        self, stored: Stored, commands: Iterable[Any], own: Ref | None, delay: int = 0, inline: bool = False
    ) -> None:
        """Do as the machine says; ``own``: the node that the event was about, which goes back to a list."""
        machine = self.machine
        for command in commands:
            kind = type(command)
            if kind is machine.Announce:
                self.history.append((word.RECORDED, self.now, stored.id, command.ref, command.status))
            elif kind is machine.Enqueue:
                ref = command.ref
                node = stored.plan.nodes[ref.node]
                is_fused = (stored.id, ref) in self._fused and ref != own
                is_here = inline and node.placement is INLINE_PLACE and ref != own and ref.item < 0
                is_here = is_here and not (self._goes_on and self._is_alone(stored.id, ref))
                if is_fused or (is_here and len(self._inline) < INLINE and not stored.paused):
                    self._inline.append((stored.id, ref))
                else:
                    self._enqueue(stored, ref)
            elif kind is machine.SetTimer:
                self.timers[stored.id, command.ref, command.attempt] = self.now + delay
            elif kind is machine.End:
                self.history.append((word.ENDED, self.now, stored.id, command.status))
                stored.ended = self.now // 1000
                stored.aside = {}
                self.timers.pop((stored.id, DEADLINE, 0), None)
                self.ended.append(stored.id)

    # ── claims

    def _start(self, stored: Stored, ref: Ref, holder: str, how: str = word.CLAIMED) -> int:
        """READY to RUNNING under a new fence; 0 if it is not ready."""
        state = stored.state
        node = state.nodes.get(ref)
        if node is None or node.status is not READY:
            return 0
        fence, claimed = self._drawn.get(stored.id, (0, set()))
        if not fence or ref in claimed:  # higher than any that the store may have forgotten
            fence, claimed = max(state.fence + 1, self.now - stored.submitted), set()
        self._drawn[stored.id] = fence, claimed | {ref}
        self.machine.apply(state, self.machine.Claim(ref, fence))
        if not node.fence:
            return 0
        inputs = {edge.upstream: stored.values.get(Ref(edge.upstream)) for edge in stored.plan.nodes[ref.node].edges}
        self.history.append((how, self.now, stored.id, ref, node.fence, holder, node.attempt, inputs))
        return node.fence

    def _hand(self, stored: Stored, ref: Ref, holder: str) -> Claimed:
        node = stored.state.nodes[ref]
        self._touch(holder)
        self.leases.setdefault(holder, {})[stored.id, ref, node.fence] = self.now
        values = [stored.values.get(Ref(edge.upstream)) for edge in stored.plan.nodes[ref.node].edges]
        return Claimed(
            stored.id,
            ref.key,
            node.attempt,
            node.crashes,
            node.fence,
            stored.hash,
            None,
            stored.items.get(ref),
            node.opened,
            None,
            values,
        )

    def _claim(self, run: str, ref: Ref, holder: str, claims: list[Claimed]) -> None:
        stored = self.runs.get(run)
        if stored is None or stored.state.status.is_final:
            return
        if stored.paused:
            node = stored.state.nodes.get(ref)
            if node is not None and node.status is READY:
                stored.aside[ref] = None
        elif self._start(stored, ref, holder):
            claims.append(self._hand(stored, ref, holder))

    def _take_ready(
        self, queue: str, lane: str, most: int, holder: str, claims: list[Claimed], batch: bool, goes_on: bool = False
    ) -> None:
        ready, before = self.lists.get((queue, lane)), len(claims)
        if ready and batch and most > 1:
            slots = sum(self.slots.get(queue, {}).values())
            most = max(1, most // 8, min(most, -(-len(ready) // max(1, slots))))
        while ready and len(claims) - before < most:
            run, ref = ready.popleft()
            if batch and (most > 1 or goes_on) and self._is_alone(run, ref):
                if len(claims) > before or goes_on:
                    ready.appendleft((run, ref))
                    return
                most = 1
            self._claim(run, ref, holder, claims)

    def _is_alone(self, run: str, ref: Ref) -> bool:
        """Tell whether nothing else may be in a batch with a node."""
        stored = self.runs.get(run)
        if stored is None or stored.state.status.is_final or ref not in stored.state.nodes:
            return False
        return stored.state.nodes[ref].crashes > 0 or stored.plan.nodes[ref.node].max_crashes <= 1

    def _next_claims(self, holder: str, asked: Asked) -> list[Claimed]:
        token, queue, process, thread, busy, batch, listens, goes_on = asked
        claims: list[Claimed] = []
        for run, ref in self._inline:
            self._claim(run, ref, holder, claims)
        if not token:
            return claims
        if not claims:
            self._take_ready(queue, "process", process, holder, claims, batch, goes_on)
        self._take_ready(queue, "thread", thread, holder, claims, False)
        drains = self.drains.setdefault(queue, {})
        if claims or busy:
            drains[token] = self.now + self.lease
            return claims
        self._touched.add(queue)
        if listens:
            self.idle.setdefault(queue, {})[token] = self.now + listens * 1000
            drains[token] = self.now + self.lease
        else:
            self.idle.get(queue, {}).pop(token, None)
            drains.pop(token, None)
        return claims

    def _hand_again(self, holder: str, claims: Iterable[Claimed]) -> list[Claimed]:
        """Give claims again whose reply was lost, as far as they are still valid."""
        again = []
        for run, key, _, _, fence, *_ in claims:
            stored, ref = self.runs.get(run), Ref.parse(key)
            if stored is not None and self._holds(stored, ref, fence):
                again.append(self._hand(stored, ref, holder))
        return again
