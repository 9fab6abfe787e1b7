"""flowq, by either dispatch, with the workers that ``flowq.embedded`` starts."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Literal

from flowq.core.config import Dispatch
from flowq.core.types import FlowStatus
from flowq.standalone import EmbeddedServer
from flowq.testing.fleet import fleet, use
from tests.bench.compare import flowq_flows
from tests.bench.compare.peer import Job, Peer
from tests.bench.compare.shapes import Shape


class FlowqPeer(Peer):
    """flowq with a dispatch: two workers with a prefork child each, as ``flowq.embedded`` starts them, or solo ones."""

    note = "two workers as flowq.embedded starts them; plans are compiled before the clock starts"

    def __init__(self, dispatch: Dispatch, pool: Literal["prefork", "solo"] = "prefork") -> None:
        self._dispatch, self._pool = dispatch, pool
        solo = ("-solo", ", solo") if pool == "solo" else ("", "")
        self.name, self.title = f"flowq-{dispatch}{solo[0]}", f"flowq {dispatch}{solo[1]}"

    def start(self) -> None:
        with ExitStack() as started:
            self.server = started.enter_context(EmbeddedServer(appendonly=False))
            unsafe = {"allow_unsafe_store": True}  # as the others' it keeps nothing on disk
            self._context = started.enter_context(
                fleet(2, [flowq_flows], server=self.server, pool=self._pool, settings=unsafe)
            )
            self.workers = self._context.workers
            self._started = started.pop_all()

    def stop(self) -> None:
        self.workers.stop(grace_s=0)
        self._started.close()

    def prepare(self, shape: Shape) -> Job:
        flow = flowq_flows.flow_of(shape)
        with use(self._context):
            flow.plan()
        inputs = flowq_flows.inputs_of(shape)

        def run() -> list[int]:
            handles: list[Any] = [
                flow.submit(*given, context=self._context, dispatch=self._dispatch) for given in inputs
            ]
            found = []
            for handle in handles:
                result = handle.result()
                if result.status is not FlowStatus.COMPLETED:
                    raise RuntimeError(f"{self.name}: {handle} has {result.status}: {result.error}")
                found.append(result.output)
            return found[0] if isinstance(found[0], list) else found

        return run
