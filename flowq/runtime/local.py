"""The local engine: the state machine over asyncio. No Redis, no Celery."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from flowq.core.attempt import AttemptInfo
from flowq.core.context import FlowContext
from flowq.core.graph import Graph
from flowq.core.result import Failure, FlowResult, NodeResult
from flowq.core.types import FailureKind, FlowStatus, FlowType, MissingReason, NodeStatus
from flowq.execution import Interruptible, ProcessDied, ProcessPoolManager, TimeUp
from flowq.plan import Node, Plan
from flowq.results import ResultsManager
from flowq.results.codec import list_of
from flowq.runtime import events, machine
from flowq.runtime.attempt import Outcome, expand, failed, perform, perform_async, timed_out
from flowq.runtime.events import Ref
from flowq.runtime.inputs import ABSENT, Inputs, encode_input
from flowq.runtime.missing import Ending, label, missing_of
from flowq.runtime.outcome import BAD, RunHead, culprits, result_of


@dataclass(frozen=True, slots=True)
class Job:
    """An attempt on its way to a child process, with all the values it may read."""

    info: AttemptInfo
    node: Node
    run_input: bytes
    values: dict[int, bytes]
    missing: dict[str, MissingReason]
    item: bytes


class LocalEngine:
    """Runs graphs in this process: INLINE nodes on the loop, THREAD nodes in threads, all others in child processes."""

    def __init__(self, context: FlowContext) -> None:
        self._context = context

    async def execute(self, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> FlowResult:
        """Run a checked graph to its end. Cancelling the caller stops all that runs and cleans up."""
        return await _Run(self._context, graph, plan, given).run()


def make_pools(context: FlowContext) -> ProcessPoolManager:
    """Make the pools of a context; children fork with the registry as it is then."""

    def serve(job: Job) -> Outcome:
        inputs = Inputs(job.node, lambda: job.run_input, job.values.__getitem__, job.missing, job.item)
        return perform(context.registry, job.info, inputs, Interruptible())  # the parent keeps the time

    return ProcessPoolManager(serve, lambda: context.registry.generation)


@dataclass(slots=True)
class _Times:
    started: datetime | None = None
    ended: datetime | None = None


@dataclass(slots=True)
class _Slots:
    """How many attempts of a placement may still start."""

    free: int
    ready: deque[Ref] = field(default_factory=deque)


class _Run:
    """One run. Every change of its state goes through ``_apply``."""

    def __init__(self, context: FlowContext, graph: Graph, plan: Plan, given: Mapping[str, Any]) -> None:
        self._registry = context.registry
        self._pools: ProcessPoolManager = context.pools
        self._results: ResultsManager = context.service("local_results")
        self._graph, self._plan = graph, plan
        self._id = uuid.uuid4().hex
        self._input = encode_input(graph.name, given, self._results)
        self._values: dict[Ref, bytes] = {}
        self._items: dict[int, list[bytes]] = {}
        self._failures: dict[Ref, Failure] = {}
        self._waits: dict[Ref, float] = {}
        """Seconds until the next attempt, where the one that failed has said so."""
        self._times: dict[Ref, _Times] = {}
        self._missing: dict[Ref, dict[str, MissingReason]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: set[asyncio.TimerHandle] = set()
        self._slots = {
            FlowType.INLINE: _Slots(1),
            FlowType.THREAD: _Slots(context.settings.threads),
            FlowType.PROCESS: _Slots(self._pools.processes),
        }
        self._ended = asyncio.Event()
        self._start_time = datetime.now(UTC)

    async def run(self) -> FlowResult:
        self._state, commands = machine.start(self._plan)
        try:
            self._obey(commands)
            self._launch()
            await self._ended.wait()
        finally:
            for timer in self._timers:
                timer.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            result = self._result() if self._ended.is_set() else None
            self._results.store.delete(self._id)
        assert result is not None
        return result

    def _apply(self, event: events.Event) -> None:
        self._obey(machine.apply(self._state, event))
        self._launch()

    def _obey(self, commands: list[events.Command]) -> None:
        for command in commands:
            match command:
                case events.Enqueue(ref):
                    self._slots[self._state.spec(ref).placement].ready.append(ref)
                case events.SetTimer(ref, attempt, failures):
                    asked = self._waits.pop(ref, None)
                    delay = self._state.spec(ref).retry.delay(failures, random.random()) if asked is None else asked
                    loop = asyncio.get_running_loop()
                    self._timers.add(loop.call_later(delay, self._apply, events.Due(ref, attempt)))
                case events.Announce(ref):
                    self._times.setdefault(ref, _Times()).ended = datetime.now(UTC)
                case events.End():
                    self._ended.set()

    def _launch(self) -> None:
        for slots in self._slots.values():
            while slots.free and slots.ready:
                slots.free -= 1
                ref = slots.ready.popleft()
                machine.apply(self._state, events.Claim(ref))
                self._times[ref] = _Times(datetime.now(UTC))
                task = asyncio.create_task(self._attempt(ref, slots))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _attempt(self, ref: Ref, slots: _Slots) -> None:
        fence = self._state.nodes[ref].fence
        node = self._state.spec(ref)
        event: events.Event
        try:
            inputs = self._inputs(ref, node)
            if node.is_map and ref.item < 0:
                event = self._expand(ref, fence, inputs)
            else:
                info = AttemptInfo(self._id, label(self._plan, ref), self._state.nodes[ref].attempt)
                event = self._record(ref, fence, await self._perform(node, info, inputs))
        except ProcessDied:
            event = events.Expire(ref, fence)
            crashes = self._state.nodes[ref].crashes + 1
            message = f"{crashes} attempts died with their worker; the last one in a child process"
            self._failures[ref] = Failure(kind=FailureKind.LOST, type="flowq.WorkerLost", message=message)
        except Exception as error:  # such as a value that is gone from its store: the run must end all the same
            event = self._record(ref, fence, failed(error, node))
        slots.free += 1
        self._apply(event)

    async def _perform(self, node: Node, info: AttemptInfo, inputs: Inputs) -> Outcome:
        timeout_s = node.timeout_s
        try:
            if node.placement is FlowType.INLINE:
                return await perform_async(self._registry, info, inputs, timeout_s)
            if node.placement is FlowType.THREAD:
                job = lambda scope: perform(self._registry, info, inputs, scope)  # noqa: E731
                return await self._pools.in_thread(job, timeout_s)
            values = {
                edge.upstream: inputs.load(edge.upstream) for edge in node.edges if self._is_read(inputs, edge.upstream)
            }
            outcome: Outcome = await self._pools.in_process(
                Job(info, node, inputs.run_input, values, inputs.missing, inputs.item), timeout_s
            )
            return outcome
        except TimeUp:
            return timed_out(info, node, timeout_s)

    def _is_read(self, inputs: Inputs, upstream: int) -> bool:
        named = any(edge.upstream == upstream and edge.name for edge in inputs.node.edges)
        return named and not inputs.is_missing(upstream)

    def _expand(self, ref: Ref, fence: int, inputs: Inputs) -> events.Event:
        items = expand(inputs)
        self._items[ref.node] = items
        return events.Extend(ref, fence, 0, len(items), len(items))

    def _record(self, ref: Ref, fence: int, outcome: Outcome) -> events.Event:
        """Keep what the attempt gave and give the event that says so."""
        if outcome.value is not None:
            try:
                self._values[ref] = self._results.pack(self._id, outcome.value)
            except Exception as error:
                outcome = failed(error, self._state.spec(ref))
            else:
                self._failures.pop(ref, None)
                return events.Complete(ref, fence)
        if outcome.failure is None:
            return events.Skip(ref, fence)
        self._failures[ref] = outcome.failure
        if outcome.retry_after_s is not None:
            self._waits[ref] = outcome.retry_after_s
        return events.Fail(ref, fence, outcome.retry, outcome.timed_out)

    def _inputs(self, ref: Ref, node: Node) -> Inputs:
        missing = missing_of(self._plan, node, self._ending)
        if missing:
            self._missing[ref] = missing
        item = self._items[ref.node][ref.item] if ref.item >= 0 else ABSENT
        return Inputs(node, lambda: self._input, self._load, missing, item)

    def _load(self, upstream: int) -> bytes:
        if not self._plan.nodes[upstream].is_map:
            return self._results.unpack(self._id, self._values[Ref(upstream)])
        packed = (self._values.get(Ref(upstream, item)) for item in range(self._state.nodes[Ref(upstream)].total))
        return list_of([None if data is None else self._results.unpack(self._id, data) for data in packed])

    def _ending(self, ref: Ref) -> Ending:
        node = self._state.nodes[ref]
        return Ending(node.status, node.reason, node.total)

    def _result(self) -> FlowResult:
        nodes = {}
        for ref, node in sorted(self._state.nodes.items()):
            name, times = label(self._plan, ref), self._times.get(ref, _Times())
            nodes[name] = NodeResult(
                name=name,
                status=node.status,
                attempt=node.attempt,
                worker="local" if node.attempt else None,
                started_at=times.started,
                ended_at=times.ended,
                failure=self._failures.get(ref) if node.status is NodeStatus.FAILED else None,
                missing=self._missing.get(ref, {}),
            )
        output = None
        if self._state.status is FlowStatus.COMPLETED and self._plan.output is not None:
            done = self._state.nodes[Ref(self._plan.output)].status is NodeStatus.COMPLETED
            output = self._load(self._plan.output) if done else None
        head = RunHead(
            self._id, self._graph.process_id, self._graph.name, self._state.status, self._start_time, datetime.now(UTC)
        )
        return result_of(self._plan, head, nodes, self._blamed(), output, self._graph.returns)

    def _blamed(self) -> dict[Ref, Failure]:
        if self._state.status is not FlowStatus.FAILED:
            return {}
        bad = [ref for ref, node in self._state.nodes.items() if node.status in BAD]
        failed = [ref for ref in bad if self._state.nodes[ref].status is NodeStatus.FAILED and ref in self._failures]
        found = culprits(self._plan, failed, [ref.node for ref in bad if ref.item < 0])
        return {ref: self._failures[ref] for ref in found}
