"""What must hold of every story. The oracles read the history alone: not the store, nor anything of a worker.

They follow the history event by event. Where the store comes back without its last second, so does what they know of
it; what has happened in the world outside (effects, deaths, fences that were given out) stays.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

from flowq.core.types import FINAL, FlowStatus, NodeStatus
from flowq.plan import Plan
from flowq.runtime.events import Ref
from flowq.runtime.reopening import Reopened
from tests.chaos.simulation import history as word
from tests.chaos.simulation.history import Event

COMPLETED, FAILED, SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
UPSTREAM_FAILED, CANCELLED = NodeStatus.UPSTREAM_FAILED, NodeStatus.CANCELLED


SLACK_US = 30_000_000
"""A run that is not disturbed has ended so long after its deadline."""


class Broken(AssertionError):
    """A story that is not as it must be."""


class Known:
    """What is recorded of one run."""

    def __init__(self, plan: Plan, overdue: int) -> None:
        self.plan, self.overdue = plan, overdue
        """When its deadline is; 0: it has none."""
        self.paused = self.overran = False
        self.recorded: dict[Ref, NodeStatus] = {}
        self.values: dict[Ref, Any] = {}
        self.active: dict[Ref, tuple[int, str]] = {}
        """Claims that hold: fence and holder."""
        self.fences: dict[Ref, int] = {}
        """The last one."""
        self.ran: dict[Ref, None] = {}
        """What was claimed, since the run was opened last."""
        self.failures: dict[Ref, int] = {}
        self.crashes: dict[Ref, int] = {}
        self.due: dict[Ref, int] = {}
        """When another attempt may begin."""
        self.endings: dict[Ref, str] = {}
        """Of the last attempt that counted."""
        self.ended: FlowStatus | None = None

    def copied(self) -> Known:
        made = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, dict):
                setattr(made, name, dict(value))
        return made


class Judge:
    """Follows one history.

    Args:
        plans: by run.
        deadlines: by run, in microseconds; 0: none.
        lease: how long a holder that is not heard of keeps its claims, in microseconds.
        patience: an attempt whose claim is lost is stopped within this time, if no fault strikes; None: at some time.
        cancelled: runs that somebody may have cancelled.
    """

    def __init__(
        self,
        plans: Mapping[str, Plan],
        deadlines: Mapping[str, int],
        lease: int,
        patience: int | None,
        cancelled: Iterable[str],
    ) -> None:
        self.plans, self.deadlines, self.lease, self.cancelled = plans, deadlines, lease, frozenset(cancelled)
        self.patience = patience
        self.runs: dict[str, Known] = {}
        self.saved: dict[str, Known] = {}
        self.given: set[tuple[str, Ref, int]] = set()
        """All fences that any worker has ever been given, by run."""
        self.claims: dict[tuple[str, Ref, int], str] = {}
        """All claims, with their holders."""
        self.effects: set[tuple[str, Any]] = set()
        """All attempts that were completed: run and value."""
        self.ends: set[tuple[str, FlowStatus]] = set()
        """All ends that ever were recorded."""
        self.contacts: dict[str, list[int]] = {}
        self.endings: dict[tuple[str, Ref, int], str] = {}
        """Of all attempts that came to one."""
        self.dead: set[str] = set()
        self.frozen: set[str] = set()
        """Those that ever were."""
        self.doubtful: set[str] = set()
        """Those that cannot know all that they hold."""
        self.stopped: set[tuple[str, Ref, int]] = set()
        """Attempts that were."""
        self.void: dict[tuple[str, Ref, int], int] = {}
        """Claims that do not count any more, and since when."""
        self.has_lost = self.has_rewound = self.has_faults = False
        """The store has lost what it had said."""
        self.now = self.saved_at = 0
        self._rules: dict[str, Callable[..., None]] = {
            word.SUBMITTED: self._submitted,
            word.CLAIMED: self._claimed,
            word.FUSED: self._fused,
            word.SETTLED: self._settled,
            word.TAKEN: self._taken,
            word.RECORDED: self._recorded,
            word.ENDED: self._ended,
            word.OVERRUN: self._overrun,
            word.PAUSED: self._paused,
            word.RESUMED: self._resumed,
            word.RETRIED: self._retried,
            word.LOST: self._missed,
            word.STOPPED: self._stopped,
            word.FAULT: self._fault,
            word.STARTED: self._started,
            word.FINISHED: self._finished,
            word.CONTACT: self._contact,
            word.GONE: self._gone,
            word.LEFT: self._left,
            word.DOUBT: self._doubted,
            word.GREEDY: self._greedy,
            word.FROZEN: self._frozen,
            word.UNSURE: self._unsure,
            word.SAVED: self._save,
            word.REWOUND: self._rewind,
            word.EMPTIED: self._empty,
        }

    def follow(self, history: Iterable[Event]) -> None:
        """Raise Broken at the first thing that must not have happened."""
        rules = self._rules
        for event in history:
            rule = rules.get(event[0])
            if rule is not None:
                self.now = event[1]
                try:
                    rule(*event[2:])
                except Broken as broken:
                    raise Broken(f"at {self.now / 1_000_000:.6f} s: {broken}") from None

    def check_end(self, run: str, seen: FlowStatus | None) -> None:
        """See that a run has ended, and that its client was told so."""
        known = self.runs.get(run)
        _need(known is None or known.ended is not None, f"{run} has not ended")
        _need((run, seen) in self.ends, f"{run} ended as {self.ends}, but its client was told of {seen}")

    # ── one rule per kind of event

    def _submitted(self, run: str) -> None:
        _need(run not in self.runs, f"{run} is started twice")
        deadline = self.deadlines[run]
        self.runs[run] = Known(self.plans[run], deadline and self.now + deadline)
        self.given = {given for given in self.given if given[0] != run}

    def _claimed(self, run: str, ref: Ref, fence: int, holder: str, attempt: int, inputs: dict[int, Any]) -> None:
        _need(not self.runs[run].paused, f"{run} {ref.key} is claimed while its run is paused")
        self._fused(run, ref, fence, holder, attempt, inputs)

    def _fused(self, run: str, ref: Ref, fence: int, holder: str, attempt: int, inputs: dict[int, Any]) -> None:
        known, name = self.runs[run], f"{run} {ref.key}"
        is_late = known.overdue and not self.has_faults and self.now > known.overdue + SLACK_US
        _need(not is_late, f"{name} is claimed long after the deadline of its run")
        _need(known.ended is None, f"{name} is claimed after the end of its run")
        _need(ref not in known.recorded, f"{name} is claimed though it is settled")
        _need(ref not in known.active, f"{name} is claimed twice: {known.active.get(ref)} holds it")
        _need((run, ref, fence) not in self.given, f"{name}: fence {fence} is given out twice")
        _need(fence > known.fences.get(ref, 0), f"{name}: fence {fence} is no higher than the last one")
        self.given.add((run, ref, fence))
        self.claims[run, ref, fence] = holder
        known.fences[ref], known.active[ref], known.ran[ref] = fence, (fence, holder), None
        node = known.plan.nodes[ref.node]
        for edge in node.edges:
            upstream = Ref(edge.upstream)
            status = known.recorded.get(upstream)
            _need(status in FINAL, f"{name} is claimed before its upstream {upstream.key} is settled")
            _need(status is COMPLETED or not edge.required, f"{name} is claimed, but {upstream.key} is {status}")
            given, recorded = inputs.get(edge.upstream), known.values.get(upstream)
            _need(given == recorded, f"{name} gets {given} of {upstream.key}; recorded is {recorded}")
        before = known.failures.get(ref, 0) + known.crashes.get(ref, 0)
        _need(attempt == before + 1, f"{name}: attempt {attempt}, after {before} that count")
        _need(self.now >= known.due.get(ref, 0), f"{name}: attempt {attempt} does not wait")

    def _settled(self, run: str, ref: Ref, fence: int, kind: str, value: Any, delay: int) -> None:
        known, name = self.runs[run], f"{run} {ref.key}"
        _need(known.ended is None, f"an outcome of {name} counts after the end of its run")
        held = known.active.pop(ref, None)
        _need(held is not None and held[0] == fence, f"an outcome of {name} under {fence} counts; {held} holds it")
        if kind in ("completed", "failed", "skipped"):
            is_stopped = (run, ref, fence) in self.stopped and not self.has_lost
            _need(not is_stopped, f"{name} is {kind} under {fence}, though that attempt was stopped")
        if kind == "completed":
            _need(fence == known.fences[ref], f"{name} is completed under {fence}, after {known.fences[ref]}")
            _need((run, value) in self.effects, f"{name} is completed with {value}, which no attempt has given")
            known.values[ref] = value
        elif kind == "failed":
            known.due[ref] = self.now + delay
            known.endings[ref] = self.endings.get((run, ref, fence), "")
            failures = known.failures[ref] = known.failures.get(ref, 0) + 1
            most = known.plan.nodes[ref.node].retry.max_attempts
            _need(failures <= most, f"{name} has failed {failures} times; its policy is {most}")

    def _taken(self, run: str, ref: Ref, fence: int, holder: str, why: str) -> None:
        known, name = self.runs[run], f"{run} {ref.key}"
        held = known.active.pop(ref, None)
        self.void[run, ref, fence] = self.now
        _need(held is not None and held[0] == fence, f"a claim on {name} is taken away that nobody held")
        if why == "expired":
            contacts = self.contacts.get(holder, [])
            silence = self.now - contacts[bisect_right(contacts, self.now) - 1] if contacts else self.lease
            _need(silence >= self.lease, f"{name} expired, but {holder} was heard {silence / 1_000_000:.3f} s before")
        elif why == "buried":
            _need(holder in self.dead, f"{name} was buried with {holder}, which lives")
        if why in ("expired", "forgotten") and self._is_well(holder):
            done = self.endings.get((run, ref, fence))
            _need(done is None, f"{name} was {done} under {fence}, which {holder}, alive and well, did not store")
        if why in ("expired", "buried"):
            known.endings[ref] = "lost"
            crashes = known.crashes[ref] = known.crashes.get(ref, 0) + 1
            most = known.plan.nodes[ref.node].max_crashes
            _need(crashes <= most, f"{name} has crashed {crashes} times of at most {most}")

    def _recorded(self, run: str, ref: Ref, status: NodeStatus) -> None:
        known, name = self.runs[run], f"{run} {ref.key}"
        _need(known.ended is None, f"{name} is {status} after the end of its run")
        _need(ref not in known.recorded, f"{name} is recorded twice: {known.recorded.get(ref)}, then {status}")
        _need(status in FINAL, f"{name} is recorded as {status}")
        known.recorded[ref] = status
        if ref in known.active:
            self.void[run, ref, known.active.pop(ref)[0]] = self.now
        node = known.plan.nodes[ref.node]
        is_map = node.over is not None and ref.item < 0
        required = [known.recorded.get(Ref(edge.upstream)) for edge in node.edges if edge.required]
        if is_map and status in (COMPLETED, SKIPPED):
            bad = [end for item, end in known.recorded.items() if item.node == ref.node and item.item >= 0]
            _need(FAILED not in bad and CANCELLED not in bad, f"{name} is {status}, its items: {bad}")
        if status is COMPLETED:
            _need(is_map or ref in known.values, f"{name} is completed without an outcome")
            _need(all(upstream is COMPLETED for upstream in required), f"{name} is completed, upstreams: {required}")
        elif status is UPSTREAM_FAILED:
            _need(ref not in known.ran, f"{name} has run, and is {status}")
            reasons = (FAILED, UPSTREAM_FAILED)
            _need(self._has_upstream(known, ref, reasons), f"{name} is {status}, upstreams: {required}")
        elif status is FAILED and not is_map:
            ending = known.endings.get(ref)
            spent = known.crashes.get(ref, 0) == node.max_crashes if ending == "lost" else ending == "fatal"
            spent = spent or known.failures.get(ref, 0) == node.retry.max_attempts or self._may_be_fused(known, ref)
            _need(spent, f"{name} has failed, but its attempts are not spent")
        elif status is SKIPPED and ref not in known.ran:
            _need(self._has_upstream(known, ref, (SKIPPED,)), f"{name} is skipped, upstreams: {required}")

    def _ended(self, run: str, status: FlowStatus) -> None:
        known = self.runs[run]
        _need(known.ended is None, f"{run} ends twice")
        known.ended = status
        self.ends.add((run, status))
        left = [ref.key for ref in map(Ref, range(len(known.plan))) if ref not in known.recorded]
        _need(not left, f"{run} ends as {status} without {left}")
        _need(known.overran == (status is FlowStatus.FAILED) or not known.overran, f"{run} overran, and is {status}")
        if known.overran:
            pass
        elif status is FlowStatus.CANCELLED:
            _need(run in self.cancelled, f"{run} is cancelled by nobody")
        else:
            sinks = [known.recorded[Ref(sink)] for sink in known.plan.sinks]
            good = all(sink in (COMPLETED, SKIPPED) for sink in sinks)
            _need(good == (status is FlowStatus.COMPLETED), f"{run} ends as {status}, its sinks: {sinks}")

    def _overrun(self, run: str) -> None:
        known = self.runs[run]
        _need(known.overdue > 0 and self.now >= known.overdue, f"{run} is ended by a deadline before its time")
        known.overran = True

    def _paused(self, run: str) -> None:
        self.runs[run].paused = True

    def _resumed(self, run: str) -> None:
        self.runs[run].paused = False

    def _retried(self, run: str, roots: tuple[Ref, ...], opened: Reopened) -> None:
        known = self.runs[run]
        _need(known.ended is not None, f"{run} is opened again before it has ended")
        anew = {*opened.anew, *opened.dropped}
        for ref, status in known.recorded.items():
            is_taken = ref.item >= 0 and Ref(ref.node) in anew
            if not roots and status in (FAILED, UPSTREAM_FAILED, CANCELLED):
                _need(ref in anew or is_taken, f"{run} is retried without {ref.key}, which is {status}")
            if status is COMPLETED and ref in anew:
                _need(self._is_undone(known, ref, anew, roots), f"{run} is retried, and {ref.key} had completed")
        for ref in anew:
            for of_run in (known.recorded, known.values, known.failures, known.crashes, known.due, known.endings):
                of_run.pop(ref, None)
        for ref in anew - {Ref(item.node) for item in opened.anew if item.item >= 0}:  # such maps are open already
            known.ran.pop(ref, None)
        known.active.clear()
        known.ended, known.overdue, known.overran, known.paused = None, 0, False, False

    def _is_undone(self, known: Known, ref: Ref, anew: set[Ref], roots: tuple[Ref, ...]) -> bool:
        """Whether there is a reason for a retry to run what had completed again."""
        chosen = {root.node for root in roots}
        above = {edge.upstream for edge in known.plan.nodes[ref.node].edges}
        return ref.node in chosen or any(Ref(upstream) in anew for upstream in above) or ref.item >= 0

    def _missed(self, run: str, is_lost: bool) -> None:
        _need(self.has_lost, f"{run} is gone, and the store has lost nothing")
        _need(is_lost or self.has_rewound, f"{run} is lost with the store's data, and nobody is told so")

    def _stopped(self, run: str, ref: Ref, fence: int) -> None:
        self.stopped.add((run, ref, fence))

    def _fault(self, text: str) -> None:
        self.has_faults = True

    def _started(self, run: str, ref: Ref, fence: int, process: str) -> None:
        if fence > 0:
            holder = self.claims.get((run, ref, fence))
            _need(holder == process, f"{process} starts {run} {ref.key} under {fence}, a claim of {holder}")

    def _finished(self, run: str, ref: Ref, fence: int, process: str, ending: str, value: Any) -> None:
        if value is not None:
            self.effects.add((run, value))
        if fence > 0:
            self.endings[run, ref, fence] = ending
            if self.patience is not None and not self.has_faults and not self.has_lost:
                since = self.now if (run, ref, fence) in self.stopped else self.void.get((run, ref, fence), self.now)
                _need(since >= self.now - self.patience, f"{run} {ref.key} goes on under {fence}, and nobody stops it")

    def _contact(self, holder: str) -> None:
        self.contacts.setdefault(holder, []).append(self.now)

    def _gone(self, holder: str) -> None:
        self.dead.add(holder)

    def _doubted(self, holder: str) -> None:
        self.doubtful.add(holder)

    def _left(self, holder: str) -> None:
        if holder in self.doubtful:
            return
        for run, known in self.runs.items():
            held = [ref.key for ref, (_, other) in known.active.items() if other == holder]
            _need(not held or self.has_lost or known.ended is not None, f"{holder} leaves, and holds {run} {held}")

    def _greedy(self, holder: str) -> None:
        raise Broken(f"{holder} asks for claims, though it is to end")

    def _unsure(self, text: str) -> None:
        raise Broken(text)

    def _frozen(self, holder: str) -> None:
        self.frozen.add(holder)

    def _is_well(self, holder: str) -> bool:
        """Nothing is known of a process that would excuse it."""
        return holder not in self.dead and holder not in self.frozen and not self.has_lost

    def _save(self) -> None:
        self.saved = {run: known.copied() for run, known in self.runs.items()}
        self.saved_at = self.now

    def _rewind(self) -> None:
        self.has_lost = self.has_rewound = True
        self.runs = {run: known.copied() for run, known in self.saved.items()}
        for holder, contacts in self.contacts.items():
            self.contacts[holder] = contacts[: bisect_right(contacts, self.saved_at)]

    def _empty(self) -> None:
        self.has_lost = True
        self.runs = {}

    def _may_be_fused(self, known: Known, ref: Ref) -> bool:
        """A fused node's own attempts have no fence yet when they end."""
        return ref.item < 0 and any(ref.node in followers for followers in known.plan.ahead.values())

    def _has_upstream(self, known: Known, ref: Ref, statuses: tuple[NodeStatus, ...]) -> bool:
        """Whether a required upstream, or an item of one, has ended in one of these ways."""
        upstreams = {edge.upstream for edge in known.plan.nodes[ref.node].edges if edge.required}
        return any(status in statuses and other.node in upstreams for other, status in known.recorded.items())


def _need(holds: bool, problem: str) -> None:
    if not holds:
        raise Broken(problem)
