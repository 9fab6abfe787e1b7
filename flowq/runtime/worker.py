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
from flowq.runtime.board import Board, Seat
from flowq.runtime.leases import LeaseKeeper
from flowq.runtime.monitor import Monitor, NoMonitor
from flowq.runtime.paces import Paces
from flowq.runtime.remote import Loader
from flowq.runtime.replies import Message
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.state import State


class WorkerProcess:
    """The services of a process that runs nodes.

    Args:
        context: whose nodes.
        hostname: the Celery worker's name.
        monitor: is told of every attempt.
        board: says when the worker is to end.
        seat: this process's, if a parent looks after it.
    """

    def __init__(
        self,
        context: FlowContext,
        hostname: str,
        monitor: Monitor | None = None,
        board: Board | None = None,
        seat: Seat | None = None,
    ) -> None:
        self.context = context
        self.settings = context.settings
        self.registry = context.registry
        self.state = State.of(context)
        self.results: ResultsManager = context.results
        self.hostname = hostname
        self.name = f"{hostname}/{os.getpid()}"
        self.seat = seat
        self._board = board
        self.monitor: Monitor = monitor or NoMonitor()
        self.loader = Loader(context, self.state)
        self.paces = Paces()
        self.leases = LeaseKeeper(
            self.state.scripts, self.name, self.settings.renew_s, self.settings.lease_s, self.send, board, seat
        )

    def closing(self) -> bool:
        """Tell whether this process is to end: then it claims nothing more."""
        if self._board is not None and self._board.is_closing:
            return True
        return self.seat is not None and self.seat.leaving > 0

    def send(self, asked: Iterable[Message]) -> None:
        """Send what scripts ask for."""
        messages.send(self.context, asked)

    def give_up(self, lease: str, drain: tuple[str, str] = ("", ""), pid: int = 0) -> None:
        """Record that an attempt ran out of its time, though it does not stop; what it may still give comes too late.

        ``drain`` (queue and token) ends with it, if its process is about to end. ``pid``: that process's; 0: this one.
        """
        run, key, fence = lease.split(" ")
        kind = f"{AttemptTimeout.__module__}.{AttemptTimeout.__qualname__}"
        message = "the attempt ran longer than its timeout, and did not stop when it was interrupted"
        failure = Failure(kind=FailureKind.TIMEOUT, type=kind, message=message)
        said = failure.model_dump_json()
        outcome = OutcomeEntry(key, None, run, int(fence), "failed", said, retry=True, timed_out=True, alone=True)
        following = self.state.scripts.settle(
            worker=f"{self.hostname}/{pid}" if pid else self.name,
            queue=drain[0],
            token=drain[1],
            inline=False,
            outcomes=[outcome],
        )
        self.send(following.messages)
