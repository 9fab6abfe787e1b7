"""What a test of the scripts asks for, in few words, and small plans to ask it of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from flowq.client.retrying import retry
from flowq.core.errors import RunNotFound
from flowq.core.types import NodeStatus
from flowq.plan import Plan, lower
from flowq.plan.model import Edge, Node
from flowq.runtime.events import Ref
from flowq.runtime.replies import Changed, Claimed, Delivery, Message, Next, Picked, Submitted, Swept, WakeUp
from flowq.runtime.rows import rows_of
from flowq.runtime.scripts import OutcomeEntry
from flowq.runtime.state import Record, State, told_by
from tests.property.calls import Calls, Sent
from tests.property.look import SUFFIXES, Entry

DELAY_MS = 60_000
"""A retry's wait: longer than a test."""


def node(path: str, *upstreams: int, optional: tuple[int, ...] = (), **options: Any) -> Node:
    """A node with required and optional upstreams."""
    edges = sorted([*((up, True) for up in upstreams), *((up, False) for up in optional)])
    return Node(path, "m:f", edges=tuple(Edge(up, required, f"u{up}") for up, required in edges), **options)


def plan(*nodes: Node) -> Plan:
    return Plan(nodes, output=len(nodes) - 1 if nodes else None)


def chain(length: int = 2) -> Plan:
    return plan(*(node(f"n{index}", *range(max(0, index - 1), index)) for index in range(length)))


def fan_out(width: int) -> Plan:
    return plan(node("source"), *(node(f"n{index}", 0) for index in range(width)))


def fan_in(width: int) -> Plan:
    return plan(*(node(f"n{index}") for index in range(width)), node("sink", *range(width)))


def map_plan(**options: Any) -> Plan:
    """A map, with one node that requires all its items and one that does not."""
    return plan(
        node("map", over=("input", "items"), item_parameter="item", **options),
        node("all", 0),
        node("any", optional=(0,)),
    )


def wakes(messages: Sequence[Message]) -> list[WakeUp]:
    """Give messages all of which are wake-ups."""
    found = [message for message in messages if isinstance(message, WakeUp)]
    assert len(found) == len(messages), messages
    return found


def deliveries(messages: Sequence[Message]) -> list[Delivery]:
    """Give messages none of which is a wake-up."""
    found = [message for message in messages if isinstance(message, Delivery)]
    assert len(found) == len(messages), messages
    return found


@dataclass
class Outcome:
    """How an attempt ended."""

    run: str
    key: str
    fence: int = 0
    kind: str = "completed"
    value: bytes = b"value"
    retry: bool = False
    timed_out: bool = False
    fused: bool = False
    alone: bool = False
    returns: bool = False
    kept: str = ""


