"""What a test sees of the runs in Redis, key by key, and whether that is what the state machine says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flowq.core.types import FINAL, FlowType, MissingReason, NodeStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.machine import NodeState, RunState
from tests.property.calls import Calls
from tests.property.reference import Stand

LANES = ("process", "thread")
SUFFIXES = ("", ":nodes", ":values", ":failures", ":events", ":todo", ":due", ":aside")


class Entry(NamedTuple):
    """A node's record as the scripts write it: ``status|attempt|crashes|fence|started|ended|worker|more``."""

    status: NodeStatus
    attempt: int
    crashes: int
    fence: int
    more: str

    @staticmethod
    def parse(text: bytes) -> Entry:
        if text.isdigit():
            text = b"pending|0|0|0||||" + text
        status, attempt, crashes, fence, _started, _ended, _worker, more = text.decode().split("|")
        return Entry(NodeStatus(status), int(attempt), int(crashes), int(fence), more)

    @property
    def is_map(self) -> bool:
        return "," in self.more

    @property
    def reason(self) -> str:
        return self.more.rpartition(",")[2] if self.status.is_final else ""


@dataclass(frozen=True)
class RunSeen:
    """One run's keys."""

    head: dict[str, str]
    records: dict[str, bytes]
    values: dict[str, bytes]
    failures: dict[str, bytes]
    todo: list[bytes]
    aside: list[bytes]
    """Ready nodes that were kept back while it was paused."""
    lives_ms: dict[str, int]
    """By suffix: what is left of the key's life; -1: for ever, -2: there is no such key."""
    plan_runs: int
    plan_life_ms: int

    @property
    def is_open(self) -> bool:
        return self.head["status"] in ("pending", "running")

    @property
    def is_paused(self) -> bool:
        return "paused" in self.head

    @property
    def is_reopening(self) -> bool:
        """A retry has opened it, and its records are not all in place."""
        return self.is_open and "reopening" in self.head

    @property
    def is_behind(self) -> bool:
        """Something is left that ``advance`` goes on with."""
        return bool(self.todo or (self.aside and not self.is_paused))

    def entry(self, plan: Plan, ref: Ref) -> Entry:
        """Give a node's record; one that was never written is as it began."""
        if ref.key in self.records:
            return Entry.parse(self.records[ref.key])
        waiting = len(plan.nodes[ref.node].edges) if ref.item < 0 else 0
        status = NodeStatus.PENDING if waiting else NodeStatus.READY
        return Entry(status, 0, 0, 0, str(waiting) if waiting else "")

    def stands(self, plan: Plan) -> dict[Ref, Stand]:
        """Give how all nodes of an ended run stand: what was cancelled by a word is written nowhere."""
        refs = {Ref(index) for index in range(len(plan))} | {Ref.parse(key) for key in self.records}
        found = {}
        for ref in sorted(refs):
            entry = self.entry(plan, ref)
            gave_up = ref.item >= 0 and self.entry(plan, Ref(ref.node)).status in FINAL
            cancelled = (gave_up or not self.is_open) and entry.status not in FINAL
            status = NodeStatus.CANCELLED if cancelled else entry.status
            reason = "cancelled" if cancelled else entry.reason
            found[ref] = Stand(status, MissingReason(reason) if reason else None, entry.attempt, entry.crashes)
        return found


@dataclass(frozen=True)
class Seen:
    """All runs, and what they share."""

    runs: dict[str, RunSeen]
    lists: dict[tuple[str, str], list[str]]
    """By queue and lane: what is ready, ``run key``."""
    leases: dict[str, float]
    """By when they were made."""
    holders: dict[str, str]
    """Who holds a lease."""
    timers: dict[str, float]
    drains: dict[str, int]
    """By queue: those at work, or told to be."""
    open: set[str]
    """The runs that count as open."""
    letters: set[str]
    """``run key``"""


