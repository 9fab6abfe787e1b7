"""One seed: a world, a fleet, clients, and faults that strike; then the oracles judge what has happened."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from tests.chaos.simulation import history as word
from tests.chaos.simulation.attempts import Attempts
from tests.chaos.simulation.clients import Canceller, Client, Pauser, Retrier, Waiter
from tests.chaos.simulation.delivery import US
from tests.chaos.simulation.history import Event
from tests.chaos.simulation.oracles import Broken, Judge
from tests.chaos.simulation.process import Process
from tests.chaos.simulation.setup import Setup, setup_of
from tests.chaos.simulation.worker import Worker
from tests.chaos.simulation.world import Caller, Parts, World

BOUND = 240 * US
"""A run must have ended so long after the last fault."""


class Simulation:
    """Everything of one seed."""

    def __init__(
        self, seed: int, parts: Parts | None = None, *, kinds: Collection[str] = (), story: bool = False
    ) -> None:
        self.chance = random.Random(seed)
        self.setup: Setup = setup_of(self.chance, kinds)
        self.world = world = World(seed, self.setup, self.chance, parts or Parts(), story=story)
        world.strike = self.strike
        world.on_end = self._publish
        self._saved: dict[str, Any] | None = None
        """What the store will come back with."""
        self.cancelled: set[str] = set()
        attempts = Attempts(world)
        self.workers = [Worker(world, f"w{number}", attempts) for number in range(self.setup.workers)]
        for worker in self.workers:
            worker.start()
        given = zip(self.setup.plans, self.setup.deadlines, strict=True)
        self.clients = [Client(world, f"r{number}", *of_run) for number, of_run in enumerate(given)]
        self.operators: list[Retrier | Pauser | Canceller] = []

    @property
    def history(self) -> list[Event]:
        return self.world.history

    def run(self) -> None:
        """Take it to its end, and judge it; Broken if it is not as it must be."""
        world = self.world
        is_over = world.go_on(self._is_over, lambda: world.last_fault + BOUND)
        plans = {client.run: client.plan for client in self.clients}
        deadlines = {client.run: client.deadline for client in self.clients}
        times = self.setup.times
        patience = times.renew + US if self.setup.is_steady else None
        judge = Judge(plans, deadlines, times.lease, patience, self.cancelled)
        judge.follow(self.history)
        if not is_over:
            raise Broken(self._stuck())
        for waiter in self._waiters():
            if waiter.seen is not None:
                judge.check_end(waiter.run, waiter.seen)

    def _is_over(self) -> bool:
        world = self.world
        return (
            world.active == 0
            and all(client.is_done for client in self.clients)
            and all(operator.is_done for operator in self.operators)
            and all(stored.state.status.is_final for stored in world.store.runs.values())
        )

    def _stuck(self) -> str:
        waiting = [one.name for one in (*self.clients, *self.operators) if not one.is_done]
        return f"nothing more happens, or for too long: {waiting} wait, {self.world.active} strands are left"

    def _waiters(self) -> list[Waiter]:
        return [*self.clients, *(operator for operator in self.operators if isinstance(operator, Waiter))]

    def _publish(self, run: str) -> None:
        for waiter in self._waiters():
            if waiter.run == run:
                self.world.publish(waiter.tell)

    # ── faults

    def strike(self, kind: str) -> None:
        """Let a fault happen."""
        self.world.disturb(0)
        match kind:
            case "a process dies":
                if process := self._any_process():
                    self.world.note(f"{process.name} dies")
                    process.worker.lose_process(process)
            case "a worker dies":
                if worker := self._any_worker():
                    self.world.note(f"{worker.name} dies")
                    self.world.disturb(20 * US)
                    worker.die()
            case "a process freezes":
                if process := self._any_process():
                    self._freeze([process], process.name)
            case "a worker freezes":
                if worker := self._any_worker():
                    self._freeze([worker, *worker.processes], worker.name)
            case "a worker closes":
                worker = self._any_worker()
                if worker and not worker.is_closing:
                    self.world.note(f"{worker.name} is to close")
                    self.world.disturb(15 * US)
                    worker.close()
            case "the store is away":
                pause = int(self.world.draw() * (2 if self.world.draw() < 0.7 else 40) * US)
                self.world.note(f"the store is away for {pause / US:.1f} s")
                self._away(pause)
            case "the store rewinds":
                if self._saved is None:
                    self.world.history.append((word.SAVED, self.world.now))
                    self._saved = self.world.store.save()
                    self.world.after(int(self.world.draw() * US), self._rewind)
            case "the store is emptied":
                self.world.note("the store comes back with nothing")
                self._away(int(self.world.draw() * 3 * US))
                self.world.store.clear()
                self.world.said.clear()
                self._saved = None
                self.world.history.append((word.EMPTIED, self.world.now))
            case "a cancel":
                run = self._any_run()
                self.cancelled.add(run)
                self.operators.append(Canceller(self.world, self._name("cancels", run), run))
            case "a pause":
                run = self._any_run()
                self.operators.append(Pauser(self.world, self._name("pauses", run), run))
            case "a retry":
                run = self._any_run()
                self.operators.append(Retrier(self.world, self._name("retries", run), run))

    def _any_run(self) -> str:
        return self.clients[int(self.world.draw() * len(self.clients))].run

    def _name(self, does: str, run: str) -> str:
        self.world.history.append((word.ASKED, self.world.now, f"somebody {does} {run}"))
        return f"{len(self.operators)}-{does}-{run}"

    def _away(self, pause: int) -> None:
        self.world.disturb(pause)
        self.world.away_until = max(self.world.away_until, self.world.now + pause)
        for waiter in self._waiters():  # their connections are lost with it
            self.world.after(pause + int(self.world.draw() * US), waiter.tell)

    def _rewind(self) -> None:
        if self._saved is None:
            return
        self.world.note("the store comes back without its last second")
        self.world.store.come_back(self._saved)
        self.world.said.clear()  # what it had said may be gone with its data
        self._saved = None
        self.world.history.append((word.REWOUND, self.world.now))
        self._away(int(self.world.draw() * 3 * US))

    def _freeze(self, callers: list[Caller], name: str) -> None:
        pause = int((0.2 + 1.8 * self.world.draw()) * self.setup.times.lease)
        self.world.note(f"{name} freezes for {pause / US:.1f} s")
        self.world.disturb(pause)
        for caller in callers:
            caller.frozen_until = self.world.now + pause
            if isinstance(caller, Process):
                self.world.history.append((word.FROZEN, self.world.now, caller.name))

    def _any_process(self) -> Process | None:
        processes = [process for worker in self.workers if worker.alive for process in worker.processes]
        busy = [process for process in processes if process.strands]
        chosen = busy or processes
        return chosen[int(self.world.draw() * len(chosen))] if chosen else None

    def _any_worker(self) -> Worker | None:
        living = [worker for worker in self.workers if worker.alive]
        return living[int(self.world.draw() * len(living))] if living else None


def simulate(seed: int, parts: Parts | None = None, kinds: Collection[str] = ()) -> None:
    """Run one seed; Broken if it is not as it must be."""
    Simulation(seed, parts, kinds=kinds).run()
