"""A random walk over all scripts: the calls that workers and producers make, in an order that no fleet would choose."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from flowq.plan import Plan, lower
from flowq.runtime.events import Ref
from flowq.runtime.replies import Claimed
from flowq.runtime.rows import rows_of
from flowq.runtime.scripts import OutcomeEntry
from tests.chaos.replies.faults import Fault
from tests.chaos.replies.pair import LEASE_S, Pair
from tests.property.choices import Choose, one_of, some_of
from tests.property.graphs import random_plan

HOLDERS = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb")
"""Processes."""

QUEUES = ("main", "side")
FAULTS = (Fault.DROP, Fault.DROP, Fault.DROP, Fault.TORN, Fault.TWICE, Fault.CUT)
ENDS = ("completed", "completed", "completed", "completed", "failed", "skipped", "released", "unknown")


class Walk:
    """Makes calls on a pair; every one meets a fault."""

    def __init__(self, pair: Pair, choose: Choose) -> None:
        self._pair, self._choose = pair, choose
        self._plans: dict[str, Plan] = {}
        self._canvases: list[str] = []
        self._held: list[Claimed] = []
        self._numbers = itertools.count()
        self._staged = 0
        self.steps: dict[str, Callable[[], None]] = {
            "submit": self._submit,
            "claim": self._claim,
            "pick": self._pick,
            "settle": self._settle,
            "extend": self._extend,
            "advance": self._advance,
            "renew": self._renew,
            "register": self._register,
            "sweep": self._sweep,
            "park": self._park,
            "told": self._told,
            "cancel": self._cancel,
            "forget": self._forget,
            "define": self._submit,
            "pause": self._pause,
            "resume": self._resume,
            "retry": self._retry,
            "stage": self._stage,
            "drop": self._drop,
            "vouch": self._vouch,
            "bury": self._bury,
        }
        self._weights = {
            "claim": 4,
            "settle": 5,
            "pick": 3,
            "extend": 3,
            "sweep": 2,
            "cancel": 0,
            "forget": 0,
            "define": 0,
        }

    def run(self, steps: int) -> None:
        """Make so many calls."""
        self._register()
        self._submit()
        often = [name for name in self.steps for _ in range(self._weights.get(name, 1))]
        for _ in range(steps):
            # Rare ones: a run that has ended has nothing more to show.
            name = one_of(self._choose, ("cancel", "forget")) if self._choose(30) == 1 else one_of(self._choose, often)
            self.steps[name]()

    def _call(self, name: str, /, **given: Any) -> Any:
        fault = one_of(self._choose, FAULTS)
        self._pair.be(one_of(self._choose, HOLDERS))
        times = 2 if fault is not Fault.TWICE and self._choose(4) == 1 else 1
        return self._pair.call(name, fault, times, **given)

    def _submit(self) -> None:
        choose = self._choose
        plan = one_of(choose, list(self._plans.values())) if self._plans and choose(3) == 1 else random_plan(choose, 8)
        runs = [f"r{next(self._numbers)}" for _ in range(one_of(choose, (1, 1, 2, 3)))]
        named = [*runs, runs[0]] if choose(5) == 1 else runs
        rows, is_canvas = rows_of(plan), choose(3) == 1
        lowering = lower(plan) if is_canvas else None
        if plan not in self._plans.values() or choose(3) == 1:
            for piece in rows.pieces(1 + choose(5)):
                self._call("define", plan=plan.hash, values=piece)
        if lowering is not None:
            fields = [f"c{lowering.digest}:{name}" for name in lowering.fields]
            pieces = [text for field in zip(fields, lowering.fields.values(), strict=True) for text in field]
            self._call("define", plan=plan.hash, values=[*pieces, f"c{lowering.digest}", "1"])
        self._call(
            "submit",
            runs=named,
            plan=plan.hash,
            name="flow",
            process_id="id",
            queue="main",
            queues=[queue or "main" for queue in rows.queues],
            retention_ms=3_600_000,
            total=len(plan),
            canvas=lowering.digest if lowering else "",
            held=is_canvas and choose(2) == 1,
            parked='{"task": "told"}' if choose(3) == 1 else "",
            asked=[one_of(choose, ("this", "", "")) for _ in named],
            deadline_ms=30_000 if choose(6) == 1 else 0,
            most_open=choose(9) * 4,
            values=[run.encode() for run in named],
        )
        self._plans |= dict.fromkeys(runs, plan)
        if is_canvas:
            self._canvases += runs

    def _claim(self) -> None:
        reply = self._call("claim", **self._drain(), worker="w")
        self._held += reply.claims

    def _pick(self) -> None:
        run = one_of(self._choose, self._canvases or list(self._plans))
        node = self._choose(len(self._plans[run])) if len(self._plans[run]) else 0
        key = f"{node}.{self._choose(4)}" if self._choose(4) == 1 else str(node)
        self._held += self._call("pick", worker="w", run=run, key=key).claims

    def _settle(self) -> None:
        outcomes: list[OutcomeEntry] = []
        for claim in some_of(self._choose, self._held, 3) or self._held[:1]:
            self._tell(claim.run, claim.key, claim.fence, outcomes, fused=False)
            if self._choose(5) != 1:  # else it is told again, too late
                self._held.remove(claim)
        drain = self._drain()
        if self._choose(4) == 1:
            drain["token"] = ""
        reply = self._call("settle", **drain, worker="w", inline=self._choose(5) != 1, outcomes=outcomes)
        self._held += reply.claims

    def _tell(self, run: str, key: str, fence: int, outcomes: list[OutcomeEntry], *, fused: bool) -> None:
        kind = one_of(self._choose, ENDS)
        outcomes.append(
            OutcomeEntry(
                key,
                f"{run}/{key}/{fence}".encode() if kind == "completed" else None,
                run,
                fence,
                kind,
                failure='{"kind":"error"}' if kind in ("failed", "unknown") else "",
                retry=kind == "failed" and self._choose(2) == 1,
                delay_ms=5_000,
                timed_out=self._choose(4) == 1,
                fused=fused,
                alone=self._choose(4) == 1,
                returns=run in self._canvases and self._choose(2) == 1,
            )
        )
        if kind == "completed" and "." not in key:
            for follower in self._plans[run].ahead.get(int(key), ()):
                if self._choose(3):
                    self._tell(run, str(follower), 0, outcomes, fused=True)

    def _extend(self) -> None:
        maps = [claim for claim in self._held if self._opens(claim)]
        if not maps:
            return self._claim()
        claim = one_of(self._choose, maps)
        total, offset = 4, one_of(self._choose, (0, 0, 2))
        items = [f"item {position}".encode() for position in range(offset, total)][: 1 + self._choose(4)]
        if self._choose(6) == 1:
            total, offset, items = 0, 0, []
        self._call("extend", run=claim.run, key=claim.key, fence=claim.fence, offset=offset, total=total, values=items)
        return None

    def _opens(self, claim: Claimed) -> bool:
        return "." not in claim.key and self._plans[claim.run].nodes[int(claim.key)].is_map

    def _advance(self) -> None:
        self._call("advance", run=self._any_run())

    def _renew(self) -> None:
        tokens = [f"{queue} {token}" for queue, token in [("main", "t1"), ("side", "t2"), ("main", "nobody")]]
        leases = [claim.lease for claim in some_of(self._choose, self._held, 4)]
        self._call("renew", leases=leases, tokens=some_of(self._choose, tokens, 2))

    def _register(self) -> None:
        slots = one_of(self._choose, (2, 2, 4, 0))
        self._call("register", worker=one_of(self._choose, ("w", "v")), queues=list(QUEUES), slots=slots)

    def _sweep(self) -> None:
        if self._choose(2) == 1:
            self._pair.go(one_of(self._choose, (1.0, 10.0, LEASE_S / 2, 1.5 * LEASE_S)))
        self._call("sweep", worker="w", every_ms=one_of(self._choose, (0, 0, 600_000)))

    def _park(self) -> None:
        self._call("park", run=self._any_run(), message='{"task": "later"}', replaces=self._choose(2) == 1)

    def _stage(self) -> None:
        self._call("stage", staged="list", offset=self._staged, values=["drop 1", "drop 2"])
        self._staged += 2

    def _told(self) -> None:
        self._call("told", run=self._any_run())

    def _cancel(self) -> None:
        self._call("cancel", run=self._any_run())

    def _forget(self) -> None:
        self._call("forget", run=self._any_run())

    def _pause(self) -> None:
        self._call("pause", run=self._any_run())

    def _resume(self) -> None:
        self._call("resume", run=self._any_run())

    def _retry(self) -> None:
        """Open a run again as the client does: from all that did not complete, or from a node."""
        run = self._any_run()
        nodes = len(self._plans[run]) if run in self._plans else 0
        roots = [Ref(self._choose(nodes))] if nodes and self._choose(3) == 1 else []
        self._call("retry", run=run, roots=roots)

    def _drop(self) -> None:
        letters = [f"{claim.run} {claim.key}" for claim in some_of(self._choose, self._held, 2)]
        self._call("drop", letters=[*letters, f"{self._any_run()} {self._choose(4)}"])

    def _vouch(self) -> None:
        self._call("vouch", holders=some_of(self._choose, [*HOLDERS, "nobody"], 3))

    def _bury(self) -> None:
        """Its claims are taken away; that it goes on nonetheless must not do any harm."""
        holders = some_of(self._choose, [*HOLDERS, "nobody"], 1 + (self._choose(3) == 1))
        tokens = some_of(self._choose, ["main t1", "side t2"], 1)
        self._call("bury", holders=holders, tokens=tokens, crashed=self._choose(2) == 1)

    def _any_run(self) -> str:
        return "nobody" if self._choose(15) == 1 else one_of(self._choose, list(self._plans))

    def _drain(self) -> dict[str, Any]:
        choose = self._choose
        return {
            "token": one_of(choose, ("t1", "t2")),
            "queue": one_of(choose, QUEUES),
            "process": choose(3),
            "thread": choose(3),
            "busy": choose(2),
        }