def look(calls: Calls, runs: dict[str, Plan], queues: Sequence[str], holders: Sequence[str]) -> Seen:
    """Read everything in one transaction."""
    keys = calls.keys
    with calls.client.pipeline(transaction=True) as pipe:
        for run, plan in runs.items():
            for key in (keys.run(run), keys.nodes(run), keys.values(run), keys.failures(run)):
                pipe.hgetall(key)
            pipe.lrange(f"{keys.run(run)}:todo", 0, -1)
            pipe.zrange(f"{keys.run(run)}:aside", 0, -1)
            for suffix in SUFFIXES:
                pipe.pttl(keys.run(run) + suffix)
            pipe.hget(keys.plan(plan.hash), "runs")
            pipe.pttl(keys.plan(plan.hash))
        for queue in queues:
            for lane in LANES:
                pipe.lrange(keys.lane(queue, lane), 0, -1)
        for holder in holders:
            pipe.zrange(keys.leases(holder), 0, -1, withscores=True)
        pipe.zrange(keys.timers, 0, -1, withscores=True)
        for queue in queues:
            pipe.zcard(keys.drains(queue))
            pipe.zcard(keys.idle(queue))
        pipe.smembers(keys.open)
        pipe.zrange(keys.dead, 0, -1)
        replies = iter(pipe.execute())
    seen = {run: _run_seen(replies) for run in runs}
    lists = {(queue, lane): [entry.decode() for entry in next(replies)] for queue in queues for lane in LANES}
    leases: dict[str, float] = {}
    held_by: dict[str, str] = {}
    for holder in holders:
        for lease, made in next(replies):
            assert lease.decode() not in leases, f"two processes hold {lease}"
            leases[lease.decode()], held_by[lease.decode()] = made, holder
    timers = {member.decode(): score for member, score in next(replies)}
    drains = {queue: next(replies) - next(replies) for queue in queues}
    is_open, letters = ({member.decode() for member in next(replies)} for _ in range(2))
    return Seen(seen, lists, leases, held_by, timers, drains, is_open, letters)


def _run_seen(replies: Any) -> RunSeen:
    head, records, values, failures = (_decoded(next(replies)) for _ in range(4))
    return RunSeen(
        {name: value.decode() for name, value in head.items()},
        records,
        values,
        failures,
        next(replies),
        next(replies),
        {suffix: next(replies) for suffix in SUFFIXES},
        int(next(replies) or 0),
        next(replies),
    )


def _decoded(found: dict[bytes, bytes]) -> dict[str, bytes]:
    return {name.decode(): value for name, value in found.items()}


def check_run(run: str, state: RunState, seen: Seen, *, is_retried: bool = False) -> None:
    """Raise AssertionError unless the run in Redis is as the state machine says.

    A run with consequences left on its todo list may be behind: what they have not reached yet is as it was. Of a run
    that was ``is_retried``, lists and processes may hold what is left of its first life.
    """
    one = seen.runs[run]
    assert (run in seen.open) == one.is_open == ("ended" not in one.head)
    if one.is_reopening:  # nothing of it counts
        assert one.todo
        assert f"{run} todo 0" in seen.timers
        return
    for ref, node in state.nodes.items():
        _check_node(state, ref, node, one, bool(one.todo))
    assert one.records.keys() <= {ref.key for ref in state.nodes}
    if not one.todo:
        _check_head(state, one)
    _check_shared(run, state, seen, one.is_behind, is_retried)
    if one.is_open:
        assert {*one.lives_ms.values()} <= {-1, -2}, one.lives_ms
    else:
        assert not one.is_behind, "an ended run has consequences left"
        for suffix, life_ms in one.lives_ms.items():
            assert life_ms == -2 or 0 < life_ms <= int(one.head["retention_ms"]), (suffix, life_ms)
    assert (one.plan_life_ms > 0) == (one.plan_runs == 0), (one.plan_runs, one.plan_life_ms)


def _check_node(state: RunState, ref: Ref, node: NodeState, one: RunSeen, behind: bool) -> None:
    entry, told = one.entry(state.plan, ref), f"{ref}: {node}"
    if behind and entry.status is NodeStatus.PENDING and entry.attempt == 0:
        assert node.attempt == 0, told
        return
    if node.status is NodeStatus.CANCELLED and entry.status is not NodeStatus.CANCELLED:
        assert entry.status not in FINAL, (told, entry)  # cancelling a run writes nothing to its nodes
        assert state.nodes[Ref(ref.node)].status is not NodeStatus.RUNNING, (told, "its map is open again")
    else:
        assert (entry.status, entry.fence) == (node.status, node.fence), (told, entry)
        assert entry.reason == (node.reason or ""), (told, entry)
    assert (entry.attempt, entry.crashes) == (node.attempt, node.crashes), (told, entry)
    if node.total >= 0:
        assert entry.more.rpartition(",")[0] == f"{node.total},{node.opened},{node.settled}", (told, entry)
        assert entry.status in FINAL or entry.more.rpartition(",")[2] == (node.broken or ""), (told, entry)
    elif entry.status is NodeStatus.PENDING and node.attempt == 0:
        assert entry.more == str(node.waiting), (told, entry)
    elif entry.status not in FINAL:
        assert entry.more == "", (told, entry)
    if ref.item >= 0 or not state.plan.nodes[ref.node].is_map:
        assert (ref.key in one.values) == (node.status is NodeStatus.COMPLETED), told
    if node.status is NodeStatus.COMPLETED or node.attempt == 0:
        assert ref.key not in one.failures, told
    elif node.status is NodeStatus.FAILED and not (node.broken and node.settled == node.total):
        assert ref.key in one.failures, told


