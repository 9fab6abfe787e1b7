"""The store in memory: it answers what the scripts answer, under a virtual clock.

Every transition of a run is the state machine's own (``machine.apply``). What stands here is what the scripts have
around them: holders and theirs, timers, fences, and the replies that a repeated call is given again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from flowq.runtime.events import Ref
from flowq.runtime.replies import Message, Next
from flowq.runtime.scripts import OutcomeEntry
from tests.chaos.simulation import history as word
from tests.chaos.simulation.claims import DEADLINE, Asked, Lease
from tests.chaos.simulation.control import Control
from tests.chaos.simulation.delivery import US, Call
from tests.chaos.simulation.kept import KEPT, copied

SAID_US = 120 * US
"""For so long it is known what a thread's last call was answered: longer than any client goes on trying."""

READS = frozenset(("status", "look", "read_epoch"))
"""Calls that are no scripts."""


class Swept(NamedTuple):
    swept: bool
    messages: list[Message]
    next_due: int
    """Microseconds until the next timer; -1: there is none."""


class Store(Control):
    """Everything that Redis would hold, and the calls that workers make."""

    def clear(self) -> None:
        super().clear()
        self.workers: dict[str, int] = {}
        self.said: dict[str, tuple[int, Any, int]] = {}
        """By thread: its last call, what that was answered, and until when this is kept."""
        self.lock = -1

    def answer(self, call: Call, name: str, args: tuple[Any, ...]) -> Any:
        """Do what a call asks for; None if a later one of its thread was made already."""
        if name in READS:
            return getattr(self, name)(*args)
        caller, number = call
        last, reply, expires = self.said.get(caller, (0, None, -1))
        if expires > self.now:
            if last == number:  # the reply was lost
                is_next = type(reply) is Next
                return reply._replace(claims=self._hand_again(args[0], reply.claims)) if is_next else reply
            if last > number:
                return None
        if self._inline:
            self._inline = []
        if self._fused:
            self._fused = set()
        self._touched.clear()
        self._drawn.clear()
        self._goes_on = False
        reply = getattr(self, name)(call, *args)
        self.said[caller] = number, reply, self.now + SAID_US
        return reply

    # ── of drains

    def claim(self, call: Call, holder: str, asked: Asked) -> Next:
        """Take ready nodes; with nothing to take and nothing busy, the drain has ended."""
        self.idle.get(asked.queue, {}).pop(asked.token, None)
        return Next(self._next_claims(holder, asked), self._wake_ups(call))

    def settle(
        self,
        call: Call,
        holder: str,
        asked: Asked,
        inline: bool,
        outcomes: Sequence[OutcomeEntry],
    ) -> Next:
        """Record outcomes and take the next nodes."""
        stale: list[int] = []
        self._goes_on = asked.goes_on
        self._fused = {(outcome.run, Ref.parse(outcome.key)) for outcome in outcomes if outcome.fused}
        for position, outcome in enumerate(outcomes):
            if not self._record(holder, outcome, inline):
                stale.append(position)
        return Next(self._next_claims(holder, asked), self._wake_ups(call), stale)

    def extend(
        self, call: Call, holder: str, run: str, ref: Ref, fence: int, offset: int, total: int, items: Sequence[Any]
    ) -> tuple[bool, list[Message]]:
        """Open items of a claimed map."""
        stored = self.runs.get(run)
        if stored is None or not self._holds(stored, ref, fence):
            return False, []
        node = stored.state.nodes[ref]
        if offset > node.opened:
            return False, []
        for number, item in enumerate(items, offset):
            stored.items.setdefault(Ref(ref.node, number), item)
        commands = self.machine.apply(stored.state, self.machine.Extend(ref, fence, offset, len(items), total))
        if node.fence == 0:
            self._let_go(holder, (run, ref, fence))
            self.history.append((word.SETTLED, self.now, run, ref, fence, "opened", None, 0))
        self._obey(stored, commands, None)
        return True, self._wake_ups(call)

    # ── of processes and their parents

    def renew(
        self, call: Call, holder: str, leases: Sequence[Lease], tokens: Sequence[tuple[str, str]]
    ) -> tuple[list[int], list[Message]]:
        """A process holds these leases and drains, and no others; gives the positions of the leases that are lost."""
        self._touch(holder)
        own, lost = self.leases.get(holder, {}), []
        for position, lease in enumerate(leases):
            self.unnamed.pop(lease, None)
            if not self._is_valid(lease):
                lost.append(position)
                own.pop(lease, None)
        for lease in [lease for lease, made in own.items() if made <= self.now - self.lease and lease not in leases]:
            # Not at the first time: a call that was held up does not name what was claimed since it was made.
            if self.unnamed.setdefault(lease, call) != call:
                del own[lease], self.unnamed[lease]
                self._take(holder, lease, "forgotten", crashed=False)
        for queue, token in tokens:
            drains = self.drains.get(queue, {})
            if token in drains:
                drains[token] = self.now + self.lease
        return lost, self._wake_ups(call)

    def vouch(self, call: Call, holders: Iterable[str]) -> list[tuple[str, Lease]]:
        """A parent says that its processes live; gives those of their leases that no longer count."""
        for holder in holders:
            if holder in self.holders:
                self._touch(holder)
        return [
            (holder, lease) for holder in holders for lease in self.leases.get(holder, ()) if not self._is_valid(lease)
        ]

    def bury(
        self, call: Call, holders: Iterable[str], tokens: Iterable[tuple[str, str]], crashed: bool
    ) -> list[Message]:
        """These processes are dead, or give up all they hold; these drains have ended."""
        for queue, token in tokens:
            self.drains.get(queue, {}).pop(token, None)
            self.idle.get(queue, {}).pop(token, None)
            self._touched.add(queue)
        for holder in holders:
            self.holders.pop(holder, None)
            for lease in sorted(self.leases.pop(holder, ())):
                self._take(holder, lease, "buried" if crashed else "handed back", crashed=crashed)
        return self._wake_ups(call)

    # ── of workers

    def register(self, call: Call, worker: str, queues: Iterable[str], slots: int) -> list[Message]:
        """Say that a worker is there; 0 slots: that it leaves."""
        self._begin_epoch(call)
        for queue in queues:
            if slots:
                self.slots.setdefault(queue, {})[worker] = slots
            else:
                self.slots.get(queue, {}).pop(worker, None)
            self._touched.add(queue)
        if slots:
            self.workers[worker] = self.now + self.lease
        else:
            self.workers.pop(worker, None)
        return self._wake_ups(call)

    def sweep(self, call: Call, every: int) -> Swept:
        """Put right what nobody will report."""
        if every > 0:
            if self.lock > self.now:
                return Swept(False, [], -1)
            self.lock = self.now + every
        self._expire(every)
        for timer, due in list(self.timers.items()):
            stored = self.runs.get(timer[0])
            is_open = stored is not None and not stored.state.status.is_final
            if due <= self.now or not is_open:
                self.timers.pop(timer, None)
                if due <= self.now and is_open and stored is not None:
                    self._fall_due(stored, timer[1], timer[2])
        for worker, expires in list(self.workers.items()):
            if expires <= self.now:
                del self.workers[worker]
                for slots in self.slots.values():
                    slots.pop(worker, None)
        self._touched.update(self.drains)
        wait = max(0, min(self.timers.values()) - self.now) if self.timers else -1
        if wait == 0:
            self.lock = -1
        return Swept(True, self._wake_ups(call), wait)

    def _fall_due(self, stored: Any, ref: Ref, attempt: int) -> None:
        if ref == DEADLINE:
            self.history.append((word.OVERRUN, self.now, stored.id))
            self._obey(stored, self.machine.apply(stored.state, self.machine.Overrun()), None)
        else:
            self._obey(stored, self.machine.apply(stored.state, self.machine.Due(ref, attempt)), ref)

    # ── what an operator sees of it

    def save(self) -> dict[str, Any]:
        """Give what is on its disk now."""
        return {name: copied(vars(self)[name]) for name in KEPT}

    def come_back(self, saved: dict[str, Any]) -> None:
        """Start again with what was on its disk."""
        vars(self).update({name: copied(saved[name]) for name in KEPT})

    # ── outcomes

    def _record(self, holder: str, outcome: OutcomeEntry, inline: bool) -> bool:
        stored = self.runs.get(outcome.run)
        ref, fence, machine = Ref.parse(outcome.key), outcome.fence, self.machine
        if outcome.fused:
            if stored is None or (stored.id, ref) not in self._inline:
                return False
            self._inline.remove((stored.id, ref))
            fence = self._start(stored, ref, holder, word.FUSED)
        self._let_go(holder, (outcome.run, ref, fence))
        if stored is None:
            return False
        match outcome.kind:
            case "completed":
                event = machine.Complete(ref, fence)
            case "skipped":
                event = machine.Skip(ref, fence)
            case "released":
                event = machine.Release(ref, fence)
            case _:
                event = machine.Fail(ref, fence, outcome.retry, outcome.timed_out)
        commands = machine.apply(stored.state, event)
        if not commands:
            return False
        if outcome.value is not None:
            stored.values[ref] = outcome.value
        delay = outcome.delay_ms * 1000
        self.history.append((word.SETTLED, self.now, stored.id, ref, fence, outcome.kind, outcome.value, delay))
        self._obey(stored, commands, ref, delay, inline)
        return True
