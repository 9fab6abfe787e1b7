"""What a worker does for the fleet besides running nodes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from flowq.core.context import FlowContext
from flowq.runtime.messages import send
from flowq.runtime.state import State

logger = logging.getLogger("flowq.worker")


class Beacon(threading.Thread):
    """Says every few seconds that this worker is there, and at the end goodbye; takes its turn at the fleet's sweep."""

    def __init__(
        self,
        context: FlowContext,
        worker: str,
        queues: list[str],
        slots: Callable[[], int],
        look: Callable[[], None],
    ) -> None:
        super().__init__(name="flowq-beacon", daemon=True)
        self._context = context
        self._scripts = State.of(context).scripts
        self._worker, self._queues, self._slots = worker, queues, slots
        self._look = look
        """Told on every turn to see what else has changed."""
        self._stopped = threading.Event()

    def run(self) -> None:
        settings = self._context.settings
        pause = 0.0
        while not self._stopped.wait(pause):
            pause = settings.sweep_s
            try:
                self._look()
                slots = self._slots()
                send(self._context, self._scripts.register(worker=self._worker, queues=self._queues, slots=slots))
                # A little under the period, so that a fleet of one does not find its own lock still there.
                swept = self._scripts.sweep(worker=self._worker, every_ms=int(settings.sweep_s * 900))
                send(self._context, swept.messages)
                if swept.next_due_ms >= 0:
                    pause = min(pause, max(0.05, swept.next_due_ms / 1000))
            except Exception:
                logger.exception("the sweep failed; it is tried again in %s s", pause)
        try:
            send(self._context, self._scripts.register(worker=self._worker, queues=self._queues, slots=0))
        except Exception as error:
            logger.warning("could not say goodbye (%s); the fleet will notice", error)

    def leave(self) -> None:
        """Have it say that the worker leaves: nobody is to count on it any more."""
        self._stopped.set()

    def stop(self) -> None:
        """Leave, and wait until that is said."""
        self.leave()
        self.join(timeout=5)
