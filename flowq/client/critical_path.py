"""What determined how long a run took: the chain of nodes in which each waited for the one before.

::

    result = flow.run(...)
    for step in critical_path(flow.plan(), result.nodes, result.start_time).steps:
        print(step.node, step.wait_s, step.run_s)
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import redis
from pydantic import BaseModel, ConfigDict
from redis.backoff import NoBackoff
from redis.retry import Retry

from flowq.core.config import Dispatch, Settings
from flowq.core.errors import StateError
from flowq.core.result import NodeResult
from flowq.plan import Node, Plan
from flowq.runtime.events import Ref
from flowq.runtime.keys import Keys
from flowq.runtime.missing import label
from flowq.runtime.state import CHUNK, Record

ANSWER_S = 1.0
"""A state store that has not answered by then is left alone: what it knows is of use, and not needed."""


class PathStep(BaseModel):
    """One node of a critical path."""

    model_config = ConfigDict(frozen=True)

    node: str
    wait_s: float
    """From the end of the step before (of the first one: from the run's start) to the node's latest attempt."""
    run_s: float
    """What that attempt took; of a map, until all its items had ended. 0 for a node that ran in the claim of another:
    the time is that one's."""
    share: float
    """The part of the total that both are, 0 to 1."""
    attempt: int
    """The attempt that counted; if it is not the first, the wait has the earlier ones in it."""
    last_item: str | None = None
    """Of a map: the item that ended last."""


class CriticalPath(BaseModel):
    """The chain of nodes that determined a run's length; the steps' times add up to the total."""

    model_config = ConfigDict(frozen=True)

    total_s: float
    wait_s: float
    run_s: float
    steps: tuple[PathStep, ...]


def critical_path(plan: Plan, nodes: Mapping[str, NodeResult], start: datetime) -> CriticalPath:
    """Work out the critical path of a run that has ended (of another one: so far).

    Args:
        plan: the run's plan.
        nodes: its nodes and items by name, as ``FlowResult.nodes`` has them.
        start: when it was submitted.

    It ends with the node that ended last. Before each node comes the upstream that ended last before it began: not one
    that it did not wait for.
    """
    ends = {index: end for index, node in enumerate(plan) if (end := _end(nodes, node)) is not None}
    path: list[int] = []
    node = max(ends, key=lambda index: (ends[index], index), default=None)
    while node is not None:
        path.append(node)
        began = _began(nodes, plan.nodes[node], ends[node])
        before = [edge.upstream for edge in plan.nodes[node].edges if edge.upstream in ends]
        in_time = [upstream for upstream in before if ends[upstream] <= began]
        node = max(in_time or before, key=lambda index: (ends[index], index), default=None)
    total_s = (ends[path[0]] - start).total_seconds() if path else 0.0
    last_items = _last_items(nodes, {plan.nodes[index].path for index in path if plan.nodes[index].is_map})
    steps, ready = [], start
    for index in reversed(path):
        end = max(ready, ends[index])
        began = min(max(ready, _began(nodes, plan.nodes[index], end)), end)
        name = plan.nodes[index].path
        steps.append(
            PathStep(
                node=name,
                wait_s=(began - ready).total_seconds(),
                run_s=(end - began).total_seconds(),
                share=(end - ready).total_seconds() / total_s if total_s > 0 else 0.0,
                attempt=nodes[name].attempt,
                last_item=last_items.get(name),
            )
        )
        ready = end
    wait_s, run_s = sum(step.wait_s for step in steps), sum(step.run_s for step in steps)
    return CriticalPath(total_s=total_s, wait_s=wait_s, run_s=run_s, steps=tuple(steps))


def _end(nodes: Mapping[str, NodeResult], node: Node) -> datetime | None:
    return nodes[node.path].ended_at if node.path in nodes else None


def _began(nodes: Mapping[str, NodeResult], node: Node, end: datetime) -> datetime:
    """Give when a node began; one that never ran, when that was known."""
    return nodes[node.path].started_at or end


def _last_items(nodes: Mapping[str, NodeResult], maps: set[str]) -> dict[str, str]:
    """Give, per map, the item that ended last."""
    found: dict[str, tuple[datetime, str]] = {}
    for name, item in nodes.items():
        path, bracket, _ = name.partition("[")
        if bracket and path in maps and item.ended_at is not None:
            found[path] = max(found.get(path, (item.ended_at, name)), (item.ended_at, name))
    return {path: name for path, (_, name) in found.items()}


class LastRun(NamedTuple):
    """The latest run of a plan that completed."""

    run_id: str
    dispatch: Dispatch
    path: CriticalPath


def last_run(settings: Settings, plan: Plan) -> LastRun | None:
    """Give the latest run of a plan that completed; None: there is none (any more).

    Raises:
        StateError: the state store has not answered within a second.
    """
    url, keys = settings.redis_url, Keys(settings.prefix)
    tcp: dict[str, Any] = {} if url.startswith("unix:") else {"socket_connect_timeout": ANSWER_S}
    client: Any = redis.Redis.from_url(
        url, protocol=2, socket_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0), retry_on_error=[], **tcp
    )
    try:
        run = (client.hget(keys.plan(plan.hash), "last") or b"").decode()
        submitted, canvas = client.hmget(keys.run(run), "submitted", "canvas")
        if submitted is None:
            return None
        found = dict(client.hscan_iter(keys.nodes(run), count=CHUNK))
    except (redis.RedisError, OSError) as error:
        raise StateError(f"the state store did not answer: {error}") from error
    finally:
        client.close()
    nodes = (_node(plan, Ref.parse(key.decode()), Record.parse(text)) for key, text in found.items())
    start = datetime.fromtimestamp(int(submitted) / 1000, UTC)
    path = critical_path(plan, {node.name: node for node in nodes}, start)
    return LastRun(run, "canvas" if canvas else "pull", path)


def _node(plan: Plan, ref: Ref, record: Record) -> NodeResult:
    return NodeResult(
        name=label(plan, ref),
        status=record.status,
        attempt=record.attempt,
        worker=record.worker,
        started_at=record.started,
        ended_at=record.ended,
    )
