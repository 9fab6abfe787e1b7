"""Keeps the claims of a simulated process alive, and stops what it has lost: the lease keeper's thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.chaos.simulation.claims import Lease
from tests.chaos.simulation.delivery import US
from tests.chaos.simulation.world import World

if TYPE_CHECKING:
    from tests.chaos.simulation.process import Process

KEEPER = -2
"""The thread's number."""

LOOK_US = US // 2


class Keeper:
    """One call after the other, as long as there is something to keep."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process
        self._renewed = self._called = world.now
        """When it was last certain that all is held; when that was last asked."""
        self._turn = 0
        """Grows with every plan of what is next: an older one is void."""
        self._plans = self._calls = self._is_asked = False
        self._doubts_until = -1

    def doubt(self) -> None:
        """A call was given up: it may have claimed what nobody here knows of."""
        times = self.world.setup.times
        self._doubts_until = self.world.now + times.lease + 3 * times.renew
        self.begin()

    def begin(self) -> None:
        """There is something to keep now."""
        if not self._plans and not self._calls:
            self._renewed = self.world.now  # whoever claims says that this process lives
            self._plan(max(LOOK_US, self._called + self.world.setup.times.renew - self.world.now))

    def renew_now(self) -> None:
        """The parent knows of a lease that is lost."""
        if self._calls:
            self._is_asked = True
        else:
            self._plan(0)

    def _plan(self, delay: int) -> None:
        self._turn += 1
        self._plans = True
        self.world.after(delay, self._renew, self._turn)

    def _renew(self, turn: int) -> None:
        world, process = self.world, self.process
        if not process.alive or turn != self._turn:
            return
        if world.now < process.frozen_until:
            world.after(process.frozen_until - world.now, self._renew, turn)
            return
        self._plans = False
        if process.held or process.drain is not None or world.setup.is_busy or world.now < self._doubts_until:
            self._calls, self._is_asked = True, False
            leases, tokens = list(process.held), [process.drain] if process.drain else []
            if world.setup.is_busy:
                tokens.append(("other", process.name))
            world.call(
                process, KEEPER, "renew", (process.name, leases, tokens), lambda reply: self._answered(leases, reply)
            )

    def _answered(self, leases: list[Lease], reply: Any) -> None:
        world, process, times = self.world, self.process, self.world.setup.times
        if world.now < process.frozen_until:
            world.after(process.frozen_until - world.now, self._answered, leases, reply)
            return
        self._calls = False
        if isinstance(reply, Exception):
            self._doubts_until = world.now + times.lease + 3 * times.renew
            if world.now - self._renewed > times.lease:
                for lease, strand in process.held.items():  # still named, until what came of it is stored
                    if strand is not None:
                        process.held[lease] = None
                        process.worker.attempts.stop(process, strand, is_lost=False)
            self._plan(min(LOOK_US, times.renew))
            return
        self._renewed = self._called = world.now
        lost, messages = reply
        for position in lost:
            strand = process.held.pop(leases[position], None)
            if strand is not None:
                process.worker.attempts.stop(process, strand, is_lost=True)
        world.send(messages)
        self._plan(0 if self._is_asked else times.renew)
