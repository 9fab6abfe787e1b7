"""flowq, by either dispatch, with the workers that ``flowq.embedded`` starts."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Literal

import redis

from flowq import results_of
from flowq.client.client import Client
from flowq.core.config import Dispatch
from flowq.core.handle import Handle
from flowq.core.result import FlowResult
from flowq.core.types import FlowStatus
from flowq.standalone import EmbeddedServer
from flowq.testing.fleet import fleet, use
from tests.bench.compare import flowq_flows
from tests.bench.compare.graph import inputs_of
from tests.bench.compare.peer import Job, Laps, Peer
from tests.bench.compare.shapes import Shape


class FlowqPeer(Peer):
    """flowq with a dispatch: two workers with a prefork child each, as ``flowq.embedded`` starts them, or solo ones."""

    note = (
        "two workers as flowq.embedded starts them; plans are compiled before the clock starts; several runs are"
        " submitted, and their results read, together"
    )

    def __init__(
        self,
        dispatch: Dispatch,
        pool: Literal["prefork", "solo"] = "prefork",
        *,
        workers: int = 2,
        slots: int = 1,
        include: Sequence[str] = (),
    ) -> None:
        self._dispatch, self._pool, self._count, self._slots = dispatch, pool, workers, slots
        self._include = [flowq_flows.__name__, *include]
        solo = ("-solo", ", solo") if pool == "solo" else ("", "")
        self.name, self.title = f"flowq-{dispatch}{solo[0]}", f"flowq {dispatch}{solo[1]}"
        if (workers, slots) != (2, 1):
            self.name += f"-{workers}x{slots}"
            self.title += f", {workers} {'worker' if workers == 1 else 'workers'} × {slots}"
        self._runs: list[str] = []

    def start(self) -> None:
        with ExitStack() as started:
            self.server = started.enter_context(EmbeddedServer(appendonly=False))
            self.redis = started.enter_context(redis.Redis.from_url(self.server.redis_url))
            unsafe = {"allow_unsafe_store": True}  # as the others' it keeps nothing on disk
            self.context = started.enter_context(
                fleet(
                    self._count,
                    self._include,
                    server=self.server,
                    pool=self._pool,
                    concurrency=self._slots,
                    settings=unsafe,
                )
            )
            self.workers = self.context.workers
            self._started = started.pop_all()

    def stop(self) -> None:
        self.workers.stop(grace_s=0)
        self._started.close()
        self._runs.clear()

    def tidy(self) -> None:
        client = self.context.service("client")
        assert isinstance(client, Client)
        for run in self._runs:
            client.forget(run)
        self._runs.clear()

    def prepare(self, shape: Shape) -> Job:
        flow = flowq_flows.flow_of(shape)
        with use(self.context):
            flow.plan()

        inputs = [{"x": given[0]} if given else {} for given in inputs_of(shape)]

        def run_one(laps: Laps) -> list[Any]:
            number = laps.begin()
            handle = flow.submit(**inputs[0], context=self.context, dispatch=self._dispatch)
            laps.submitted(number)
            output = self._read(handle, handle.result())
            laps.end(number)
            return [output]

        def run_many(laps: Laps) -> list[Any]:
            numbers = [laps.begin() for _ in inputs]
            handles = flow.submit_many(inputs, context=self.context, dispatch=self._dispatch)
            for number in numbers:
                laps.submitted(number)
            found = []
            for number, handle, result in zip(numbers, handles, results_of(handles), strict=True):
                found.append(self._read(handle, result))
                laps.end(number)
            return found

        return run_one if len(inputs) == 1 else run_many

    def _read(self, handle: Handle, result: FlowResult) -> Any:
        self._runs.append(handle.run_id)
        if result.status is not FlowStatus.COMPLETED:
            raise RuntimeError(f"{self.name}: {handle} has {result.status}: {result.error}")
        return result.output
