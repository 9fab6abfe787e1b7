"""A virtual world: one clock, a network that may lose what it carries, a broker, and the store.

Nothing here waits. Whatever happens is an entry of one heap, and every choice comes from one seeded generator: a seed
is one story.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from flowq.core.errors import StoreUnavailableError
from flowq.runtime import drain_steps, keeping, machine, reopening, steps
from flowq.runtime.replies import Next, WakeUp
from tests.chaos.simulation import history as word
from tests.chaos.simulation import store as store_module
from tests.chaos.simulation.delivery import US, Call
from tests.chaos.simulation.history import Event
from tests.chaos.simulation.setup import Setup
from tests.chaos.simulation.store import READS

if TYPE_CHECKING:
    from tests.chaos.simulation.process import Process

CALM = 120
"""From so many calls of the store on, nothing gets lost or late any more: the run must come to its end."""


MOST = 20_000
"""Things that happen in one seed; more of them mean that something goes round in circles."""

HELD_UP_US = 8 * US
"""A call may reach the store so late."""

KEPT_US = 100 * US
"""For so long, at least, a repeated call is answered as before."""


class Parts(NamedTuple):
    """The modules under test."""

    machine: ModuleType = machine
    steps: ModuleType = steps
    keeping: ModuleType = keeping
    drain: ModuleType = drain_steps
    reopening: ModuleType = reopening
    store: ModuleType = store_module


class Unavailable(StoreUnavailableError):
    """The store could not be reached, after all the connection's own retries."""


