"""What one worker process needs to answer wake-ups: made once per process, after the fork."""

from __future__ import annotations

import os
from collections.abc import Iterable

from flowq.core.context import FlowContext
from flowq.core.errors import AttemptTimeout
from flowq.core.result import Failure
from flowq.core.types import FailureKind
from flowq.results import ResultsManager
from flowq.runtime import messages
from flowq.runtime.leases import LeaseKeeper
from flowq.runtime.monitor import Monitor, NoMonitor
from flowq.runtime.remote import Loader
from flowq.runtime.scripts import Message, OutcomeEntry
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
            self.state.scripts, self.name, self.settings.renew_s, self.settings.lease_s, self.send
        )

    def send(self, asked: Iterable[Message]) -> None:
        """Send what scripts ask for."""
        messages.send(self.context, asked)

    def give_up(self, lease: str, drain: tuple[str, str] = ("", "")) -> None:
        """Record that an attempt ran out of its time, though it does not stop; what it may still give comes too late.

        ``drain`` (queue and token) ends with it, if the process is about to end.
        """
        run, key, fence = lease.split(" ")
        kind = f"{AttemptTimeout.__module__}.{AttemptTimeout.__qualname__}"
        message = "the attempt ran longer than its timeout, and did not stop when it was interrupted"
        failure = Failure(kind=FailureKind.TIMEOUT, type=kind, message=message)
        outcome = OutcomeEntry(
            run=run,
            key=key,
            fence=int(fence),
            kind="failed",
            value=0,
            failure=failure.model_dump_json(),
            retry=True,
            delay_ms=0,
            timed_out=True,
            fused=False,
            alone=True,
            returns=False,
        )
        following = self.state.scripts.settle(
            worker=self.name,
            queue=drain[0],
            token=drain[1],
            inline=False,
            outcomes=[outcome],
        )
        self.send(following.messages)
