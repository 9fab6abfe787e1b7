"""Runs claims: from the right to run an attempt to what ``settle`` records of it. Drains and node tasks share it."""

from __future__ import annotations

import logging
import random
import time
from collections import deque
from collections.abc import Callable

from flowq.core.config import RetryPolicy
from flowq.core.errors import UnknownProcessorError
from flowq.core.types import FailureKind, FlowType
from flowq.execution import Interruptible
from flowq.plan import Node
from flowq.runtime.attempt import Outcome, expand, failed, perform
from flowq.runtime.monitor import Monitor, NoMonitor
from flowq.runtime.remote import RemoteAttempt
from flowq.runtime.replies import Claimed
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.steps import AGAIN_S, AWAY, BATCH_S
from flowq.runtime.work import Ended, Outputs, released
from flowq.runtime.worker import WorkerProcess

logger = logging.getLogger("flowq.worker")

ITEMS_PER_CALL = 1000
"""Items that one call opens: about a millisecond of Redis."""

FUSE_S = 0.05
"""Nodes are run ahead of their claims for so long. Then they are asked for: the run may have been cancelled or paused
meanwhile, and nobody else tells of it before the next renewal."""

NO_RETRY = Node("?", "?", retry=RetryPolicy(max_attempts=1))
"""Stands for the node of a claim whose plan cannot be read."""


