"""Worker processes, and what runs in them: the production steps of drains, under virtual time."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from flowq.core.types import FlowType
from flowq.runtime.events import Ref
from flowq.runtime.replies import Claimed, Next, WakeUp
from flowq.runtime.steps import BATCH_S
from flowq.runtime.work import Ended, Outputs, Work
from tests.chaos.simulation import history as word
from tests.chaos.simulation.claims import Asked, Lease
from tests.chaos.simulation.delivery import US
from tests.chaos.simulation.keeper import Keeper
from tests.chaos.simulation.setup import SHORT
from tests.chaos.simulation.world import Caller, Unavailable, World

if TYPE_CHECKING:
    from tests.chaos.simulation.worker import Worker

QUEUES = ("main", "side")

MAIN, SWEEPER, RELIEVER = 0, -1, 1000
"""Threads of a process; those beside the main one count from 1, and a number is used again."""

POSTING = 500
"""Added to the number of a thread that makes a call before it has the reply of the one before."""

PACES_S = (0.0, 0.001, 0.003, 1.0)
"""What is expected of attempts, rightly or wrongly."""

SHORT_PACES_S = (*[0.0] * 6, 0.001, 1.0)


class Posted:
    """A call whose reply is taken later."""

    def __init__(self) -> None:
        self.reply: Any = None
        self.then: Callable[[Any], None] = self._keep

    def _keep(self, reply: Any) -> None:
        self.reply = reply


class Strand:
    """One generator of steps, in a process."""

    __slots__ = ("awaits", "drain", "is_claiming", "lease", "outputs", "steps", "thread", "waits", "work")

    def __init__(self, steps: Generator[Any, Any, Any], work: Work, drain: Any, thread: int) -> None:
        self.steps, self.work, self.drain, self.thread = steps, work, drain, thread
        self.waits = 0
        """Grows with everything that it waits for: what comes for an older wait is not for it any more."""
        self.awaits = False
        """It waits for a thread to end."""
        self.is_claiming = False
        """The claim that was to be made when a bell rings is on its way."""
        self.lease: Lease | None = None
        """Of the attempt that runs here."""
        self.outputs: Outputs = {}
        """What was computed since the last settle."""


class Process(Caller):
    """A worker process with one Celery slot."""

    def __init__(self, world: World, worker: Worker, name: str) -> None:
        super().__init__(name)
        self.world, self.worker = world, worker
        self.draw = world.draw
        self.skew = 0.0
        self.rate = 1.0
        if "clocks differ" in world.setup.kinds:
            self.skew, self.rate = (self.draw() - 0.5) * 1000, 0.8 + 0.4 * self.draw()
        self.strands: list[Strand] = []
        self.held: dict[Lease, Strand | None] = {}
        self.drain: tuple[str, str] | None = None
        self.closing = False
        self.keeper = Keeper(world, self)
        self._sweeps = 0
        """Those that are asked for; one at a time is made."""
        steps = world.parts.steps
        self._does = {
            steps.Claim: self._claim,
            steps.Settle: self._settle,
            steps.Post: self._post,
            steps.Receive: self._receive,
            steps.Advance: self._advance,
            steps.Expect: self._expect,
            steps.Run: self._run,
            steps.Send: self._send,
            steps.Hold: self._hold,
            steps.Drop: self._drop,
            steps.Remind: self._remind,
            steps.Listen: self._listen,
            steps.Now: self._now,
            steps.Pause: self._pause,
            steps.FindThreads: self._find_threads,
            steps.StartThread: self._start_thread,
            steps.AwaitThread: self._await_thread,
        }

    # ── its life

    def rest(self) -> None:
        """Take the next message, or wait for one."""
        if not self.alive:
            return
        if self.closing:
            self.leave()
            return
        world = self.world
        for queue in QUEUES:
            waiting = world.messages.get(queue)
            if waiting:
                self.answer(waiting.pop(int(self.draw() * len(waiting))))
                return
        for queue in QUEUES:
            world.idle.setdefault(queue, []).append(self)

    def wake(self) -> None:
        """It is idle no longer."""
        for idle in self.world.idle.values():
            if self in idle:
                idle.remove(self)

    def answer(self, wake: WakeUp) -> None:
        """Drain a queue."""
        self.wake()
        world, times = self.world, self.world.setup.times
        self.drain = wake
        drain = world.parts.drain.DrainSteps(
            times.slice / US,
            times.linger / US,
            world.setup.threads,
            times.lease / US,
            lambda: self.closing,
            split=2 + int(self.draw() * 2),
            pace_s=BATCH_S / (1 + int(self.draw() * 8)),
        )
        work = Work()
        self._begin(drain.main(work), work, drain, MAIN)
        self.keeper.begin()

    def close(self) -> None:
        """It is to end."""
        self.closing = True
        if self.drain is None and self.alive:
            self.leave()

    def leave(self) -> None:
        """It has nothing more to do, and goes."""
        self.world.history.append((word.LEFT, self.world.now, self.name))
        self.end()
        self.worker.has_left(self)

    def end(self) -> None:
        """It is gone, in whatever way."""
        self.alive = False
        self.world.history.append((word.GONE, self.world.now, self.name))
        self.world.active -= len(self.strands)
        self.strands.clear()
        self.held.clear()
        self.wake()

    # ── strands

    def _begin(self, steps: Generator[Any, Any, Any], work: Work, drain: Any, thread: int) -> None:
        strand = Strand(steps, work, drain, thread)
        self.strands.append(strand)
        self.world.active += 1
        self._step(strand, None)

    def _step(self, strand: Strand, reply: Any) -> None:
        """Go on with a reply, up to the next thing that takes time."""
        does, steps = self._does, strand.steps
        try:
            while True:
                if isinstance(reply, Ended):
                    reply = self.world.parts.steps.Ran(reply, self._now(strand, None))
                request = steps.throw(reply) if isinstance(reply, Exception) else steps.send(reply)
                reply = does[type(request)](strand, request)
                if reply is WAITS:
                    return
        except StopIteration:
            self._over(strand)
        except Unavailable:  # it gave up: its leases are let go
            for claim in strand.work.held:
                self.held.pop(lease_of(claim), None)
            self._over(strand)

    def resume(self, strand: Strand, waits: int, reply: Any) -> None:
        """Give a strand what it waited for."""
        if not self.alive or strand.waits != waits:
            return
        if self.world.now < self.frozen_until:
            self.world.after(self.frozen_until - self.world.now, self.resume, strand, waits, reply)
            return
        strand.waits += 1
        strand.awaits = False
        self._step(strand, reply)

    def _over(self, strand: Strand) -> None:
        self.strands.remove(strand)
        self.world.active -= 1
        if strand.thread == MAIN:
            self.drain = None
            self.rest()
            return
        if strand.thread >= RELIEVER:
            return
        strand.drain.threads -= 1
        for other in self.strands:
            if other.awaits:
                self.world.after(0, self.resume, other, other.waits, None)

    # ── what the steps ask for

    def _call(self, strand: Strand, name: str, *args: Any) -> Any:
        waits = strand.waits

        def answered(reply: Any) -> None:
            if isinstance(reply, Exception):
                self.keeper.doubt()
            self.resume(strand, waits, reply)

        self.world.call(self, strand.thread, name, args, answered)
        return WAITS

    def _claim(self, strand: Strand, request: Any) -> Any:
        queue, token = self._drain_of(request)
        return self._call(strand, "claim", self.name, Asked(token, queue, *request))

    def _settle(self, strand: Strand, request: Any) -> Any:
        return self._call(strand, "settle", *self._settle_args(request))

    def _settle_args(self, request: Any) -> tuple[Any, ...]:
        queue, token = self._drain_of(request)
        asked = Asked(
            *(token, queue, request.process, request.thread, request.busy, request.batch, request.listens_ms),
            goes_on=request.goes_on,
        )
        return self.name, asked, request.inline, request.outcomes

    def _post(self, strand: Strand, request: Any) -> Posted:
        posted = Posted()

        def answered(reply: Any) -> None:
            if isinstance(reply, Exception):
                self.keeper.doubt()
            posted.then(reply)

        self.world.call(self, POSTING + strand.thread, "settle", self._settle_args(request.settle), answered)
        return posted

    def _receive(self, strand: Strand, request: Any) -> Any:
        posted, waits = request.call, strand.waits
        if posted.reply is not None:
            return posted.reply
        posted.then = lambda reply: self.resume(strand, waits, reply)
        return WAITS

    def _drain_of(self, request: Any) -> tuple[str, str]:
        assert self.drain is not None, "a drain that has ended goes on"
        if self.closing and (request.process or request.thread):
            self.world.history.append((word.GREEDY, self.world.now, self.name))
        return self.drain

    def _advance(self, strand: Strand, request: Any) -> Any:
        return False, []

    def _send(self, strand: Strand, request: Any) -> None:
        self.world.send(request.messages)

    def _hold(self, strand: Strand, request: Any) -> None:
        for claim in request.claims:
            self.held[lease_of(claim)] = None
        self.keeper.begin()

    def _drop(self, strand: Strand, request: Any) -> None:
        for claim in request.claims:
            self.held.pop(lease_of(claim), None)

    def _remind(self, strand: Strand, request: Any) -> None:
        self.world.after(int(request.seconds * US), self._sweep)

    def _sweep(self) -> None:
        if self.alive and self.world.now >= self.frozen_until:
            self._sweeps += 1
            if self._sweeps == 1:
                self.world.call(self, SWEEPER, "sweep", (0,), self._swept)

    def _swept(self, reply: Any) -> None:
        again, self._sweeps = self._sweeps > 1, 0
        if again:
            self._sweep()
        if not isinstance(reply, Exception):
            self.world.send(reply.messages)

    def _now(self, strand: Strand, request: Any) -> float:
        return self.world.now / US * self.rate + self.skew

    def _listen(self, strand: Strand, request: Any) -> Any:
        queue, token = self._drain_of(request.claim)
        waits = strand.waits

        def claim() -> None:
            """The server does it, also if this process is frozen, or is to end since."""
            if self.alive and strand.waits == waits and not strand.is_claiming:
                strand.is_claiming = True
                self.world.listeners.pop(token, None)
                if self.draw() < 0.3:  # it rang twice
                    self.resume(strand, waits, Next([], []))
                else:
                    self._call(strand, "claim", self.name, Asked(token, queue, *request.claim))

        strand.is_claiming = False
        if token in self.world.bells:
            self.world.bells.remove(token)
            claim()
        else:
            self.world.listeners[token] = claim
            self.world.after(int(request.seconds * US), claim)
        return WAITS

    def _pause(self, strand: Strand, request: Any) -> Any:
        self.world.after(int(request.seconds * US), self.resume, strand, strand.waits, None)
        return WAITS

    def _find_threads(self, strand: Strand, request: Any) -> list[Claimed]:
        def is_thread(claim: Claimed) -> bool:
            node = self.world.plans[claim.plan].nodes[Ref.parse(claim.key).node]
            return node.placement is FlowType.THREAD

        return [claim for claim in request.claims if is_thread(claim)]

    def _start_thread(self, strand: Strand, request: Any) -> None:
        strand.drain.threads += 1
        work = Work([request.claim])
        self._begin(strand.drain.beside(work), work, strand.drain, self._free(1))

    def _free(self, first: int) -> int:
        """Give a thread's number that nobody uses."""
        used = {other.thread for other in self.strands}
        return next(number for number in range(first, first + 100) if number not in used)

    def relieve(self, strand: Strand, waits: int) -> None:
        """Let nothing wait behind an attempt that takes long."""
        if not self.alive or strand.waits != waits or self.world.now < self.frozen_until:
            return
        if strand.work.is_late(self._now(strand, None)) and not strand.work.is_relieved:
            self._begin(strand.drain.relieve(strand.work), Work(), strand.drain, self._free(RELIEVER))

    def _await_thread(self, strand: Strand, request: Any) -> Any:
        if not strand.drain.threads:
            return None
        strand.awaits = True
        return self._pause(strand, request)

    def _expect(self, strand: Strand, request: Any) -> float:
        paces = SHORT_PACES_S if self.world.setup.duration <= SHORT else PACES_S
        return paces[int(self.draw() * len(paces))]

    def _run(self, strand: Strand, request: Any) -> Any:
        strand.outputs = request.outputs
        return self.worker.attempts.run(self, strand, request.claim)


WAITS = object()
"""A request takes time."""


def lease_of(claim: Claimed) -> Lease:
    return claim.run, Ref.parse(claim.key), claim.fence
