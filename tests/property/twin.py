"""Drives runs on the scripts and on the state machine at once, and holds the two equal after every call.

The calls are those that a fleet makes: claims and settles of several drains, with fused and inline nodes and several
outcomes at a time, also of several runs; maps opened piece by piece; leases that run out and retries that fall due,
found by the sweep; renewals; cancels; submits of one run, or of several that have the same plan. Between them come the
same calls again, whose replies were lost, outcomes that come too late, twice or with somebody else's fence, and workers
that die before they go on with what a call left over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

from flowq.core.types import FlowStatus, FlowType, NodeStatus
from flowq.plan import Plan
from flowq.runtime import events, machine
from flowq.runtime.events import Ref
from flowq.runtime.replies import Claimed, Next, WakeUp
from flowq.runtime.rows import inputs_of, optional_of, reads_input, rows_of
from flowq.runtime.scripts import OutcomeEntry
from tests.property.calls import Calls, Changes, merged, sized, taking
from tests.property.choices import Choose, one_of, seeded, some_of
from tests.property.drive import event_of
from tests.property.faults import Faults, Past
from tests.property.graphs import random_plan
from tests.property.look import LANES, Seen, check_run, look
from tests.property.reference import ENDINGS, Ending, Fates, check_end
from tests.property.runs import Limits, Run, ending_of, outcome_of

QUEUES = ("main", "side")
SLOTS = 2
RETENTION_MS = 100_000
MOST_STEPS = 60
"""Random ones; then the runs are driven straight to their ends."""


class Twin(Faults):
    """Runs of plans, on both."""

    endings: Sequence[Ending] = ENDINGS
    """Of attempts, to draw from."""
    deadline_ms = 0
    """Of the runs that it starts."""

    def __init__(self, calls: Calls, choose: Choose, plans: Sequence[Plan], limits: Limits, *, late: bool) -> None:
        """``late``: what a call leaves over is not gone on with at once."""
        self.calls, self.choose, self.limits, self.late = calls, choose, limits, late
        self.runs: dict[str, Run] = {}
        self.past: list[Past] = []
        self.given: set[str] = set()
        """All leases: a node never has the same fence twice."""
        self.holders = [calls.holder, f"{calls.holder[:-1]}x"]
        """The processes: the first ones live, the others are gone."""
        self.tokens = [WakeUp(queue, f"forged-{queue}") for queue in QUEUES]
        """Drains at work, ended ones and expected ones alike: wake-ups may come late, twice or from nowhere."""
        self.dead: dict[str, tuple[int, type[events.Expire | events.Release]]] = {}
        """Processes that are gone and held claims: when they were taken for dead, and what that is to the claims."""
        self.clock = 0
        self.losses = 0
        self.fresh: set[tuple[str, Ref]] = set()
        """What has become ready by the last call, other than by being released."""
        self._call("register", worker="w", queues=list(QUEUES), slots=SLOTS)
        for number, plan in enumerate(plans):
            state, _ = machine.start(plan)
            self.runs[f"r{number}"] = Run(f"r{number}", plan, state, Fates(plan, choose, self.endings))
        for _, alike in groupby(self.runs.values(), lambda run: run.plan.hash):
            self._submit(list(alike))
        self.seen = self._look()
        self._check()

    def run(self) -> None:
        """Drive all runs to their ends, and check these."""
        for _ in range(self.choose(MOST_STEPS)):
            self._step()
        self._drive()
        self._forget()

    def _drive(self) -> None:
        """Go straight to the ends of all runs, and check these."""
        for _ in range(20 * MOST_STEPS):
            if all(not run.is_open for run in self.seen.runs.values()):
                break
            self._progress()
        for run in self.runs.values():
            seen = self.seen.runs[run.id]
            stands = seen.stands(run.plan)
            check_end(run.plan, run.fates, stands, FlowStatus(seen.head["status"]), run.cut, run.kept)

    def _step(self) -> None:
        one_of(self.choose, self._steps())()
        self._check()

    def _steps(self) -> Sequence[Callable[[], None]]:
        return (
            self._settle,
            self._claim,
            self._extend,
            self._settle,
            self._lose,
            self._fall_due,
            self._sweep,
            self._repeat,
            self._repeat,
            self._ask_anew,
            self._renew,
            self._advance,
            self._cancel,
        )

    def _progress(self) -> None:
        """Do what brings the runs nearer to their ends."""
        work = self._at_work()
        if self._behind():
            self._advance()
        elif any(run.opens(ref) >= 0 for run, ref in work):
            self._extend()
        elif any(run.ending(ref) is not Ending.LOST for run, ref in work):
            self._settle()
        elif self.dead:
            self._sweep()
        elif work:
            self._lose()
            self._sweep()
        elif any(self.seen.lists.values()):
            queue = next(queue for (queue, _), entries in self.seen.lists.items() if entries)
            self._claim(self._drain(queue) | {"process": 2, "thread": 2})
        else:
            self._fall_due()
            self._sweep()
        self._check()

    # ── what is asked of both

    def _submit(self, runs: list[Run]) -> None:
        """Start runs of one plan in one call."""
        plan = runs[0].plan
        rows = rows_of(plan)
        given: dict[str, Any] = {
            "runs": [run.id for run in runs],
            "plan": plan.hash,
            "name": "flow",
            "process_id": "flow",
            "queue": "main",
            "retention_ms": RETENTION_MS,
            "total": len(plan),
            "queues": [queue or "main" for queue in rows.queues],
            "deadline_ms": self.deadline_ms,
        }
        known = self.calls.client.exists(self.calls.keys.plan(plan.hash))
        submitted = self._call("submit", **given, values=[b"input"] * len(runs))
        assert submitted.said == ["ok" if known else "plan_unknown"] * len(runs)
        if not known:
            for piece in rows.pieces(1 + self.choose(5)):
                self._call("define", plan=plan.hash, values=piece)
            submitted = self._call("submit", **given, values=[b"input"] * len(runs))
            assert submitted.said == ["ok"] * len(runs)

    def _claim(self, drain: dict[str, Any] | None = None) -> None:
        drain = drain or self._drain()
        self._call_as(one_of(self.choose, self.holders[:2]))
        waits = len(self.seen.lists[drain["queue"], "process"])
        reply = self._call("claim", **drain)
        taken = [self.runs[claim.run].plan.nodes[Ref.parse(claim.key).node].placement for claim in reply.claims]
        most = max(1, -(-waits // SLOTS)) if drain["batch"] else waits
        assert len(taken) - taken.count(FlowType.THREAD) <= most, "others do not get their share"
        self._claimed(reply, drain)

    def _settle(self) -> None:
        work = [(run, ref) for run, ref in self._at_work() if run.opens(ref) < 0 and run.ending(ref) is not Ending.LOST]
        self._call_as(one_of(self.choose, [run.holder[ref] for run, ref in work] or self.holders[:2]))
        work = [(run, ref) for run, ref in work if run.holder[ref] == self.calls.holder]
        outcomes: list[OutcomeEntry] = []
        for run, ref in some_of(self.choose, work, 3) or work[:1]:
            self._tell(run, ref, run.held[ref].fence, outcomes)
        if self.choose(3) == 1:
            outcomes.insert(self.choose(len(outcomes) + 1), self._stale_outcome())
        drain, inline = self._drain(), self.choose(5) != 1
        if drain["batch"] and drain["thread"] == 1:
            drain |= {"goes_on": True, "busy": 1}
        if self.choose(8) == 1:
            drain["token"] = ""
        behind = self._behind()
        reply = self._call("settle", **drain, inline=inline, outcomes=outcomes)
        for position, outcome in enumerate(outcomes):
            self._settled(outcome, taken=position not in reply.stale, hands=inline)
        self._claimed(reply, drain, hands=inline)
        self.seen = self._look()
        assert self._behind() - behind <= set(reply.unfinished) <= self._behind(), "the caller goes on with nothing"

    def _tell(self, run: Run, ref: Ref, fence: int, outcomes: list[OutcomeEntry], *, fused: bool = False) -> None:
        """Say how an attempt ended, and the nodes that are fused to it."""
        ending = run.ending(ref)
        if fused and ending in (Ending.LOST, Ending.RELEASED):
            return  # as if its worker had not come to it
        value = f"{run.id}/{ref.key}/{run.ended.get(ref, 0)}".encode() if ending is Ending.COMPLETED else None
        outcomes.append(outcome_of(run.id, ref, fence, ending, value, fused=fused))
        if value is not None and ref.item < 0:
            told = {outcome.key for outcome in outcomes if outcome.run == run.id and outcome.value is not None}
            for follower in run.plan.ahead.get(ref.node, ()):
                upstreams = {str(edge.upstream) for edge in run.plan.nodes[follower].edges}
                if upstreams <= told and self.choose(4) != 1:
                    self._tell(run, Ref(follower), 0, outcomes, fused=True)

    def _stale_outcome(self) -> OutcomeEntry:
        """Give an outcome that nobody may record: too late, of somebody else's attempt, of no node at all."""
        run = one_of(self.choose, list(self.runs.values()))
        ready = [ref for ref, node in run.state.nodes.items() if node.status is NodeStatus.READY and ref.item < 0]
        if ready and self.choose(4) == 1:  # as if this caller had run it after its upstream: it is anybody's
            return outcome_of(run.id, one_of(self.choose, ready), 0, Ending.SKIPPED, fused=True)
        maps = [ref for ref in run.held if run.is_map(ref)]
        ref = one_of(self.choose, [Ref(len(run.plan)), Ref(0, 99), *run.state.nodes, *run.held, *maps])
        ending = one_of(self.choose, ENDINGS)
        harmless = run.is_map(ref) and ending is Ending.COMPLETED  # only its items can complete a map
        last = run.state.fence
        known = [0, last, last + 1, last - 1, *(claim.fence for claim in run.held.values())]
        fence = one_of(self.choose, [fence for fence in known if harmless or not run.holds(ref, fence)])
        return outcome_of(run.id, ref, fence, ending)

    def _settled(self, outcome: OutcomeEntry, *, taken: bool, hands: bool) -> None:
        """Tell the state machine what the script was told; both must take it, or neither."""
        run, ref, fence = self.runs[outcome.run], Ref.parse(outcome.key), outcome.fence
        ending = ending_of(outcome)
        if outcome.fused:
            # It must have become ready by an outcome before it in this call: else somebody else may have it.
            possible = (run.id, ref) in self.fresh
            assert taken == possible or (possible and not self.limits.is_large), outcome
            if not taken:
                return
            fence = self.seen.runs[run.id].entry(run.plan, ref).fence
            self._apply(run, events.Claim(ref))
            fence = run.state.nodes[ref].fence
        valid = run.holds(ref, fence) and not (run.is_map(ref) and ending is Ending.COMPLETED)
        assert taken == valid, outcome
        self._apply(run, event_of(machine, ending, ref, fence))
        if taken:
            run.ended[ref] = run.ended.get(ref, 0) + 1
            if outcome.value is not None:
                run.outputs[ref] = outcome.value

    def _claimed(self, reply: Next, drain: dict[str, Any], *, hands: bool = False) -> None:
        """Tell the state machine what was claimed, and check what came along."""
        taken = dict.fromkeys(LANES, 0)
        handed = 0
        for claim in reply.claims:
            run, ref = self.runs[claim.run], Ref.parse(claim.key)
            assert not self.seen.runs[claim.run].is_paused, "something of a paused run begins"
            assert not self.seen.runs[claim.run].is_reopening, "something begins before all is in place"
            spec = run.plan.nodes[ref.node]
            self._apply(run, events.Claim(ref, claim.fence))
            node = run.state.nodes[ref]
            assert node.status is NodeStatus.RUNNING, claim
            assert claim.lease not in self.given, claim
            self.given.add(claim.lease)
            assert (node.attempt, node.crashes, node.fence) == (claim.attempt, claim.crashes, claim.fence), claim
            assert (claim.plan, claim.opened) == (run.plan.hash, node.opened)
            assert claim.run_input == (b"input" if reads_input(spec) else None)
            assert claim.item == run.inputs.get(ref)
            self._check_inputs(run, spec, claim)
            run.held[ref], run.holder[ref] = claim, self.calls.holder
            if run.is_map(ref):
                run.chunks[ref] = run.fates.of(ref).opened[run.ended.get(ref, 0)]
            # A call may also go on with what another one has left over.
            is_new = (run.id, ref) in self.fresh or self.late
            if hands and spec.placement is FlowType.INLINE and is_new and not any(taken.values()):
                handed += 1
            else:
                assert (spec.queue or "main") == drain["queue"], claim
                taken["thread" if spec.placement is FlowType.THREAD else "process"] += 1
        if (drain["batch"] and taken["process"] > 1) or drain.get("goes_on"):
            self._check_batch(reply)
        if drain["token"] and drain["listens_ms"] and not drain["busy"] and not reply.claims:
            client, keys = self.calls.client, self.calls.keys
            listens = client.zscore(keys.idle(drain["queue"]), drain["token"]) is not None
            assert listens or client.exists(keys.bell(drain["token"])), "a drain listens, and nobody rings for it"
        self.seen = self._look()
        for lane in LANES:
            assert taken[lane] <= drain[lane] or handed, (lane, taken, drain)
            waits = self._live(self.seen)[drain["queue"], lane]
            is_asked = drain["token"] != "" and not (lane == "process" and handed) and self.limits.is_large
            if drain["batch"] and lane == "process":
                is_asked = is_asked and drain[lane] > 0 and not taken[lane]
                is_asked = is_asked and not (drain.get("goes_on") and waits and self._is_alone(waits[0]))
            assert taken[lane] == drain[lane] or not waits or not is_asked, (lane, taken, drain)

    def _check_batch(self, reply: Next) -> None:
        """Whoever may end the process is alone."""
        for claim in reply.claims:
            placement = self.runs[claim.run].plan.nodes[Ref.parse(claim.key).node].placement
            assert placement is FlowType.THREAD or not self._is_alone(f"{claim.run} {claim.key}"), claim

    def _is_alone(self, entry: str) -> bool:
        """Tell whether nothing else may be in a batch with a node that waits, or is claimed."""
        run, ref = self.runs[entry.split()[0]], Ref.parse(entry.split()[1])
        return run.state.nodes[ref].crashes > 0 or run.plan.nodes[ref.node].max_crashes <= 1

    def _check_inputs(self, run: Run, spec: Any, claim: Claimed) -> None:
        upstreams = inputs_of(run.plan, spec)
        if not upstreams:
            assert claim.records is None
            assert claim.values is None
            return
        assert claim.values == [run.outputs.get(Ref(upstream)) for upstream in upstreams], claim
        if not optional_of(spec):
            assert claim.records is None, claim
            return
        statuses = [record.split(b"|")[0].decode() for record in claim.records or () if record is not None]
        assert statuses == [run.state.nodes[Ref(upstream)].status for upstream in upstreams], claim

    def _extend(self) -> None:
        work = self._at_work()
        if not work:
            return
        run, ref = one_of(self.choose, [(run, ref) for run, ref in work if run.opens(ref) >= 0] * 3 + work)
        fence, opened, total = run.held[ref].fence, run.state.nodes[ref].opened, run.fates.of(ref).items
        most = run.opens(ref)
        if most < 0 or self.choose(4) == 1:
            self._extend_wrongly(run, ref, fence, opened)
            return
        self._call_as(run.holder[ref])
        count = most - self.choose(most) if most else 0
        # A call that is repeated after a crash begins with items that are open already.
        offset = opened - self.choose(opened + 1)
        items = [Ref(ref.node, position) for position in range(offset, opened + count)]
        run.inputs |= {item: f"i/{run.id}/{item.key}".encode() for item in items}
        given: dict[str, Any] = {"run": run.id, "key": ref.key, "fence": fence, "offset": offset, "total": total}
        counted, _ = self._call("extend", **given, values=[run.inputs[item] for item in items])
        assert counted
        self._apply(run, events.Extend(ref, fence, offset, len(items), total))
        run.chunks[ref] -= count
        if opened + count == total:
            run.ended[ref] = run.ended.get(ref, 0) + 1

    def _extend_wrongly(self, run: Run, ref: Ref, fence: int, opened: int) -> None:
        """Open items of what is no map, or with a fence that is not valid, or with a gap before them."""
        gap = self.choose(2) if run.is_map(ref) else 0
        wrong = {"fence": fence - int(run.is_map(ref) and not gap), "offset": opened + gap}
        counted, _ = self._call("extend", run=run.id, key=ref.key, **wrong, total=3, values=[b"?"])
        assert not counted

    def _advance(self) -> None:
        run = one_of(self.choose, sorted(self._behind()) or list(self.runs))
        left, _ = self._call("advance", run=run)
        self.seen = self._look()
        assert left == self.seen.runs[run].is_behind

    def _cancel(self) -> None:
        if self.choose(6) != 1:
            return
        run = one_of(self.choose, list(self.runs.values()))
        while run.id in self._behind():
            self._call("advance", run=run.id)
            self.seen = self._look()
        run.cut = run.cut if run.state.status.is_final else FlowStatus.CANCELLED
        status, _ = self._call("cancel", run=run.id)
        self._apply(run, events.Cancel())
        assert status == run.state.status

    def _forget(self) -> None:
        """When all is over, everything that is left must have an end."""
        for queue in QUEUES:
            while any(self._look().lists[queue, lane] for lane in LANES):
                reply = self._call("claim", **self._drain(queue) | {"process": 2, "thread": 2})
                assert reply.claims == [], "something of an ended run was claimed"
            drains = self.calls.keys.drains(queue)
            for token in self.calls.client.zrange(drains, 0, -1):
                self._make_due(drains, token)
        for _ in range(20 * MOST_STEPS):
            if not (self.seen.leases or self.seen.timers):
                break
            for timer in self.seen.timers:
                self._make_due(self.calls.keys.timers, timer)
            for holder in self.holders:
                self.calls.client.zadd(self.calls.keys.holders, {holder: 1}, xx=True)
            self._call("sweep", worker="w", every_ms=0)
            self.seen = self._look()
        for run in self.runs.values():
            assert self._call("forget", run=run.id) == self.seen.runs[run.id].head["status"]
            assert self._call("forget", run=run.id) is None
        self._call("sweep", worker="w", every_ms=0)
        left = self.calls.left()
        assert [key for key in left if ":run:" in key] == []
        assert [key for key, life_ms in left.items() if life_ms < 0] == []
        self.calls.clear()

    # ── what both say

    def _call(self, name: str, /, **given: Any) -> Any:
        self.fresh.clear()
        sent, reply = self.calls.send(name, **given)
        self.past.append(Past(sent, reply, getattr(reply, "claims", [])))
        wakes: list[WakeUp] = reply if name == "register" else getattr(reply, "messages", [])
        if name in ("extend", "advance", "renew"):
            wakes = reply[1]
        elif name == "bury":
            wakes = reply
        self.tokens += wakes
        for queue in {wake.queue for wake in wakes}:
            drains = self.calls.client.zcard(self.calls.keys.drains(queue))
            assert drains <= SLOTS, f"more wake-ups than free slots: {drains} drains"
        return reply

    def _apply(self, run: Run, event: events.Event) -> None:
        for command in machine.apply(run.state, event):
            if isinstance(command, events.Enqueue) and not isinstance(event, events.Release):
                self.fresh.add((run.id, command.ref))

    def _call_as(self, holder: str) -> None:
        self.calls.holder = self.calls._scripts.holder = holder

    def _drain(self, queue: str | None = None) -> dict[str, Any]:
        tokens = [token for token in self.tokens if queue in (None, token.queue)]
        wake = one_of(self.choose, tokens[::-1][:6])
        lanes = {lane: (self.choose(3) + 1) % 3 for lane in LANES}
        how = {"batch": lanes["process"] != lanes["thread"], "listens_ms": 3_600_000 if lanes["thread"] == 2 else 0}
        return {"worker": "w", "token": wake.token, "queue": wake.queue, **lanes, "busy": self.choose(2), **how}

    def _own(self) -> list[Claimed]:
        """Give the claims that the calling process holds."""
        return [run.held[ref] for run, ref in self._at_work() if run.holder[ref] == self.calls.holder]

    def _at_work(self) -> list[tuple[Run, Ref]]:
        """Give the attempts that hold a valid claim, and whose process lives."""
        valid = ((run, ref) for run in self.runs.values() for ref in run.held if run.holds(ref, run.held[ref].fence))
        return [(run, ref) for run, ref in valid if run.holder[ref] in self.holders[:2]]

    def _live(self, seen: Seen) -> dict[tuple[str, str], list[str]]:
        """Give the lists without what leads nowhere: entries of ended runs, of first lives and of maps that gave up."""

        gone = machine.NodeState(NodeStatus.CANCELLED)

        def is_live(entry: str) -> bool:
            run, ref = self.runs[entry.split()[0]], Ref.parse(entry.split()[1])
            is_ready = run.state.nodes.get(ref, gone).status is NodeStatus.READY
            return seen.runs[run.id].is_open and is_ready

        return {place: [entry for entry in entries if is_live(entry)] for place, entries in seen.lists.items()}

    def _there(self, seen: Seen) -> set[str]:
        """Give what is ready, listed or set aside; a claim may set aside what it finds of a paused run."""
        aside = {f"{run} {key.decode()}" for run, one in seen.runs.items() for key in one.aside}
        return {entry for entries in self._live(seen).values() for entry in entries} | aside

    def _behind(self) -> set[str]:
        return {run for run, seen in self.seen.runs.items() if seen.is_behind}

    def _look(self) -> Seen:
        return look(self.calls, {run.id: run.plan for run in self.runs.values()}, QUEUES, self.holders)

    def _check(self) -> None:
        self.seen = self._look()
        while True:
            for run in self.runs.values():
                check_run(run.id, run.state, self.seen, is_retried=run.lives > 1)
                run.state.fence = int(self.seen.runs[run.id].head.get("fence", 0))  # as the server's clock says
            for run in self.runs.values():
                letters = {letter for letter in self.seen.letters if letter.startswith(f"{run.id} ")}
                there = self.seen.runs[run.id].is_reopening or letters == {f"{run.id} {ref.key}" for ref in run.letters}
                assert there, f"what was given up of {run.id}, and not retried since: {run.letters}; {letters}"
            for queue in QUEUES:
                waiting = sum(len(self.seen.lists[queue, lane]) for lane in LANES)
                assert self.seen.drains[queue] >= min(waiting, SLOTS), f"{queue}: {waiting} ready, and nobody is told"
            if self.late or not self._behind():
                break
            self._advance()


def random_twin(client: Any, seed: int, changes: Changes | None = None, of_kind: Callable[..., Twin] = Twin) -> Twin:
    """Give one to three runs that are the same for a seed; ``changes`` to the scripts beside the limits."""
    choose = seeded(seed)
    limits = Limits()
    if seed % 3:
        limits = Limits(one_of(choose, (1, 2, 3, 7)), one_of(choose, (1, 2, 32)), one_of(choose, (1, 2, 500)))
    plans = [random_plan(choose) for _ in range(1 + choose(2))]
    plans += plans[: choose(2)]
    sizes = merged(sized(*limits), taking(limits.batch))
    return of_kind(Calls(client, merged(sizes, changes or {})), choose, plans, limits, late=seed % 3 == 2)