class ClaimRunner:
    """Runs claims in this thread.

    Args:
        worker: the services of this process.
        in_canvas: the claims are node tasks' (nothing is run ahead: which nodes need no message, the lowering says).
        closing: tells whether this process is to end: then nothing more is begun.
    """

    def __init__(
        self, worker: WorkerProcess, *, in_canvas: bool = False, closing: Callable[[], bool] = lambda: False
    ) -> None:
        self._worker = worker
        self._in_canvas = in_canvas
        self._closing = closing

    def run(self, claim: Claimed, outputs: Outputs, *, alone: bool = False, returns: bool = False) -> Ended:
        """Run a claim and what follows from it, as ``steps.Run`` says. It raises no Exception.

        While the store is away, its inputs cannot be had: then the claim is handed back, and no attempt is counted.
        """
        try:
            # Celery itself shows its tasks.
            attempt = self._worker.loader.attempt(claim)
            if attempt.opens_map:
                ended = self._open_map(attempt)
            else:
                ended = self._attempt(attempt, outputs, NoMonitor() if returns else self._worker.monitor)
        except AWAY as error:
            logger.warning("the claim %s is handed back: its inputs cannot be had now (%s)", claim.lease, error)
            ended = Ended([released(claim)])
        except Exception as error:  # such as a plan of another version: this node will never run here
            logger.exception("the claim %s cannot be run", claim.lease)
            outcome = failed(error, NO_RETRY)
            ended = Ended([_entry(claim, NO_RETRY, outcome)], outcome)
        if ended.outcome and ended.outcome.failure and ended.entries[0].kind == "unknown":
            why = ended.outcome.failure.message
            logger.warning("node %s of run %s waits for another worker: %s", claim.key, claim.run, why)
        if alone or returns:
            return ended._replace(entries=[entry._replace(alone=alone, returns=returns) for entry in ended.entries])
        return ended

    def unknown(self, claim: Claimed) -> Ended:
        """End a claim on a processor that this worker does not know."""
        attempt = self._worker.loader.attempt(claim)
        try:
            self._worker.registry.resolve(attempt.node.processor, attempt.node.config)
            raise UnknownProcessorError(
                f"this worker has no Celery task for the processor {attempt.node.processor!r}; restart it"
            )
        except UnknownProcessorError as error:
            outcome = failed(error, attempt.node)
        return Ended([_entry(claim, attempt.node, outcome)], outcome)

    def _attempt(self, attempt: RemoteAttempt, outputs: Outputs, monitor: Monitor) -> Ended:
        """Run an attempt, and if it completes, the nodes that can be run ahead."""
        entries: list[OutcomeEntry] = []
        first: Outcome | None = None
        todo = deque([attempt])
        began = time.monotonic()
        while todo:
            current = todo.popleft()
            if current is not attempt and not self._fits(current.node, time.monotonic() - began):
                break  # what was done before is recorded, and the others come by themselves
            try:
                fused = "" if current is attempt else current.claim.key
                outcome = self._perform(current, attempt.claim.lease, monitor, fused)
                if outcome is None:
                    break
                outcome, packed = self._packed(current, outcome)
            except AWAY:
                if current is attempt:
                    raise
                break  # what was done before is recorded, and this one comes by itself
            first = first or outcome
            kept = "" if packed is None else self._worker.results.beside(packed)
            entries.append(_entry(current.claim, current.node, outcome, packed, kept, fused=current is not attempt))
            if packed is not None:
                todo.extend(self._ahead(current, outcome, outputs))
        if first is None:
            # Nobody may have taken the claim yet, if it was given up only because the store was away for long.
            return Ended([released(attempt.claim)], is_lost=True)
        return Ended(entries, first)

    def _fits(self, node: Node, passed_s: float) -> bool:
        """Tell whether a node is run ahead when this has been going on for so long; if any worker can run it, only a
        short one."""
        if node.placement is FlowType.INLINE:
            return passed_s <= FUSE_S
        return passed_s + self._worker.paces.expect(node.processor) <= BATCH_S

    def _ahead(self, attempt: RemoteAttempt, outcome: Outcome, outputs: Outputs) -> list[RemoteAttempt]:
        if attempt.ref.item < 0:
            outputs[attempt.claim.run, attempt.ref.node] = outcome.value
        if attempt.ref.node not in attempt.plan.ahead or self._in_canvas or self._closing():
            return []
        try:
            return list(self._worker.loader.ahead(attempt, outputs))
        except AWAY:
            return []  # they come by themselves

    def _perform(self, attempt: RemoteAttempt, lease: str, monitor: Monitor, fused: str) -> Outcome | None:
        """Run one attempt under a lease (that of a ``fused`` node is its host's); None: it was not to be run.

        Raises:
            Exception: one of AWAY: the attempt ended by an input that the store could not give.
        """
        scope = Interruptible(attempt.node.timeout_s)
        leases = self._worker.leases
        if not leases.begin(lease, scope, fused):
            return None
        try:
            monitor.started(attempt)
            began = time.monotonic()
            outcome = perform(self._worker.registry, attempt.info, attempt.inputs, scope)
            if not (outcome.failure and outcome.failure.kind is FailureKind.UNKNOWN_PROCESSOR):
                self._worker.paces.note(attempt.node.processor, time.monotonic() - began)
        finally:
            leases.end(lease)
        monitor.ended(attempt, outcome)
        if scope.stopped and outcome.timed_out:
            return None  # its time was not up: it is not wanted any more
        if isinstance(outcome.error, AWAY):
            raise outcome.error
        return outcome

    def _packed(self, attempt: RemoteAttempt, outcome: Outcome) -> tuple[Outcome, bytes | None]:
        """Give the outcome and its packed value; it has failed if the value cannot be kept.

        While the store of large values is away, that is tried again, as what the attempt has done would be lost.
        """
        if outcome.value is None:
            return outcome, None
        while True:
            try:
                return outcome, self._worker.results.pack(attempt.claim.run, outcome.value)
            except AWAY as error:
                if self._closing():
                    raise
                logger.warning("the value of %s cannot be kept now (%s)", attempt.claim.lease, error)
                time.sleep(AGAIN_S)
            except Exception as error:
                return failed(error, attempt.node), None

    def _open_map(self, attempt: RemoteAttempt) -> Ended:
        """Open a map's items, some at a time; gives the failure if there are no items to open."""
        claim = attempt.claim
        try:
            items = expand(attempt.inputs)
        except AWAY:
            raise
        except Exception as error:
            outcome = failed(error, attempt.node)
            return Ended([_entry(claim, attempt.node, outcome)], outcome)
        # Not interrupted: the last call gives the claim up, and what it asks for is still to be sent. A claim that
        # is lost before is noticed by the next call.
        for offset in range(claim.opened, max(len(items), 1), ITEMS_PER_CALL):
            chunk = [self._worker.results.pack(claim.run, item) for item in items[offset : offset + ITEMS_PER_CALL]]
            counted, messages = self._worker.state.scripts.extend(
                run=claim.run, key=claim.key, fence=claim.fence, offset=offset, total=len(items), values=chunk
            )
            self._worker.send(messages)
            if not counted:
                break
        return Ended([])


def _entry(
    claim: Claimed, node: Node, outcome: Outcome, packed: bytes | None = None, kept: str = "", *, fused: bool = False
) -> OutcomeEntry:
    if packed is not None:
        return OutcomeEntry(claim.key, packed, claim.run, claim.fence, "completed", fused=fused, kept=kept)
    failure = outcome.failure
    if failure is None:
        return OutcomeEntry(claim.key, None, claim.run, claim.fence, "skipped", fused=fused)
    failures, delay_s = claim.attempt - claim.crashes, outcome.retry_after_s
    if outcome.retry and delay_s is None:
        delay_s = node.retry.delay(failures, random.random())
    return OutcomeEntry(
        claim.key,
        None,
        claim.run,
        claim.fence,
        "unknown" if failure.kind is FailureKind.UNKNOWN_PROCESSOR else "failed",
        failure.model_dump_json(),
        retry=outcome.retry and failures < node.retry.max_attempts,
        delay_ms=int((delay_s or 0) * 1000),
        timed_out=outcome.timed_out,
        fused=fused,
    )
