"""What is read of runs: plans, records and values. Changing them is for ``scripts`` alone."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from flowq.core.context import FlowContext
from flowq.core.errors import RunNotFound, StateError
from flowq.core.result import Failure
from flowq.core.types import MissingReason, NodeStatus
from flowq.plan import Lowering, Plan, lower
from flowq.results.connection import answer, connect
from flowq.runtime.events import Ref
from flowq.runtime.keys import Keys
from flowq.runtime.missing import Ending
from flowq.runtime.rows import DOCUMENT_PIECES, document_piece, plan_from
from flowq.runtime.scripts import Scripts

PLANS = 256
"""Plans that a process keeps at hand."""

HEAD = (
    *("status", "plan", "name", "process_id", "queue", "submitted", "started", "ended", "paused", "reason"),
    *("total", "settled", "completed", "failed", "skipped", "upstream_failed"),
)
"""A run's head, without its input."""

CHUNK = 1000
"""Fields that one command asks for."""

GLANCE = 128
"""Records that are read along with a run's head, before it is known whether it has ended."""


class Record(NamedTuple):
    """A node of a run, as Redis holds it."""

    status: NodeStatus
    attempt: int = 0
    crashes: int = 0
    fence: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    worker: str | None = None
    more: str = ""

    @staticmethod
    def parse(text: bytes) -> Record:
        if text.isdigit():
            return Record(NodeStatus.PENDING, more=text.decode())
        status, attempt, crashes, fence, started, ended, worker, more = text.decode().split("|", 7)
        began_ms = int(started or 0)
        return Record(
            NodeStatus(status),
            int(attempt),
            int(crashes),
            int(fence),
            _time(began_ms) if started else None,
            _time(began_ms + int(ended)) if ended else None,
            worker or None,
            more,
        )

    def __str__(self) -> str:
        """Give it as Redis holds it."""
        began_ms = 0 if self.started is None else _ms(self.started)
        times = (began_ms or "", "" if self.ended is None else max(0, _ms(self.ended) - began_ms))
        parts = (self.status, self.attempt, self.crashes, self.fence, *times, self.worker or "", self.more)
        return "|".join(map(str, parts))

    @property
    def ending(self) -> Ending:
        """How it stands, as far as its downstream cares."""
        if "," in self.more:
            total, _, _, broken = self.more.split(",")
            return Ending(self.status, MissingReason(broken) if broken else None, int(total))
        reason = MissingReason(self.more) if self.status.is_final and self.more else None
        return Ending(self.status, reason)


class Glance(NamedTuple):
    """What one look at a run brings."""

    head: dict[str, str]
    records: dict[bytes, bytes] | None
    """By key, as Redis holds them; None: there are more than one look brings."""
    output: bytes | None
    """Of the node that was asked for, packed."""


class Told(NamedTuple):
    """What an entry of a run's events tells of a node, or of the run."""

    key: str
    """The node's; ``run``."""
    status: str
    attempt: int
    worker: str


def told_by(fields: Mapping[bytes, bytes]) -> Iterator[Told]:
    """Read an entry of a run's events: all that one call did."""
    worker = ""
    for line in fields[b"e"].decode().split("\n"):
        key, status, attempt, *new = line.split(" ", 3)
        worker = new[0] if new else worker
        yield Told(key, status, int(attempt), worker)


def records_of(texts: Mapping[bytes, bytes]) -> dict[Ref, Record]:
    """Parse records by key, as Redis holds them."""
    return {Ref.parse(key.decode()): Record.parse(text) for key, text in texts.items()}


def failures_of(texts: Mapping[bytes, bytes]) -> dict[str, Failure]:
    """Parse failures by key, as Redis holds them."""
    return {key.decode(): Failure.model_validate_json(text) for key, text in texts.items()}


def _pairs(flat: Sequence[bytes]) -> dict[bytes, bytes]:
    """Read key, value, key, …"""
    pieces = iter(flat)
    return dict(zip(pieces, pieces, strict=True))


def _head(values: Sequence[bytes | None]) -> dict[str, str] | None:
    if values[0] is None:
        return None
    return {name: value.decode() for name, value in zip(HEAD, values, strict=True) if value is not None}


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _ms(time: datetime) -> int:
    return round(time.timestamp() * 1000)


