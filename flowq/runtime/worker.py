"""What one worker process needs to answer wake-ups: made once per process, after the fork."""

from __future__ import annotations

import os
from collections.abc import Iterable

from flowq.core.context import FlowContext
from flowq.results import ResultsManager
from flowq.runtime import wakeups
from flowq.runtime.leases import LeaseKeeper
from flowq.runtime.monitor import Monitor, NoMonitor
from flowq.runtime.remote import Loader
from flowq.runtime.scripts import WakeUp
from flowq.runtime.state import State


class WorkerProcess:
    """The services of a process that runs nodes."""

    def __init__(self, context: FlowContext, hostname: str, monitor: Monitor | None = None) -> None:
        self.context = context
        self.settings = context.settings
        self.registry = context.registry
        self.state = State.of(context)
        self.results: ResultsManager = context.results
        self.name = f"{hostname}/{os.getpid()}"
        self.monitor: Monitor = monitor or NoMonitor()
        self.loader = Loader(context, self.state)
        self.leases = LeaseKeeper(
            self.state.scripts, self.name, self.settings.renew_s, self.settings.lease_s, self.wake
        )

    def wake(self, wakes: Iterable[WakeUp]) -> None:
        """Send wake-ups."""
        wakeups.send(self.context, wakes)
