"""What recovery is measured of: each function makes some events of a kind, and gives how long each took."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from flowq import FlowContext, Settings
from flowq.standalone import EmbeddedContext
from flowq.testing import wait_until
from flowq.testing.fleet import fleet
from tests.chaos import holding
from tests.chaos.effects import Effect
from tests.chaos.faults import children_of, within
from tests.chaos.holding import Holds, Log, Takes, many, one

PHASE_S = 2.0
"""Faults strike at any moment of the sweep's period, the longest of all that goes round here."""


class Site(NamedTuple):
    """Workers, and what their nodes note."""

    context: EmbeddedContext
    log: Log
    choose: random.Random

    def submit(self, flow: Any) -> str:
        """Submit a run; gives its id."""
        return str(flow.submit(self.log.given, context=self.context).run_id)

    def worker_of(self, pid: int) -> int:
        """Give the number of the worker that a process belongs to."""
        parents = [worker.pid for worker in self.context.workers.processes]
        return next(number for number, parent in enumerate(parents, 1) if pid in children_of(parent))

    def ready(self) -> None:
        """Wait until all workers are there, with all their children."""
        within(60, lambda: self.context.workers.wait_ready(60), "the workers")


@contextmanager
def site(seed: int, workers: int, concurrency: int, **more: Any) -> Iterator[Site]:
    """Start workers."""
    with (
        tempfile.TemporaryDirectory(prefix="recovery-") as folder,
        fleet(workers, [holding], concurrency=concurrency, **more) as context,
    ):
        yield Site(context, Log(Path(folder) / "effects"), random.Random(f"recovery {seed}"))


def child_killed(events: int, seed: int) -> list[float]:
    """From the kill of a pool process to the next start of its node; every other time no other slot is free."""
    found = []
    with site(seed, workers=2, concurrency=2) as here:
        for number in range(events):
            runs = [here.submit(one(Holds())) for _ in range(4 if number % 2 else 1)]
            first = [here.log.await_start(run) for run in runs]
            victim = first[here.choose.randrange(len(first))]
            found += _strike(here, [victim], partial(os.kill, victim.pid, signal.SIGKILL))
            for start in first:
                here.log.let_go(start)
            _await_ends(here, runs)
    return found


def tree_killed(events: int, seed: int) -> list[float]:
    """From the kill of a worker with all its processes to the starts of its nodes on another one.

    Of six workers, five are killed, each at a moment of its own; the nodes of the sixth are let go before.
    """
    found: list[float] = []
    with site(seed, workers=6, concurrency=2) as here:
        while len(found) < events:
            found += _all_but_one(here, here.context.workers.kill)
    return found[:events]


def terminated(events: int, seed: int) -> list[float]:
    """From the end of a worker's grace to the starts of its nodes on another one."""
    grace_s = 1.0
    found: list[float] = []
    with site(seed, workers=6, concurrency=2, settings={"grace_s": grace_s}) as here:
        while len(found) < events:
            found += _all_but_one(here, lambda number: here.context.workers.processes[number - 1].terminate())
    return [seconds - grace_s for seconds in found[:events]]


def _all_but_one(here: Site, strike: Callable[[int], None]) -> list[float]:
    """Fill all slots, then strike all workers but one, and see when each node starts again; then put them right."""
    slots = 2 * len(here.context.workers.processes)
    runs = [here.submit(one(Holds())) for _ in range(slots)]
    first = [here.log.await_start(run) for run in runs]
    by_worker: dict[int, list[Effect]] = {}
    for start in first:
        by_worker.setdefault(here.worker_of(start.pid), []).append(start)
    spared = here.choose.choice(sorted(by_worker))
    for start in by_worker.pop(spared):
        here.log.let_go(start)
    plan = [(here.choose.uniform(0, PHASE_S), number) for number in by_worker]
    with ThreadPoolExecutor(len(plan)) as pool:
        going = [pool.submit(_later, here, at_s, by_worker[number], strike, number) for at_s, number in plan]
        found = [seconds for future in going for seconds in future.result()]
    _await_ends(here, runs)
    for number in by_worker:
        here.context.workers.processes[number - 1].wait(30)
        here.context.workers.restart(number)
    here.ready()
    return found