def _check_head(state: RunState, one: RunSeen) -> None:
    assert one.head["status"] == state.status
    assert int(one.head.get("fence", 0)) >= state.fence
    if state.status == "cancelled" or "reason" in one.head:
        return
    assert int(one.head["remaining"]) == state.remaining
    assert int(one.head.get("bad_sinks", 0)) == state.bad_sinks
    # Items that a map took along when it gave up are written nowhere and counted nowhere.
    ends = Counter(node.status for node in state.nodes.values() if node.status in FINAL - {NodeStatus.CANCELLED})
    # A retry writes down what the run's first end cancelled; also items, if their map was opened again.
    is_told = {ref: ref.item < 0 or one.entry(state.plan, ref).status in FINAL for ref in state.nodes}
    ends += Counter(
        node.status for ref, node in state.nodes.items() if node.status is NodeStatus.CANCELLED and is_told[ref]
    )
    counted = {status: int(one.head.get(status, 0)) for status in FINAL}
    assert {status: count for status, count in counted.items() if count} == ends
    assert int(one.head.get("settled", 0)) == ends.total()
    items = sum(node.settled if node.status in FINAL else max(0, node.total) for node in state.nodes.values())
    assert int(one.head["total"]) == len(state.plan) + items


def _check_shared(run: str, state: RunState, seen: Seen, behind: bool, is_retried: bool) -> None:
    """Lists, leases and timers hold what they must of an open run; of an ended one, they may hold what is left."""
    assert not behind or f"{run} todo 0" in seen.timers, "nobody would go on with the run if its worker died now"
    if not seen.runs[run].is_open:
        return

    def own(members: Iterable[str]) -> list[str]:
        """Those of this run; what a map that gave up has left there does not count."""
        found = (member.partition(" ")[2] for member in members if member.startswith(f"{run} "))
        found = (member for member in found if not member.startswith(("todo", "deadline")))
        refs = ((member, Ref.parse(member.split()[0])) for member in found)
        gone = NodeState(NodeStatus.CANCELLED)
        return sorted(member for member, ref in refs if state.nodes.get(ref, gone).status is not gone.status)

    one = seen.runs[run]
    nodes = state.nodes.items()
    held = sorted(f"{ref.key} {node.fence}" for ref, node in nodes if node.fence)
    assert held == own(seen.leases) or (is_retried and {*held} < {*own(seen.leases)})
    retries = [(ref, node.attempt) for ref, node in nodes if node.status is NodeStatus.PENDING and node.attempt]
    waits = sorted(f"{ref.key} {attempt}" for ref, attempt in retries)
    assert waits == own(seen.timers) or (is_retried and {*waits} < {*own(seen.timers)})
    aside = [key.decode() for key in one.aside]
    assert one.is_paused or behind or not aside, "nobody brings back what was kept"
    ready: dict[tuple[str, str], list[str]] = {place: [] for place in seen.lists}
    for ref, node in nodes:
        if node.status is NodeStatus.READY:
            spec = state.plan.nodes[ref.node]
            ready[spec.queue or "main", "thread" if spec.placement is FlowType.THREAD else "process"].append(ref.key)
    for place, entries in seen.lists.items():
        listed = own(entries)
        if is_retried:
            listed = [key for key in {*listed} if key in ready[place]]
        assert len(listed) == len(set(listed)), (place, listed)
        kept = [key for key in aside if key in ready[place]]
        assert is_retried or not {*kept} & {*listed}, (place, kept, listed)
        there = {*listed, *kept}
        assert there == {*ready[place]} or (behind and there < {*ready[place]}), (place, there, ready)
