"""A worker: its processes, that it says they are there, and, if it supervises, that it buries its dead."""

from __future__ import annotations

from typing import Any

from tests.chaos.simulation.delivery import US
from tests.chaos.simulation.process import QUEUES, Process
from tests.chaos.simulation.world import Caller, World

BEACON, VOUCHER, GOODBYE = 0, 1, 2
"""Threads of a parent; each burial counts as one more."""


class Worker(Caller):
    """A parent with its processes: it says that they are there, sweeps, and, if it supervises, buries its dead."""

    def __init__(self, world: World, name: str, attempts: Any) -> None:
        super().__init__(name)
        self.world, self.attempts = world, attempts
        self._own_name = name
        self.generation = 0
        self.processes: list[Process] = []
        self.is_closing = self._is_over = False
        self._born = self._burials = 0

    def start(self) -> None:
        """Begin, or begin again."""
        self.alive, self.is_closing, self._is_over, self.frozen_until = True, False, False, 0
        self.generation += 1
        self.name = f"{self._own_name}/{self.generation}"
        self.processes = []
        for _ in range(self.world.setup.processes):
            self._spawn()
        self._beat(self.generation)
        if self.world.setup.is_supervised:
            self._vouch(self.generation)

    def _spawn(self) -> None:
        self._born += 1
        process = Process(self.world, self, f"{self._own_name}p{self._born}")
        self.processes.append(process)
        process.rest()
        if self.world.setup.is_busy:
            process.keeper.begin()

    def _beat(self, generation: int) -> None:
        """Say that it is there, and sweep."""
        world, setup = self.world, self.world.setup
        if not self.alive or generation != self.generation or self.is_closing:
            return
        if world.now < self.frozen_until:
            world.after(self.frozen_until - world.now, self._beat, generation)
            return
        world.call(
            self,
            BEACON,
            "register",
            (self.name, QUEUES, setup.processes),
            lambda reply: self._registered(generation, reply),
        )

    def _registered(self, generation: int, reply: Any) -> None:
        world, times = self.world, self.world.setup.times
        if generation != self.generation:
            return
        if isinstance(reply, Exception):
            world.after(times.sweep, self._beat, generation)
            return
        world.send(reply)
        if world.setup.is_quiet:
            return
        every = int(times.sweep * 0.9)
        world.call(self, BEACON, "sweep", (every,), lambda swept: self._swept(generation, swept))

    def _swept(self, generation: int, reply: Any) -> None:
        world, pause = self.world, self.world.setup.times.sweep
        if not isinstance(reply, Exception):
            world.send(reply.messages)
            if reply.next_due >= 0:
                pause = min(pause, max(50_000, reply.next_due))
        world.after(pause, self._beat, generation)

    def _vouch(self, generation: int) -> None:
        world, setup = self.world, self.world.setup
        if not self.alive or generation != self.generation:
            return
        if world.now < self.frozen_until:
            world.after(self.frozen_until - world.now, self._vouch, generation)
            return
        busy = [
            p.name
            for p in self.processes
            if p.alive and (p.drain or p.held or setup.is_busy) and p.frozen_until <= world.now
        ]
        if busy:
            world.call(self, VOUCHER, "vouch", (busy,), lambda reply: self._vouched(generation, reply))
        else:
            world.after(setup.times.renew, self._vouch, generation)

    def _vouched(self, generation: int, reply: Any) -> None:
        self.world.after(self.world.setup.times.renew, self._vouch, generation)
        if isinstance(reply, Exception):
            return
        lost = {holder for holder, _ in reply}
        for process in self.processes:
            if process.alive and process.name in lost and process.frozen_until <= self.world.now:
                process.keeper.renew_now()

    # ── its processes' ends

    def lose_process(self, process: Process) -> None:
        """A process has died."""
        drain = process.drain
        process.end()
        self.processes.remove(process)
        if self.world.setup.is_supervised:
            tokens = [drain] if drain else []
            self.world.after(int(self.world.draw() * US / 2), self._bury, [process.name], tokens, self.generation)
        if not self.is_closing:
            self.world.after(int(self.world.draw() * US), self._replace, self.generation)

    def _bury(self, holders: list[str], tokens: list[tuple[str, str]], generation: int) -> None:
        """Have what these held given to others, however long that takes; the end of the worker's grace comes once."""
        crashed = not self._is_over
        if not self.alive or generation != self.generation:
            return
        self._burials += 1

        def buried(reply: Any) -> None:
            if not isinstance(reply, Exception):
                self.world.send(reply)
            elif crashed:
                self.world.after(US // 4, self._bury, holders, tokens, generation)

        self.world.call(self, GOODBYE + self._burials, "bury", (holders, tokens, crashed), buried)

    def _replace(self, generation: int) -> None:
        if self.alive and generation == self.generation and not self.is_closing:
            self._spawn()

    def die(self) -> None:
        """The whole worker is gone; it comes up again some time later."""
        self.alive = False
        for process in self.processes:
            process.end()
        self.processes = []
        self.world.after(int(self.world.draw() * 20 * US), self._start_again, self.generation)

    def _start_again(self, generation: int) -> None:
        if generation == self.generation:
            self.start()

    def close(self) -> None:
        """End in good order, within a grace."""
        self.is_closing = True
        for process in list(self.processes):
            process.close()
        if self.processes:
            self.world.after(int(self.world.draw() * 10 * US), self._end_grace, self.generation)
        elif self.alive:
            self._has_closed()

    def _end_grace(self, generation: int) -> None:
        if not self.alive or generation != self.generation:
            return
        left = [process for process in self.processes if process.alive]
        names, drains = [p.name for p in left], [p.drain for p in left if p.drain]
        if self.world.setup.is_supervised:
            self._is_over = True
            self._bury(names, drains, generation)
        for process in left:
            process.end()
        self.processes = []
        self._has_closed()

    def has_left(self, process: Process) -> None:
        """A process has ended by itself."""
        if process in self.processes:
            self.processes.remove(process)
        if self.is_closing and not self.processes and self.alive:
            self.alive = False
            self._has_closed()

    def _has_closed(self) -> None:
        self.world.call(self, GOODBYE, "register", (self.name, QUEUES, 0), lambda reply: None)
        self.world.after(int(self.world.draw() * 5 * US), self._start_again, self.generation)
