"""What goes wrong while runs are driven: processes that die, replies that are lost, calls that come again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flowq.core.types import FlowStatus, FlowType, NodeStatus
from flowq.runtime import events
from flowq.runtime.events import Ref
from flowq.runtime.replies import Claimed, WakeUp
from tests.property.calls import DEAD, Calls, Sent
from tests.property.choices import Choose, one_of, some_of
from tests.property.look import Seen
from tests.property.reference import Ending
from tests.property.runs import Limits, Run

MOST_LOSSES = 60
"""From then on, a claim that is lost is lost with its process: a twin that draws nothing but lost replies would not
come to an end."""

PAST_MS = 1_000_000
"""Scores below this are long past: the test has set them."""

ANEW = ("extend", "submit", "retry")
"""Calls that say what they want as a whole: made once more, they find that it is done."""


@dataclass(slots=True)
class Past:
    """A call that was made, what it was answered, and the claims that it gave."""

    sent: Sent
    reply: Any
    claims: list[Claimed]


class Faults:
    """The part of a twin that does harm, and tells the state machine of it."""

    calls: Calls
    choose: Choose
    limits: Limits
    runs: dict[str, Run]
    past: list[Past]
    holders: list[str]
    tokens: list[WakeUp]
    dead: dict[str, tuple[int, type[events.Expire | events.Release]]]
    clock: int
    losses: int
    seen: Seen

    _call: Any
    _call_as: Any
    _apply: Any
    _look: Any
    _at_work: Any
    _own: Any
    _there: Any

    # ── processes and their claims

    def _lose(self) -> None:
        """Let a process end with what it holds, for the sweep to find out; or let claims be old whose replies were
        lost, so that their process does not know of them: but not without end."""
        lost = self._lost()
        self.losses += 1
        if (self.choose(2) or self.losses > MOST_LOSSES) and lost:
            self._hold_dead([run.held[ref].lease for run, ref in lost], events.Expire, 1)
            return
        for run, ref in lost:
            self._make_due(self.calls.keys.leases(run.holder[ref]), run.held[ref].lease)
            if self.choose(3) == 1:  # a call that was held up does not name it, the next one does
                self._call_as(run.holder[ref])
                for leases in ([], [run.held[ref].lease]):
                    self.seen = self._look()
                    self._renewed(leases, [])

    def _hold_dead(self, leases: list[str], event: type[events.Expire | events.Release], expiry: int) -> str:
        """Have claims be those of a process that is gone; gives its name."""
        holder = f"{DEAD}{len(self.holders)}"
        self.holders.append(holder)
        by_holder = self._look().holders
        for lease in leases:
            self._call_as(by_holder[lease])
            self.clock += 1
            self.calls.lose(lease, to=holder, expiry=expiry)
            self.calls.client.zadd(self.calls.keys.leases(holder), {lease: self.clock})
            run, key, _ = lease.split()
            self.runs[run].holder[Ref.parse(key)] = holder
        self.dead[holder] = (expiry, event)
        return holder

    def _lost(self) -> list[tuple[Run, Ref]]:
        """Choose attempts whose worker is to die."""
        work = [(run, ref) for run, ref in self._at_work() if run.opens(ref) < 0 and run.ending(ref) is Ending.LOST]
        return some_of(self.choose, work, 3) or work[:1]

    def _fall_due(self) -> None:
        """Let waits before a retry be over."""
        waits = sorted(timer for timer in self.seen.timers if not timer.endswith((" todo 0", " deadline 0")))
        for timer in some_of(self.choose, waits, 3) or waits[:1]:
            self._make_due(self.calls.keys.timers, timer)

    def _make_due(self, key: str, member: str) -> None:
        self.clock += 1
        self.calls.client.zadd(key, {member: self.clock}, xx=True)

    def _sweep(self) -> None:
        before = self._look()
        swept = self._call("sweep", worker="w", every_ms=0)
        assert swept.swept
        self._swept(before)
        self._miss()

    def _miss(self) -> None:
        """The processes say what they hold: all but what is lost."""
        for holder in [*self.holders[:2]] * 2:
            self.seen = self._look()
            self._call_as(holder)
            self._renewed([lease for lease, made in self.seen.leases.items() if made > PAST_MS], [])

    def _renewed(self, leases: list[str], tokens: list[str]) -> list[int]:
        """Renew, and tell the state machine what of the process's own it does not know of; gives what is lost."""
        mine = {
            lease: made for lease, made in self.seen.leases.items() if self.seen.holders[lease] == self.calls.holder
        }
        lost: list[int]
        lost, _ = self._call("renew", leases=leases, tokens=tokens)
        gone = {leases[position] for position in lost}
        after = self._look().leases
        assert all(after.get(lease, 0) >= 0 for lease in leases if lease in mine), "what is named is not forgotten"
        old = sorted((made, lease) for lease, made in mine.items() if made < PAST_MS and lease not in gone)
        for made, lease in old[: self.limits.batch + len(leases)]:
            if lease not in leases and made < 0:  # as last time
                run, ref = self.runs[lease.split()[0]], Ref.parse(lease.split()[1])
                if run.holds(ref, int(lease.split()[2])):
                    run.fates.release(ref, run.ended.get(ref, 0))
                self._taken(lease, events.Release)
        return lost

    def _taken(self, lease: str, event: type[events.Expire | events.Release]) -> None:
        """Tell the state machine that a claim was taken away."""
        run_id, key, fence = lease.split()
        run, ref = self.runs[run_id], Ref.parse(key)
        if run.holds(ref, int(fence)):
            run.ended[ref] = run.ended.get(ref, 0) + 1
            self._apply(run, event(ref, int(fence)))
            if run.state.nodes[ref].status is NodeStatus.FAILED:
                run.letters.add(ref)

    def _swept(self, before: Seen) -> None:
        """Tell the state machine what a sweep finds: so many claims of dead processes and timers, the oldest first."""
        batch = self.limits.batch
        ends = {f"{holder}": self.dead[holder] for holder in self.dead if self.dead[holder][0] < PAST_MS}
        left = batch
        for holder, (_, event) in sorted(ends.items(), key=lambda end: (end[1][0], end[0]))[:batch]:
            left -= self._taken_of(holder, event, left, before)
        timers = sorted((score, timer) for timer, score in before.timers.items() if score < PAST_MS)
        for _, timer in timers[:batch]:
            run_id, key, attempt = timer.split()
            run = self.runs[run_id]
            if key == "deadline":
                run.cut = run.cut if run.state.status.is_final else FlowStatus.FAILED
                self._apply(run, events.Overrun())
            else:
                self._apply(run, events.Due(Ref.parse(key), int(attempt)))

    def _taken_of(
        self, holder: str, event: type[events.Expire | events.Release], most: int, before: Seen, running: str = ""
    ) -> int:
        """Tell the state machine of up to so many claims that are taken away from a process; gives how many.

        ``running``: that was its main thread's, so others of its lane are innocent.
        """
        held = sorted((before.leases[lease], lease) for lease, by in before.holders.items() if by == holder)
        for _, lease in held[:most]:
            run, key, _ = lease.split()
            placement = self.runs[run].plan.nodes[Ref.parse(key).node].placement
            is_innocent = running not in ("", lease) and placement is not FlowType.THREAD
            self._taken(lease, events.Release if is_innocent else event)
        if len(held) < most:
            self.dead.pop(holder, None)
        return len(held[:most])

    def _renew(self) -> None:
        claims = [claim for run in self.runs.values() for claim in run.held.values()]
        claims = some_of(self.choose, claims, 4)
        self._call_as(one_of(self.choose, self.holders[:2]))
        if self.choose(2):  # with all that the process holds, however old
            claims += [claim for claim in self._own() if claim not in claims]
        tokens = [" ".join(token) for token in some_of(self.choose, self.tokens, 2)]
        valid = [self.runs[claim.run].holds(Ref.parse(claim.key), claim.fence) for claim in claims]
        lost = self._renewed([claim.lease for claim in claims], tokens)
        assert lost == [position for position, holds in enumerate(valid) if not holds]

    # ── calls

    def _repeat(self) -> None:
        """Send a call again whose reply was lost; others may have called in between."""
        past = one_of(self.choose, [past for past in self.past[::-1][:8] if self._is_repeatable(past)] or [None])
        if past is None:
            return
        sent, before = past.sent, self._look()
        self._call_as(sent.holder)
        reply, first = self.calls.again(sent), past.reply
        if sent.name in ("settle", "claim"):
            valid = [claim for claim in first.claims if self.runs[claim.run].holds(Ref.parse(claim.key), claim.fence)]
            assert [claim[:6] for claim in reply.claims] == [claim[:6] for claim in valid], sent
            reply, first = reply._replace(claims=[]), first._replace(claims=[])
        assert reply == first, sent
        after = self._look()
        assert self._there(after) == self._there(before), sent
        assert after.timers == before.timers, sent
        held = {run.held[ref].lease for run, ref in self._at_work()}
        assert held & after.leases.keys() == held & before.leases.keys(), sent
        for run_id, run in after.runs.items():
            known = before.runs[run_id]
            assert (run.head, run.records, run.todo) == (known.head, known.records, known.todo), sent
            assert (run.values, run.failures, run.plan_runs) == (known.values, known.failures, known.plan_runs), sent

    def _ask_anew(self) -> None:
        """Make a call again whose client gave up waiting for the reply: it cannot know that it was carried out."""
        done = [past for past in self.past[::-1][:8] if past.sent.name in ANEW and self._was_done(past)]
        past = one_of(self.choose, done or [None])
        if past is None:
            return
        name, given, before = past.sent.name, past.sent.given, self._look()
        reply = self.calls.send(name, **given)[1]
        if name == "extend":
            run, ref = self.runs[given["run"]], Ref.parse(given["key"])
            holds = run.holds(ref, given["fence"]) and given["offset"] <= run.state.nodes[ref].opened
            assert bool(reply[0]) == holds
        elif name == "submit":
            assert set(reply.said) == {"ok"}
        elif name == "retry":
            assert reply.said == "changed", "since its client looked at it"
        after = self._look()
        assert self._there(after) == self._there(before), past
        for run_id, seen in after.runs.items():
            known = before.runs[run_id]
            assert (seen.head, seen.records, seen.todo) == (known.head, known.records, known.todo), past
            assert seen.plan_runs == known.plan_runs, past

    def _was_done(self, past: Past) -> bool:
        return past.sent.name != "extend" or past.reply[0]

    def _is_repeatable(self, past: Past) -> bool:
        """Whether the process that called is still there, with what it got."""
        return all(self.runs[claim.run].holder[Ref.parse(claim.key)] in self.holders[:2] for claim in past.claims)
