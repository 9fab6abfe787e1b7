"""Bare Celery under the same faults: the fork-join of a run is a chord, the most that a canvas can express of it."""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from flowq.standalone import EmbeddedServer
from flowq.standalone.workers import WorkerProcesses
from tests.chaos import celery_tasks
from tests.chaos.client import AWAY
from tests.chaos.designs import NODES
from tests.chaos.effects import effects
from tests.chaos.faults import Fault, Injector
from tests.chaos.outcome import Outcome

LOOK_S = 0.5
"""Between two looks at the results that are missing."""


@dataclass(frozen=True)
class CeleryPeer:
    """Celery alone, in one of its configurations."""

    name: str
    title: str
    workers: int = 3
    concurrency: int = 2

    def chaos(self, seed: int, times: Sequence[float], plan: Sequence[Fault], *, patience_s: float) -> Outcome:
        """Run a fork-join at each of the times (seconds), under the plan; wait ``patience_s`` after its last fault."""
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as folder,
            EmbeddedServer() as server,
            redis.Redis.from_url(server.redis_url) as client,
            celery_tasks.make_app(server.url, self.name) as app,
        ):
            path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
            command = [sys.executable, "-m", celery_tasks.__name__, server.url, self.name, "worker"]
            command += ["--hostname", "{name}@%h", "--concurrency", str(self.concurrency), "--loglevel", "CRITICAL"]
            workers = WorkerProcesses(
                self.workers, command, ready=lambda: _ready(client, workers), env={"PYTHONPATH": path}
            )
            with workers:
                workers.wait_ready()
                log = Path(folder) / "effects"
                outcome = self._run(app, client, Injector(server, workers, log), seed, times, plan, patience_s)
                workers.stop(grace_s=0)
            app.backend.result_consumer.subscribed_to.clear()  # the server is going; nothing is to be unsubscribed
        return outcome

    def _run(
        self,
        app: Any,
        client: Any,
        injector: Injector,
        seed: int,
        times: Sequence[float],
        plan: Sequence[Fault],
        patience_s: float,
    ) -> Outcome:
        began = time.monotonic()
        injecting = threading.Thread(target=injector.run, args=(plan, began))
        injecting.start()
        waiting = {}
        for number, at_s in enumerate(times):
            time.sleep(max(0.0, began + at_s - time.monotonic()))
            choose = random.Random(f"{seed} {number}")
            takes_ms = [min(200, 5 + int(choose.expovariate(1 / 50))) for _ in range(NODES)]
            waiting[f"run{number}"] = _submit(app, f"run{number}", takes_ms, str(injector.log))
        injecting.join()
        last_fault = time.monotonic()
        outcome = Outcome(self.name, self.title, len(times), needed=NODES * len(times))
        expected = celery_tasks.expected_core(NODES)
        while waiting and time.monotonic() < last_fault + patience_s:
            for run, task in list(waiting.items()):
                found = _result(client, task)
                if found is not None:
                    del waiting[run]
                    is_right = found["status"] == "SUCCESS" and found["result"]["core"] == expected
                    outcome.right, outcome.wrong = outcome.right + is_right, outcome.wrong + (not is_right)
                    outcome.last_s = max(0.0, time.monotonic() - last_fault)
            time.sleep(LOOK_S)
        outcome.hung = len(waiting)
        outcome.executions = sum(effect.what == "start" for effect in effects(injector.log))
        outcome.faults = dict(injector.counts())
        outcome.notes = {f"fault not carried out: {text}": 1 for text in injector.failed}
        outcome.seconds = time.monotonic() - began
        return outcome


def _submit(app: Any, run: str, takes_ms: list[int], log: str) -> str:
    """Send the chord, again and again while the server is away; gives the id of its last task."""
    while True:
        try:
            return str(celery_tasks.fork_join(app, run, takes_ms, log).apply_async().id)
        except AWAY:
            time.sleep(LOOK_S)


def _result(client: Any, task: str) -> dict[str, Any] | None:
    """Give what is stored of a task that has ended."""
    try:
        text = client.get(f"celery-task-meta-{task}")
    except AWAY:
        return None
    found = None if text is None else json.loads(text)
    return found if found and found["status"] in ("SUCCESS", "FAILURE", "REVOKED") else None


def _ready(client: Any, workers: WorkerProcesses) -> set[str]:
    pids = {str(worker.pid) for worker in workers.processes}
    found = (member.decode().partition("/") for member in client.smembers(celery_tasks.READY))
    return {name for name, _, pid in found if pid in pids}