class Caller:
    """Somebody with a connection to the store."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.frozen_until = 0


class World:
    """Time, chance, network, broker and store."""

    def __init__(self, seed: int, setup: Setup, chance: random.Random, parts: Parts, *, story: bool) -> None:
        self.seed, self.setup, self.parts = seed, setup, parts
        self.chance, self.draw = chance, chance.random
        self.now = 0
        self.history: list[Event] = []
        self.story = story
        self.store = parts.store.Store(parts.machine, setup.times.lease, setup.times.renew, self.history)
        self.away_until = 0
        self.plans = {plan.hash: plan for plan in setup.plans}
        self.active = 0
        """Strands at work."""
        self.calls = 0
        self.strikes = list(setup.strikes)
        self.strike: Callable[[str], None] = lambda kind: None
        self.on_end: Callable[[str], None] = lambda run: None
        self.last_fault = 0
        self.messages: dict[str, list[WakeUp]] = {}
        """Of the broker, by queue: those that no process has taken."""
        self.idle: dict[str, list[Process]] = {}
        self.listeners: dict[str, Callable[[], None]] = {}
        """By token."""
        self.bells: set[str] = set()
        """Rung before anybody listened."""
        self.is_calm = False
        """Nothing gets lost or late any more."""
        self._heap: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._number = 0
        self.said: dict[int, tuple[int, Any]] = {}
        """By call: when its reply was lost first, and what it was."""
        kinds = setup.kinds
        self._loses = 0.3 if "lost wake-ups" in kinds else 0.0
        self._repeats = 0.3 if "repeated wake-ups" in kinds else 0.0
        self._delays = 0.4 if "late wake-ups" in kinds else 0.0
        self._loses_replies = 0.15 if "lost replies" in kinds else 0.0
        self._late_calls = 0.15 if "late calls" in kinds else 0.0

    # ── time

    def after(self, delay: int, call: Callable[..., Any], *args: Any) -> None:
        """Have something happen."""
        self._number += 1
        heapq.heappush(self._heap, (self.now + delay, self._number, call, args))

    def go_on(self, is_over: Callable[[], bool], limit: Callable[[], int]) -> bool:
        """Let time pass until all is over (True), or has taken too long."""
        heap, store, pop = self._heap, self.store, heapq.heappop
        while not is_over():
            if not heap or self._number > MOST:
                return False
            self.now, _, call, args = pop(heap)
            if self.now > limit():
                return False
            store.now = self.now
            call(*args)
        return True

    def disturb(self, pause: int) -> None:
        """Something that is no work of the fleet's goes on for so long: the runs' ends may be that much later."""
        self.last_fault = max(self.last_fault, self.now + pause)

    # ── the network

    def call(self, caller: Caller, thread: int, name: str, args: tuple[Any, ...], then: Callable[[Any], None]) -> None:
        """Call the store; ``then`` gets the reply, or the exception that ended all tries.

        A caller's thread makes one call after the other.
        """
        self._number += 1
        call = f"{caller.name}.{thread}", self._number
        delay = self._latency()
        if self._late_calls and not self.is_calm and self.draw() < self._late_calls / 4:
            delay = int(self.draw() * HELD_UP_US)
            self._excuse(caller, name, delay)
        self.after(delay, self._execute, caller, call, name, args, then, self.now)

    def _execute(
        self, caller: Caller, call: Call, name: str, args: tuple[Any, ...], then: Callable[[Any], None], began: int
    ) -> None:
        if self.now < self.away_until:  # the connection tries again, as long as its caller lives
            if not caller.alive:
                return
            if self.now - began > 10 * US:
                self.history.append((word.DOUBT, self.now, caller.name))
                then(Unavailable("the store is away"))
            else:
                self.after(int(self.draw() * US), self._execute, caller, call, name, args, then, began)
            return
        self.calls += 1
        reply = self.store.answer(call, name, args)
        if call[1] in self.said:
            at, said = self.said[call[1]]
            if self.now - at < KEPT_US and then is not _nobody and not _is_same(said, reply):
                self.history.append((word.UNSURE, self.now, f"{name} gives {reply} when it is repeated, not {said}"))
        if self.story:
            self.tell(f"{call[0]}.{call[1]} {name}{args} -> {reply}")
        if self.store.ended:
            for run in self.store.ended:
                self.on_end(run)
            self.store.ended.clear()
        if self.store.rung:
            self._ring()
        if self.strikes and self.calls >= self.strikes[0][0]:
            self._strike()
        if not self.is_calm:
            self.is_calm = self.calls >= CALM
            if self.draw() < self._loses_replies:
                pause = int(self.draw() * (US if self.draw() < 0.8 else 12 * US))
                self._excuse(caller, name, self.now + pause - began)
                self.after(pause, self._repeat, caller, call, name, args, then, began)
                if name not in READS:
                    self.said.setdefault(call[1], (self.now, reply))
                return
            if self.draw() < self._late_calls:
                self.after(int(self.draw() * 3 * US), self._execute, caller, call, name, args, _nobody, began)
        self.after(self._latency(), self._reply, caller, then, reply)

    def _excuse(self, caller: Caller, name: str, delay: int) -> None:
        """A process that cannot renew for so long is as good as frozen."""
        if name == "renew" and delay > self.setup.times.lease // 3:
            self.history.append((word.FROZEN, self.now, caller.name))

    def _repeat(
        self, caller: Caller, call: Call, name: str, args: tuple[Any, ...], then: Callable[[Any], None], began: int
    ) -> None:
        if caller.alive:
            if self.now < caller.frozen_until:
                again = (caller, call, name, args, then, began)
                self.after(caller.frozen_until - self.now, self._repeat, *again)
            else:
                self._execute(caller, call, name, args, then, began)

    def _reply(self, caller: Caller, then: Callable[[Any], None], reply: Any) -> None:
        if caller.alive:
            if self.now < caller.frozen_until:
                self.after(caller.frozen_until - self.now, self._reply, caller, then, reply)
            else:
                then(reply)

    def _strike(self) -> None:
        while self.strikes and self.calls >= self.strikes[0][0]:
            _, kind = self.strikes.pop(0)
            self.after(int(self.draw() * self.setup.latency), self.strike, kind)

    def _latency(self) -> int:
        return int(self.draw() * self.setup.latency)

    def _ring(self) -> None:
        """Tell those who listen."""
        for token in self.store.rung:
            if self.draw() < self._loses and not self.is_calm:
                self.tell(f"the bell of {token} is not heard")
            elif token in self.listeners:
                self.after(self._latency(), self.listeners.pop(token))
            else:
                self.bells.add(token)
        self.store.rung.clear()

    # ── the broker

    def send(self, wakes: Iterable[WakeUp]) -> None:
        """Publish wake-ups."""
        for wake in wakes:
            delay = self._latency()
            if not self.is_calm:
                if self.draw() < self._loses:
                    self.tell(f"{wake} is lost")
                    continue
                if self.draw() < self._repeats:
                    self.after(int(self.draw() * 2 * US), self._arrive, wake)
                if self.draw() < self._delays:
                    delay = int(self.draw() * 6 * US)
            self.after(delay, self._arrive, wake)

    def _arrive(self, wake: WakeUp) -> None:
        idle = self.idle.get(wake.queue)
        if idle:
            process = idle[int(self.draw() * len(idle))]
            process.answer(wake)
        else:
            self.messages.setdefault(wake.queue, []).append(wake)

    def publish(self, tell: Callable[[], None]) -> None:
        """Tell somebody who waits that a run has ended."""
        if self.is_calm or self.draw() >= self._loses:
            self.after(self._latency(), tell)

    # ── the story

    def tell(self, text: str) -> None:
        if self.story:
            self.history.append((word.TOLD, self.now, text))

    def note(self, text: str) -> None:
        """Note a fault."""
        self.history.append((word.FAULT, self.now, text))


def _is_same(said: Any, reply: Any) -> bool:
    """Whether a repeated call was answered as before; claims may have been lost meanwhile."""
    if isinstance(said, Next) and isinstance(reply, Next):
        claims = {claim.lease for claim in said.claims}
        return claims.issuperset(claim.lease for claim in reply.claims) and said[1:] == reply[1:]
    return bool(said == reply)


def _nobody(reply: Any) -> None:
    """Nobody waits for this reply."""
