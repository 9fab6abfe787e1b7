"""How attempts run in the simulation: they take time, have their effect, and end in some way; or they are stopped."""

from __future__ import annotations

from typing import Any

from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.replies import Claimed
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.work import LATE_S, Ended, Outputs, released
from tests.chaos.simulation import history as word
from tests.chaos.simulation.delivery import US
from tests.chaos.simulation.process import WAITS, Process, Strand, lease_of
from tests.chaos.simulation.world import World

COMPLETED, FAILED, FATAL, TIMED_OUT, SKIPPED = "completed", "failed", "fatal", "timed out", "skipped"
ENDINGS = (*[COMPLETED] * 13, FAILED, FAILED, FATAL, TIMED_OUT, SKIPPED)

CALM_ENDINGS = (*[COMPLETED] * 8, FAILED)
"""Once nothing goes wrong any more."""

STUBBORN = 0.1
"""So many attempts do not heed that they are stopped."""

LONG = 0.03
"""So many attempts take longer than any lease."""


class Attempts:
    """Runs claims, as ClaimRunner does in a worker."""

    def __init__(self, world: World) -> None:
        self.world, self.draw = world, world.draw
        self.items: dict[tuple[str, int], int] = {}
        """How many items a map has, by run and node."""

    def run(self, process: Process, strand: Strand, claim: Claimed) -> Any:
        """Begin an attempt."""
        world = self.world
        lease = lease_of(claim)
        if lease not in process.held:
            return Ended([released(claim)], is_lost=True)
        plan, ref = world.plans[claim.plan], lease[1]
        node = plan.nodes[ref.node]
        if node.over is not None and ref.item < 0:
            total = self.items.get((claim.run, ref.node))
            if total is None:
                total = len(node.over[1]) if node.over[0] == "const" else int(self.draw() * 5)
                self.items[claim.run, ref.node] = total
            self._open(process, strand, claim, ref, total, claim.opened)
            return WAITS
        world.history.append((word.STARTED, world.now, claim.run, ref, claim.fence, process.name))
        process.held[lease] = strand
        strand.lease = lease
        longest = world.setup.duration if self.draw() > LONG else 2 * world.setup.times.lease
        took = 1 + int(self.draw() * longest)
        world.after(took, self._finish, process, strand, strand.waits, claim, ref)
        if took > LATE_S * US and strand.work:
            world.after(int((LATE_S + self.draw()) * US), process.relieve, strand, strand.waits)
        return WAITS

    def stop(self, process: Process, strand: Strand, *, is_lost: bool) -> None:
        """Interrupt the attempt that runs in a strand; some do not heed it."""
        heeds = self.draw() >= STUBBORN or self.world.is_calm
        if (heeds or is_lost) and strand.lease is not None:
            self.world.history.append((word.STOPPED, self.world.now, *strand.lease))
        if heeds:
            waits = strand.waits
            self.world.after(0, self._stopped, process, strand, waits, strand.lease)

    def _stopped(self, process: Process, strand: Strand, waits: int, lease: Any) -> None:
        run, ref, fence = lease
        claim = Claimed(run, ref.key, 0, 0, fence, "", None, None, 0, None, None)
        process.resume(strand, waits, Ended([released(claim)], is_lost=True))

    def _finish(self, process: Process, strand: Strand, waits: int, claim: Claimed, ref: Ref) -> None:
        world = self.world
        if not process.alive or strand.waits != waits:
            return
        if world.now < process.frozen_until:
            world.after(process.frozen_until - world.now, self._finish, process, strand, waits, claim, ref)
            return
        lease = strand.lease
        if lease in process.held:
            process.held[lease] = None
        entries: list[OutcomeEntry] = []
        plan = world.plans[claim.plan]
        todo = [ref]
        while todo:
            current = todo.pop(0)
            is_own = current is ref
            options = CALM_ENDINGS if world.is_calm else ENDINGS
            ending = options[int(self.draw() * len(options))]
            value: Any = None
            if not is_own:
                world.history.append((word.STARTED, world.now, claim.run, current, -claim.fence, process.name))
            if ending is COMPLETED:
                value = (current.key, claim.fence, claim.attempt)
                if ref.item < 0 and not claim.crashes and not process.closing:
                    todo += self._ahead(plan, claim.run, current, value, strand.outputs)
            fence = claim.fence if is_own else -claim.fence
            world.history.append((word.FINISHED, world.now, claim.run, current, fence, process.name, ending, value))
            failures = claim.attempt - claim.crashes if is_own else 1
            policy = plan.nodes[current.node].retry
            bad = ending is FAILED or ending is TIMED_OUT
            entries.append(
                OutcomeEntry(
                    current.key,
                    value,
                    claim.run,
                    claim.fence if is_own else 0,
                    ending if ending is COMPLETED or ending is SKIPPED else "failed",
                    retry=bad and (failures < policy.max_attempts or ending is TIMED_OUT),  # a parent does not count
                    delay_ms=int(policy.delay(failures, 0.5) * 1000),
                    timed_out=ending is TIMED_OUT,
                    fused=not is_own,
                )
            )
        process.resume(strand, waits, Ended(entries))

    def _ahead(self, plan: Plan, run: str, done: Ref, value: Any, outputs: Outputs) -> list[Ref]:
        """Choose what is run ahead after a node."""
        outputs[run, done.node] = value
        chosen = []
        for follower in plan.ahead.get(done.node, ()):
            node = plan.nodes[follower]
            if all((run, edge.upstream) in outputs for edge in node.edges) and (node.fused or self.draw() < 0.5):
                chosen.append(Ref(follower))
        return chosen

    def _open(self, process: Process, strand: Strand, claim: Claimed, ref: Ref, total: int, offset: int) -> None:
        """Open some more items of a map."""
        if not process.alive:
            return
        waits = strand.waits
        count = min(total - offset, 1 + int(self.draw() * 3))
        items = [(claim.key, number) for number in range(offset, offset + count)]
        args = (process.name, claim.run, ref, claim.fence, offset, total, items)

        def opened(reply: Any) -> None:
            if strand.waits != waits:
                return
            if isinstance(reply, Exception):
                process.resume(strand, waits, Ended([released(claim)]))
                return
            counted, messages = reply
            self.world.send(messages)
            if counted and offset + count < total:
                self._open(process, strand, claim, ref, total, offset + count)
            else:
                process.resume(strand, waits, Ended([]))

        self.world.call(process, strand.thread, "extend", args, opened)