class State:
    """One process's connection to the runs. Safe for threads; made anew in a forked child."""

    def __init__(self, context: FlowContext) -> None:
        self.settings = context.settings
        self.keys = Keys(self.settings.prefix)
        self.client: Any = connect(self.settings.redis_url)
        self.scripts = Scripts(self.client, self.settings)
        self.pid = os.getpid()
        self._plans: OrderedDict[str, Plan] = OrderedDict()
        self._last_plan: tuple[str, Plan] | None = None
        """A batch asks for one again and again."""
        self._lowerings: OrderedDict[tuple[str, bool], Lowering] = OrderedDict()
        self._lock = threading.Lock()

    @staticmethod
    def of(context: FlowContext) -> State:
        """Give the context's state for this process."""
        state: State = context.service("state")
        if state.pid != os.getpid():
            state = State(context)
            context.replace("state", state)
        return state

    def plan(self, plan_hash: str) -> Plan:
        """Give a plan by its hash; the latest ones are kept at hand."""
        last = self._last_plan
        if last is not None and last[0] == plan_hash:
            return last[1]
        with self._lock:
            if plan_hash in self._plans:
                self._plans.move_to_end(plan_hash)
                self._last_plan = plan_hash, self._plans[plan_hash]
                return self._plans[plan_hash]
        key = self.keys.plan(plan_hash)
        first, pieces = self.client.hmget(key, (document_piece(0), DOCUMENT_PIECES))
        document = [first, *(self.client.hget(key, document_piece(number)) for number in range(1, int(pieces or 0)))]
        if None in document:
            raise StateError(f"plan {plan_hash} is not in the state store, though a run names it")
        plan = plan_from(document)
        self.keep(plan_hash, plan)
        return plan

    def keep(self, plan_hash: str, plan: Plan) -> None:
        """Keep a plan at hand."""
        with self._lock:
            self._plans[plan_hash] = plan
            while len(self._plans) > PLANS:
                self._plans.popitem(last=False)

    def lowering(self, plan: Plan, *, chords: bool) -> Lowering:
        """Give a plan's lowering; the latest ones are kept at hand."""
        name = plan.hash, chords
        with self._lock:
            if name in self._lowerings:
                self._lowerings.move_to_end(name)
                return self._lowerings[name]
        lowering = lower(plan, chords=chords)
        with self._lock:
            self._lowerings[name] = lowering
            while len(self._lowerings) > PLANS:
                self._lowerings.popitem(last=False)
        return lowering

    def head(self, run: str) -> dict[str, str]:
        """Give a run's head, without its input.

        Raises:
            RunNotFound: there is no such run.
        """
        found = _head(self.client.hmget(self.keys.run(run), HEAD))
        if found is None:
            raise RunNotFound(f"there is no run {run!r}: it never was, was forgotten, or its retention has passed")
        return found

    def glance(self, runs: Sequence[tuple[str, str]]) -> list[Glance | None]:
        """Look at runs, each named with a node whose output is wanted, in one go; None: there is no such run.

        Of each, the head is read first: if it has ended, then so has all that is read after it.
        """
        commands: list[tuple[Any, ...]] = []
        for run, key in runs:
            commands.append(("HMGET", self.keys.run(run), *HEAD))
            commands.append(("HSCAN", self.keys.nodes(run), 0, "COUNT", GLANCE))
            commands.append(("HGET", self.keys.values(run), key))
        replies = [answer(reply) for reply in self.client.ask(commands)]
        found: list[Glance | None] = []
        for first in range(0, len(replies), 3):
            values, (cursor, records), output = replies[first : first + 3]
            head = _head(values)
            is_all = int(cursor) == 0
            found.append(None if head is None else Glance(head, _pairs(records) if is_all else None, output))
        return found

    def epoch(self) -> str:
        """Give what the store's data are called; another name after it has lost them. Empty: nobody has named them."""
        found: bytes | None = self.client.get(self.keys.epoch)
        return "" if found is None else found.decode()

    def run_input(self, run: str) -> bytes:
        """Give the run's input, packed."""
        found: bytes | None = self.client.hget(self.keys.run(run), "input")
        if found is None:
            raise RunNotFound(f"there is no run {run!r}")
        return found

    def records(self, run: str, keys: Sequence[str]) -> list[Record | None]:
        """Give nodes' records; None: nothing has happened to the node yet."""
        return [None if text is None else Record.parse(text) for text in self._fields(self.keys.nodes(run), keys)]

    def all_records(self, run: str) -> dict[Ref, Record]:
        """Give the records of all nodes and items to which something has happened; see ``record_texts``."""
        return records_of(self.record_texts(run))

    def record_texts(self, run: str, keys: Sequence[str] | None = None) -> dict[bytes, bytes]:
        """Give the records of all nodes and items (or these) to which something has happened, by key, as Redis holds
        them.

        They are read in pieces, so that a huge run holds up nobody: of one that goes on, each is as it was at some
        moment of the reading.
        """
        if keys is None:
            return self._scanned(self.keys.nodes(run))
        found = zip(keys, self._fields(self.keys.nodes(run), keys), strict=True)
        return {key.encode(): text for key, text in found if text is not None}

    def values(self, run: str, keys: Sequence[str]) -> list[bytes | None]:
        """Give nodes' packed outputs."""
        return self._fields(self.keys.values(run), keys)

    def failures(self, run: str) -> dict[str, Failure]:
        """Give the last failure of every node that has one."""
        return failures_of(self.failure_texts(run))

    def failure_texts(self, run: str) -> dict[bytes, bytes]:
        """Give the last failure of every node that has one, by key, as Redis holds it."""
        return self._scanned(self.keys.failures(run))

    def told(self, run: str) -> Iterator[Told]:
        """Give what has happened to the run's nodes and to itself, as far as that is kept."""
        for _, fields in self.client.xrange(self.keys.events(run)):
            yield from told_by(fields)

    def _scanned(self, key: str) -> dict[bytes, bytes]:
        """Give all fields of a hash; one that changes meanwhile may come twice, and then the later one counts."""
        found: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            cursor, piece = self.client.hscan(key, cursor, count=CHUNK)
            found |= piece
            if not cursor:
                return found

    def _fields(self, key: str, fields: Sequence[str]) -> list[bytes | None]:
        found: list[bytes | None] = []
        for first in range(0, len(fields), CHUNK):
            found += self.client.hmget(key, fields[first : first + CHUNK])
        return found

    def close(self) -> None:
        self.client.close()
