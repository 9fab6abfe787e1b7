"""Drives steps in a worker: does what they ask for, with the real scripts, attempts and clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flowq.core.types import FlowType
from flowq.plan import Node
from flowq.runtime import steps as asked
from flowq.runtime.posted import PostedSettle, claim_when_rung
from flowq.runtime.replies import Claimed, Message, Next
from flowq.runtime.runner import ClaimRunner
from flowq.runtime.steps import Steps
from flowq.runtime.work import Work
from flowq.runtime.worker import WorkerProcess

T = TypeVar("T")


class Driver:
    """Does what steps ask for, in the calling thread; any number of threads may use it at once.

    Args:
        worker: the services of this process.
        runner: runs its claims.
        queue: the drain's; empty: it is none.
        token: the drain's.
    """

    def __init__(self, worker: WorkerProcess, runner: ClaimRunner, queue: str = "", token: str = "") -> None:
        self._worker, self._runner = worker, runner
        self._scripts = worker.state.scripts
        self._queue, self._token = queue, token
        self.does: dict[type, Callable[[Any], Any]] = {
            asked.Claim: self._claim,
            asked.Settle: self._settle,
            asked.Post: self._post,
            asked.Receive: lambda request: request.call.reply(),
            asked.Advance: self._advance,
            asked.Expect: self._expect,
            asked.Run: self._run,
            asked.Send: self._send,
            asked.Hold: self._hold,
            asked.Drop: self._drop,
            asked.Remind: self._remind,
            asked.Listen: self._listen,
            asked.Now: lambda _: time.monotonic(),
            asked.Pause: lambda request: time.sleep(request.seconds),
            asked.FindThreads: self._find_threads,
        }
        """By the request's type. A drain adds what it alone can be asked for."""

    def drive(self, steps: Steps[T]) -> T:
        """Take steps to their end, and give what they return."""
        does = self.does
        try:
            request = next(steps)
            while True:
                try:
                    reply = does[type(request)](request)
                except Exception as error:
                    request = steps.throw(error)
                else:
                    request = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    @contextmanager
    def letting_go(self, work: Work) -> Iterator[None]:
        """Should the steps fail, keep the leases of their claims no longer: they would stay claimed for ever."""
        try:
            yield
        finally:
            self._worker.leases.drop(*(claim.lease for claim in work.held))
            posted = work.take_posted()
            if posted is not None:
                posted.call.close()

    def _claim(self, request: asked.Claim) -> Next:
        return self._scripts.claim(**self._given(request))

    def _settle(self, request: asked.Settle) -> Next:
        return self._scripts.settle(**self._given(request))

    def _post(self, request: asked.Post) -> PostedSettle:
        return PostedSettle(self._scripts, self._given(request.settle))

    def _given(self, request: asked.Claim | asked.Settle) -> dict[str, Any]:
        return {"worker": self._worker.name, "token": self._token, "queue": self._queue, **request._asdict()}

    def _advance(self, request: asked.Advance) -> tuple[bool, list[Message]]:
        return self._scripts.advance(run=request.run)

    def _expect(self, request: asked.Expect) -> float:
        node = self._node(request.claim)
        return 0.0 if node.placement is FlowType.INLINE else self._worker.paces.expect(node.processor)

    def _run(self, request: asked.Run) -> asked.Ran:
        claim, outputs, alone, returns = request
        return asked.Ran(self._runner.run(claim, outputs, alone=alone, returns=returns), time.monotonic())

    def _send(self, request: asked.Send) -> None:
        self._worker.send(request.messages)

    def _hold(self, request: asked.Hold) -> None:
        self._worker.leases.hold(*(claim.lease for claim in request.claims))

    def _drop(self, request: asked.Drop) -> None:
        self._worker.leases.drop(*(claim.lease for claim in request.claims))

    def _remind(self, request: asked.Remind) -> None:
        self._worker.leases.remind(request.seconds)

    def _listen(self, request: asked.Listen) -> Next:
        bell = self._worker.state.keys.bell(self._token)
        with self._worker.leases.listening():
            return claim_when_rung(self._scripts, bell, request.seconds, self._given(request.claim) | {"rung": True})

    def _find_threads(self, request: asked.FindThreads) -> list[Claimed]:
        return [claim for claim in request.claims if self._is_threads(claim)]

    def _is_threads(self, claim: Claimed) -> bool:
        try:
            return self._worker.state.plan(claim.plan).has_threads and self._node(claim).placement is FlowType.THREAD
        except Exception:  # to run it in the drain will say what is wrong with it
            return False

    def _node(self, claim: Claimed) -> Node:
        return self._worker.state.plan(claim.plan).nodes[int(claim.key.partition(".")[0])]
