"""flowq under the faults."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowq.standalone import EmbeddedContext
from flowq.testing.fleet import fleet
from flowq.testing.keyspace import SETTLE_S, open_keys
from flowq.testing.waiting import wait_until
from tests.chaos import flows
from tests.chaos.checker import check, executions
from tests.chaos.client import Client
from tests.chaos.designs import design
from tests.chaos.effects import Effect, effects
from tests.chaos.faults import Fault, Injector
from tests.chaos.history import FINAL, Case, History, Limits, Violation
from tests.chaos.outcome import Outcome, story

STORIES = 6
"""Of so many runs with violations, the story is kept."""

EARLY = 0.6
"""Nodes that are longer than a lease are in so many of the first runs only: else one that the last fault strikes takes
longer again than runs may take to end."""

TOLD_S = 25.0
"""Clients are given up so much later than runs: they may be in the middle of a wait."""


@dataclass(frozen=True)
class FlowqPeer:
    """flowq with these leases."""

    name: str
    title: str
    lease_s: float
    renew_s: float
    sweep_s: float
    workers: int = 3
    concurrency: int = 2

    def chaos(self, seed: int, times: Sequence[float], plan: Sequence[Fault], *, patience_s: float) -> Outcome:
        """Run a design at each of the times (seconds), under the plan; wait ``patience_s`` after its last fault."""
        settings = {"lease_s": self.lease_s, "renew_s": self.renew_s, "sweep_s": self.sweep_s}
        designs = [
            design(seed, number, f"run{number}", self.lease_s, is_short=number > EARLY * len(times))
            for number in range(len(times))
        ]
        with (
            tempfile.TemporaryDirectory(prefix="chaos-") as folder,
            fleet(self.workers, [flows], concurrency=self.concurrency, settings=settings) as context,
        ):
            injector = Injector(context.server, context.workers, Path(folder) / "effects")
            clients = [Client(context, made, str(injector.log)) for made in designs]
            began = time.monotonic()
            injecting = threading.Thread(target=injector.run, args=(plan, began))
            injecting.start()
            for client, at_s in zip(clients, times, strict=True):
                time.sleep(max(0.0, began + at_s - time.monotonic()))
                client.start()
            injecting.join()
            for client in clients:
                client.give_up_at(time.monotonic() + patience_s)
            for client in clients:
                client.join(patience_s + TOLD_S)
            histories = {client.design.run: client.history() for client in clients}
            left = self._left(context) if all(history.status in FINAL for history in histories.values()) else []
            outcome = self._outcome(clients, histories, effects(injector.log), injector)
            outcome.violations = [*(outcome.violations or ()), *left]
            outcome.seconds = time.monotonic() - began
        return outcome

    def _left(self, context: EmbeddedContext) -> list[Violation]:
        """Give the keys that stay for ever, now that all has ended."""
        try:
            wait_until(lambda: not open_keys(context), SETTLE_S + 2 * self.lease_s)
        except AssertionError:
            return [Violation("open key", "", "", key) for key in open_keys(context)]
        return []

    def _outcome(
        self,
        clients: Sequence[Client],
        histories: Mapping[str, History],
        noted: Sequence[Effect],
        injector: Injector,
    ) -> Outcome:
        faults = injector.faults()
        designs = [client.design for client in clients]
        limits = Limits(stop_s=2 * self.renew_s + 2)
        violations = check(designs, histories, noted, faults, limits)
        bad = {violation.run for violation in violations if violation.run}
        hung = {run for run, history in histories.items() if history.status not in FINAL}
        by_run = {design.run: [effect for effect in noted if effect.run == design.run] for design in designs}
        cases = [Case(design, histories[design.run], by_run[design.run], faults, limits) for design in designs]
        done, needed = executions(cases)
        ended = [history.ended for history in histories.values() if history.ended is not None]
        return Outcome(
            self.name,
            self.title,
            len(designs),
            right=len(designs) - len(bad | hung),
            wrong=len(bad - hung),
            hung=len(hung),
            executions=done,
            needed=needed,
            faults=dict(injector.counts()),
            last_s=max(0, max(ended) - faults.ended) / 1000 if ended else None,
            violations=violations,
            stories=[story(case, violations) for case in cases if case.design.run in bad][:STORIES],
            notes=dict(
                Counter(
                    {"submitted again, as the server had forgotten it": sum(len(client.vanished) for client in clients)}
                )
                + Counter({"struck by a kill of the server": sum(case.is_struck for case in cases)})
                + Counter(f"fault not carried out: {text}" for text in injector.failed)
            ),
        )