class Desk:
    """Calls scripts as the worker ``w`` with the drain ``t`` on the queue ``main``, unless told otherwise."""

    def __init__(self, client: Any, slots: int = 2) -> None:
        self.client = client
        self.calls = Calls(client)
        self.keys = self.calls.keys
        self.last: Sent
        """The last call: ``again`` repeats it."""
        self.register(slots=slots)

    def register(self, *, slots: int, worker: str = "w", queues: tuple[str, ...] = ("main", "side")) -> list[WakeUp]:
        return wakes(self._send("register", worker=worker, queues=list(queues), slots=slots))

    def submit(
        self, of: Plan, run: str = "r", *, known: bool = False, retention_ms: int = 60_000, **options: Any
    ) -> list[WakeUp]:
        """Start a run, and go on until all that it begins with is ready."""
        return wakes(self._submit(of, run, known=known, retention_ms=retention_ms, **options))

    def submit_canvas(
        self,
        of: Plan,
        run: str = "r",
        *,
        known: bool = False,
        retention_ms: int = 60_000,
        held: bool = False,
        parked: str = "",
        deadline_ms: int = 0,
    ) -> list[Delivery]:
        """Start a run that is dispatched as a canvas."""
        fields = [] if known else [text for field in lower(of).fields.items() for text in field]
        canvas = lower(of).digest
        given = {"retention_ms": retention_ms, "held": held, "parked": parked, "deadline_ms": deadline_ms}
        return deliveries(self._submit(of, run, fields, canvas, known=known, **given))

    def _submit(
        self, of: Plan, run: str, fields: Sequence[str] = (), canvas: str = "", *, known: bool, **options: Any
    ) -> list[Message]:
        rows = rows_of(of)
        if not known:
            for piece in rows.pieces(500):
                self.calls.send("define", plan=of.hash, values=piece)
            if canvas:
                named = [f"c{canvas}:{text}" if number % 2 == 0 else text for number, text in enumerate(fields)]
                self.calls.send("define", plan=of.hash, values=[*named, f"c{canvas}", "1"])
        self.submitted: Submitted = self._send(
            "submit",
            runs=[run],
            plan=of.hash,
            name="flow",
            process_id="id",
            queue="main",
            queues=[queue or "main" for queue in rows.queues],
            total=len(of),
            values=[b"input"],
            canvas=canvas,
            **options,
        )
        assert self.submitted.said == ["ok"] or known
        messages, left, sent = list(self.submitted.messages), self.submitted.unfinished, self.last
        while left:
            left, more = self._send("advance", run=run)
            messages += more
        self.last = sent
        return messages

    def pick(self, key: str, run: str = "r") -> Picked:
        """Ask for a node by its name, as its message does."""
        found: Picked = self._send("pick", worker="w", run=run, key=key)
        return found

    def take(self, key: str, run: str = "r") -> Claimed:
        """Claim a node by its name."""
        (claim,) = self.pick(key, run).claims
        return claim

    def answer(self, claim: Claimed, kind: str = "completed", **how: Any) -> Next:
        """Record the outcome of a node's own task, which is no drain; gives the inline nodes that follow."""
        return self.settle(Outcome(claim.run, claim.key, claim.fence, kind, **how), token="")

    def park(self, message: str, run: str = "r", *, replaces: bool = False) -> str | None:
        found: str | None = self._send("park", run=run, message=message, replaces=replaces)
        return found

    def told(self, run: str = "r") -> None:
        self._send("told", run=run)

    def claim(
        self, process: int = 1, thread: int = 0, *, token: str = "t", queue: str = "main", busy: int = 0
    ) -> list[Claimed]:
        return self.claim_next(process, thread, token=token, queue=queue, busy=busy).claims

    def claim_next(
        self, process: int = 1, thread: int = 0, *, token: str = "t", queue: str = "main", busy: int = 0
    ) -> Next:
        found: Next = self._send(
            "claim", worker="w", token=token, queue=queue, process=process, thread=thread, busy=busy
        )
        return found

    def settle(
        self,
        *outcomes: Outcome | Claimed,
        process: int = 0,
        thread: int = 0,
        token: str = "t",
        busy: int = 0,
        inline: bool = True,
    ) -> Next:
        """Record outcomes; a claim stands for its completion."""
        entries: list[OutcomeEntry] = []
        for given in outcomes:
            outcome = Outcome(given.run, given.key, given.fence) if isinstance(given, Claimed) else given
            entries.append(
                OutcomeEntry(
                    outcome.key,
                    outcome.value if outcome.kind == "completed" else None,
                    outcome.run,
                    outcome.fence,
                    outcome.kind,
                    failure='{"kind":"error"}' if outcome.kind in ("failed", "unknown") else "",
                    retry=outcome.retry,
                    delay_ms=DELAY_MS,
                    timed_out=outcome.timed_out,
                    fused=outcome.fused,
                    alone=outcome.alone,
                    returns=outcome.returns,
                    kept=outcome.kept,
                )
            )
        found: Next = self._send(
            "settle",
            worker="w",
            token=token,
            queue="main",
            process=process,
            thread=thread,
            busy=busy,
            inline=inline,
            outcomes=entries,
        )
        return found

    def fail(self, claim: Claimed, **how: Any) -> Next:
        return self.settle(Outcome(claim.run, claim.key, claim.fence, "failed", **how))

    def extend(self, claim: Claimed, offset: int, count: int, total: int) -> bool:
        values = [f"item {position}".encode() for position in range(offset, offset + count)]
        counted, _ = self._send(
            "extend", run=claim.run, key=claim.key, fence=claim.fence, offset=offset, total=total, values=values
        )
        return bool(counted)

    def advance(self, run: str = "r") -> bool:
        left, _ = self._send("advance", run=run)
        return bool(left)

    def renew(self, *leases: str, tokens: tuple[str, ...] = ()) -> list[int]:
        lost: list[int] = self._send("renew", leases=list(leases), tokens=list(tokens))[0]
        return lost

    def sweep(self, every_ms: int = 0, worker: str = "w") -> Swept:
        found: Swept = self._send("sweep", worker=worker, every_ms=every_ms)
        return found

    def cancel(self, run: str = "r") -> str | None:
        found: str | None = self._send("cancel", run=run)[0]
        return found

    def pause(self, run: str = "r") -> str | None:
        found: str | None = self._send("pause", run=run)
        return found

    def resume(self, run: str = "r") -> Changed | None:
        found: Changed | None = self._send("resume", run=run)
        return found

    def retry(self, *roots: str, of: Plan, run: str = "r") -> Changed:
        """Open an ended run again, as a client does; what is left is not gone on with."""
        return retry(self.reader(of), run, [Ref.parse(root) for root in roots])

    def reader(self, of: Plan) -> State:
        """Give what a client reads and retries runs of this plan with."""
        client, keys = self.client, self.keys

        def head(run: str) -> dict[str, str]:
            found = client.hgetall(keys.run(run))
            if not found:
                raise RunNotFound(run)
            return {name.decode(): text.decode() for name, text in found.items() if name != b"input"}

        def all_records(run: str) -> dict[Ref, Record]:
            found = client.hgetall(keys.nodes(run)).items()
            return {Ref.parse(key.decode()): Record.parse(text) for key, text in found}

        scripts = SimpleNamespace(
            retry=lambda **given: self._send("retry", **given), stage=lambda **given: self._send("stage", **given)
        )
        reads = {"head": head, "all_records": all_records, "plan": lambda _: of}
        return cast("State", SimpleNamespace(client=client, keys=keys, scripts=scripts, **reads))

    def bury(self, *holders: str, tokens: tuple[str, ...] = (), crashed: bool = True) -> list[Message]:
        found: list[Message] = self._send("bury", holders=list(holders), tokens=list(tokens), crashed=crashed)
        return found

    def vouch(self, *holders: str) -> list[str]:
        found: list[str] = self._send("vouch", holders=list(holders))
        return found

    def define(self, plan: str, *values: str | bytes) -> None:
        self._send("define", plan=plan, values=list(values))

    def drop(self, *letters: str) -> int:
        found: int = self._send("drop", letters=list(letters))
        return found

    def forget(self, run: str = "r") -> str | None:
        found: str | None = self._send("forget", run=run)
        return found

    def again(self) -> Any:
        """Repeat the last call word for word: its reply was lost. It gives the same again."""
        reply = self.calls.again(self.last)
        assert reply == self._reply
        return reply

    def _send(self, name: str, /, **given: Any) -> Any:
        self.last, self._reply = self.calls.send(name, **given)
        return self._reply

    # ── what a test sees and moves with its own hands

    def head(self, field: str, run: str = "r") -> str | None:
        found = self.client.hget(self.keys.run(run), field)
        return None if found is None else found.decode()

    def status(self, run: str = "r") -> str | None:
        return self.head("status", run)

    def entry(self, key: str, run: str = "r") -> Entry | None:
        found = self.client.hget(self.keys.nodes(run), key)
        return None if found is None else Entry.parse(found)

    def node(self, key: str, run: str = "r") -> NodeStatus | None:
        entry = self.entry(key, run)
        return None if entry is None else entry.status

    def events(self, run: str = "r") -> list[str]:
        """Give what is told of a run: ``node status attempt worker``."""
        entries = self.client.xrange(self.keys.events(run))
        return [" ".join(map(str, told)) for _, fields in entries for told in told_by(fields)]

    def ready(self, queue: str = "main", lane: str = "process") -> list[str]:
        return [entry.decode() for entry in self.client.lrange(self.keys.lane(queue, lane), 0, -1)]

    def leases(self) -> list[str]:
        """Give the claims of the process that calls."""
        return [lease.decode() for lease in self.client.zrange(self.keys.leases(self.calls.holder), 0, -1)]

    def timers(self) -> list[str]:
        return [timer.decode() for timer in self.client.zrange(self.keys.timers, 0, -1)]

    def drains(self, queue: str = "main") -> set[str]:
        return {token.decode() for token in self.client.zrange(self.keys.drains(queue), 0, -1)}

    def make_due(self, key: str, *members: str) -> None:
        """Set when something is due to long ago."""
        for member in members:
            assert self.client.zadd(key, {member: 1}, xx=True, ch=True) == 1, f"{member} is not in {key}"

    def expire(self, *claims: Claimed) -> Swept:
        """Let leases run out, and sweep."""
        self.calls.lose(*(claim.lease for claim in claims))
        return self.sweep()

    def die(self) -> None:
        """Let the process that calls be taken for dead."""
        self.make_due(self.keys.holders, self.calls.holder)

    def holders(self) -> dict[str, float]:
        """Give the processes that hold claims, by when they are taken for dead."""
        return {name.decode(): due for name, due in self.client.zrange(self.keys.holders, 0, -1, withscores=True)}

    def aside(self, run: str = "r") -> list[str]:
        """Give the nodes that wait for a paused run to go on."""
        return [key.decode() for key in self.client.zrange(f"{self.keys.run(run)}:aside", 0, -1)]

    def letters(self) -> list[str]:
        return [letter.decode() for letter in self.client.zrange(self.keys.dead, 0, -1)]

    def value(self, key: str, run: str = "r") -> bytes | None:
        found: bytes | None = self.client.hget(self.keys.values(run), key)
        return found

    def finish(self, run: str = "r", kind: str = "completed") -> None:
        """Claim and end what is ready until there is nothing any more."""
        while claims := self.claim(process=500, thread=500, token="finish"):
            self.settle(*(Outcome(claim.run, claim.key, claim.fence, kind) for claim in claims), token="")
            while self.advance(run):
                pass

    def fall_due(self) -> Swept:
        """Let all waits be over, and sweep."""
        self.make_due(self.keys.timers, *self.timers())
        return self.sweep()

    def due(self, run: str = "r") -> dict[str, float]:
        """Give when the nodes' messages are taken for lost."""
        return {key.decode(): due for key, due in self.client.zrange(self.keys.due(run), 0, -1, withscores=True)}

    def watched(self) -> dict[str, float]:
        """Give when the sweep is to look after runs that are dispatched as a canvas."""
        return {run.decode(): due for run, due in self.client.zrange(self.keys.canvas, 0, -1, withscores=True)}

    def make_late(self, *keys: str, run: str = "r") -> None:
        """Let messages be late, and none of the others have come for long."""
        self.make_due(self.keys.due(run), *keys)
        self.make_due(self.keys.canvas, run)
        self.client.hset(self.keys.picks("main"), "last", 1)

    def lose(self, *keys: str, run: str = "r") -> list[Delivery]:
        """Let messages be lost, and sweep; gives what is to be sent."""
        self.make_late(*keys, run=run)
        return deliveries(self.sweep().messages)

    def lives_ms(self, run: str = "r") -> list[int]:
        """What is left of the lives of the run's keys, those that there are."""
        lives = [self.client.pttl(self.keys.run(run) + suffix) for suffix in SUFFIXES]
        return [life for life in lives if life != -2]

    @contextmanager
    def counting(self) -> Iterator[dict[str, int]]:
        """Count the commands that the server carries out meanwhile, those in scripts too, by name."""
        counted: dict[str, int] = {}
        self.client.config_resetstat()
        yield counted
        for name, figures in self.client.info("commandstats").items():
            counted[name.removeprefix("cmdstat_")] = figures["calls"]

    def clear(self) -> None:
        self.calls.clear()