def _later(
    here: Site, at_s: float, starts: Sequence[Effect], strike: Callable[[int], None], number: int
) -> list[float]:
    time.sleep(at_s)
    return _strike(here, starts, lambda: strike(number))


def _strike(here: Site, starts: Sequence[Effect], strike: Callable[[], None]) -> list[float]:
    """Strike those who hold these nodes; gives the seconds until each starts again."""
    time.sleep(here.choose.uniform(0, 0.5))  # at any moment between two looks of the supervisor
    began = time.time_ns()
    strike()
    return [(here.log.await_start(start.run, 2).at - began) / 1e9 for start in starts]


def _await_ends(here: Site, runs: Sequence[str]) -> None:
    client: Any = here.context.client
    for run in runs:
        client.handle(run).result(60)


OUTAGES_S = (*[(0.3, 1.5)] * 4, (1.5, 3.0), *[(0.3, 1.5)] * 3, (3.0, 8.0), (8.0, 30.0))
"""How long the server is away, in turn: most often not for long."""

SYNCED_S = 2.5
"""After so long, the server does not forget a write any more, when it is killed."""


def server_killed(events: int, seed: int) -> list[float]:
    """From the moment when the server answers again to the next start of a node.

    Every other time the workers are in the middle of a run; else they have nothing to do, and a run is submitted as
    soon as the server answers.
    """
    with site(seed, workers=2, concurrency=2) as here:
        return [_outage(here, OUTAGES_S[number % 10], busy=number % 2 == 0) for number in range(events)]


def _outage(here: Site, lasts_s: tuple[float, float], *, busy: bool) -> float:
    run = here.submit(many(Takes(seconds=0.05), 600)) if busy else ""
    time.sleep(here.choose.uniform(SYNCED_S * busy, SYNCED_S * busy + PHASE_S))
    here.context.server.kill()
    time.sleep(here.choose.uniform(*lasts_s))
    here.context.server.restart()
    back = time.time_ns()
    if not busy:
        within(60, lambda: here.submit(one(Takes(seconds=0))), "a submit")
    wait_until(lambda: _since(here, back), 60, "a start")
    if busy:
        client: Any = here.context.client
        within(60, lambda: client.handle(run).cancel(), "a cancel")
    return (_since(here, back)[0].at - back) / 1e9


def _since(here: Site, moment: int) -> list[Effect]:
    return sorted((start for start in here.log.starts() if start.at >= moment), key=lambda start: start.at)


def wake_up_lost(events: int, seed: int) -> list[float]:
    """From the submit of a run whose wake-up goes astray to its first start.

    The wake-ups lie where no worker looks. Each run has a queue of its own, so that none profits from another's.
    """
    queues = [f"q{number}" for number in range(10)]
    found: list[float] = []
    with site(seed, workers=2, concurrency=2, queues=queues) as here:
        broker = here.context.server.url.replace("virtual_host=0", "virtual_host=9")
        with closing(FlowContext(Settings(broker_url=broker, state_url=here.context.server.redis_url))) as producer:
            while len(found) < events:
                plan = [(queue, here.choose.uniform(0, PHASE_S)) for queue in queues]
                with ThreadPoolExecutor(len(plan)) as pool:
                    going = [pool.submit(_lost, here, producer, queue, delay_s) for queue, delay_s in plan]
                    found += [future.result() for future in going]
    return found[:events]


def _lost(here: Site, producer: FlowContext, queue: str, delay_s: float) -> float:
    time.sleep(delay_s)
    began = time.time_ns()
    run = one(Takes(seconds=0), queue=queue).submit(here.log.given, context=producer).run_id
    return (here.log.await_start(run).at - began) / 1e9
