"""What must hold after any faults, checked from outside: of a run, only what its nodes wrote down themselves (effects)
and what anybody can read of it (its history) count. Pure functions over plain data.

A server that syncs every second may come back without the last writes before it was killed (``kills``). What was
recorded then happens again, and is recorded again. So runs that such a kill has struck may have executions that left no
record; what is recorded in the end must still fit together, without exception.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from tests.chaos.designs import COMPLETED, FAILED, Design, Node
from tests.chaos.effects import Effect
from tests.chaos.flows import MAX_CRASHES
from tests.chaos.history import (
    ACCEPTED_MS,
    CANCELLED,
    CLOCK_MS,
    ENDS,
    FINAL,
    MS,
    PENDING,
    REWOUND_MS,
    RUNNING,
    Case,
    Faults,
    History,
    Limits,
    Output,
    Record,
    Violation,
)

Rule: TypeAlias = Callable[[Case], Iterator[Violation]]
"""Gives what does not hold of one run."""


def check(
    designs: Iterable[Design],
    histories: Mapping[str, History],
    effects: Iterable[Effect],
    faults: Faults,
    limits: Limits,
) -> list[Violation]:
    """Give all that does not hold."""
    by_run: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_run[effect.run].append(effect)
    cases = [Case(design, histories[design.run], by_run[design.run], faults, limits) for design in designs]
    found = [violation for case in cases for rule in rules_for(case) for violation in rule(case)]
    return [*found, *economy(cases, limits)]


def rules_for(case: Case) -> Sequence[Rule]:
    return (is_there, not_lost_for_a_while) if case.history.status not in (COMPLETED, FAILED, CANCELLED) else RULES


def is_there(case: Case) -> Iterator[Violation]:
    """No run is lost, and none is stuck."""
    if not case.history.status:
        yield case.bad("lost", "", "there is no such run any more")
    else:
        open_nodes = [f"{name} {record.status}" for name, record in case.history.nodes.items() if not is_final(record)]
        yield case.bad("stuck", "", f"it is {case.history.status}: {', '.join(open_nodes)}")


def in_time(case: Case) -> Iterator[Violation]:
    """Runs end soon after everything is back."""
    late_s = ((case.history.ended or 0) - max(case.faults.ended, case.history.submitted)) / 1000
    if late_s > max(case.limits.end_s, case.limits.again_s + case.design.takes_s):
        yield case.bad("late", "", f"it ended {late_s:.1f} s after the last fault")


def not_lost_for_a_while(case: Case) -> Iterator[Violation]:
    """What was accepted stays, but for what was accepted in the last moments before the server was killed."""
    for accepted in case.history.vanished:
        if not any(accepted - ACCEPTED_MS <= kill <= accepted + REWOUND_MS for kill in case.faults.kills):
            yield case.bad("lost", "", "it was gone, and the server was not killed just after it was accepted")


def client_was_served(case: Case) -> Iterator[Violation]:
    """Who asks gets an answer, or hears that the server is away."""
    for error in case.history.errors:
        yield case.bad("error", "", error)


def right_status(case: Case) -> Iterator[Violation]:
    """Runs and nodes end as they must; a failure that is not by design is a false one."""
    history, design = case.history, case.design
    wanted = CANCELLED if history.was_cancelled else design.status
    forgot_cancel = history.was_cancelled and case.is_struck and history.status == design.status
    if history.status != wanted and not forgot_cancel:
        kind = "false failure" if history.status == FAILED else "wrong status"
        yield case.bad(kind, "", f"the run is {history.status}, not {wanted}")
    for path, node in design.nodes.items():
        status = case.status(path)
        if status == node.status or (history.status == CANCELLED and status in (CANCELLED, "")):
            continue
        kind = "false failure" if status == FAILED else "wrong status"
        yield case.bad(kind, path, f"it is {status or 'not there'}, not {node.status}")


def one_record(case: Case) -> Iterator[Violation]:
    """A node ends once: in the stream of events, in its record, and whenever one looks."""
    for path, record in case.history.nodes.items():
        ends = [change for _, change in case.changes.get(path, ()) if change.status in FINAL]
        if len(ends) > 1:
            yield case.bad(
                "double record", path, f"it ended {len(ends)} times: {', '.join(end.status for end in ends)}"
            )
        elif ends and ends[0].status != record.status:
            yield case.bad("double record", path, f"its event says {ends[0].status}, its record {record.status}")
        elif not ends and is_final(record) and case.history.status != CANCELLED:
            yield case.bad("double record", path, f"it is {record.status}, and no event says so")
        before = case.history.first.get(path)
        if before is not None and before != record and is_final(before) and not case.is_struck:
            yield case.bad("double record", path, f"its record was {before}, and is {record}")


def right_output(case: Case) -> Iterator[Violation]:
    """What is recorded is what an execution gave that really ended, the latest one, and what the graph says."""
    for path, node in case.design.nodes.items():
        output, record = case.history.outputs.get(path), case.history.nodes.get(path)
        if record is None or record.status != COMPLETED:
            continue
        if output is None:
            yield case.bad("wrong output", path, "it has completed, and has no output")
        elif not node.has_body:
            yield from _right_parts(case, path, output)
        else:
            if output.core != node.core:
                yield case.bad("wrong output", path, f"its core is {output.core}, not {node.core}")
            ended = [end for end in case.ends.get(path, ()) if end.what == "end"]
            own = [end for end in ended if end.nonce == output.nonce]
            if not own or own[0].digest != output.digest:
                yield case.bad("stale output", path, f"no execution that ended gave {output}")
            elif not own[0].attempt == output.attempt == record.attempt:
                yield case.bad("stale output", path, f"{output} is of attempt {own[0].attempt}; recorded is {record}")
            latest = max((end.attempt for end in ended), default=0)
            if latest > output.attempt and not case.is_struck:
                yield case.bad("stale output", path, f"it is of attempt {output.attempt}; attempt {latest} ended too")


def _right_parts(case: Case, path: str, output: Output) -> Iterator[Violation]:
    for name, digest in output.parts.items():
        part = f"{path}[{name}]" if name.isdigit() else name
        of_part = case.history.outputs.get(part)
        if digest != (of_part.digest if of_part else None):
            yield case.bad("wrong output", path, f"its {name!r} is not what {part!r} gave")


def effects_happened(case: Case) -> Iterator[Violation]:
    """What is recorded as done was done; what must not run did not."""
    for path, node in case.design.nodes.items():
        status = case.status(path)
        if not node.has_body:
            continue
        ends = [end for end in case.ends.get(path, ()) if ENDS[end.what] == status]
        if status in ENDS.values() and not ends:
            yield case.bad("no effect", path, f"it is {status}, and no execution of it ended so")
        if node.executions == 0 and case.starts.get(path):
            yield case.bad("early start", path, f"it ran, though it is to be {node.status}")


def in_order(case: Case) -> Iterator[Violation]:
    """A node starts when its required upstreams are recorded as completed, and its optional ones as settled."""
    for path, node in case.design.nodes.items():
        for upstream in (*node.required, *node.optional):
            record = case.history.nodes.get(upstream, Record(""))
            changes = case.changes.get(path, ())
            began = next((position for position, change in changes if change.status == RUNNING), None)
            ended = [position for position, change in case.changes.get(upstream, ()) if change.status in FINAL]
            if began is not None and not (ended and ended[0] < began):
                yield case.bad("early start", path, f"its claim is recorded before {upstream!r} is settled")
            for start in case.starts.get(path, ()):
                strict = not node.is_fused and (case.is_recorded(start) or not case.is_struck)
                if strict and upstream in node.required and record.status != COMPLETED:
                    yield case.bad("early start", path, f"it started, and {upstream!r} is {record.status or 'open'}")
                elif not _was_settled(case, upstream, start, record if strict else None):
                    yield case.bad("early start", path, f"attempt {start.attempt} started before {upstream!r} settled")


def _was_settled(case: Case, upstream: str, start: Effect, record: Record | None) -> bool:
    if record is not None:
        return record.ended is not None and start.at // MS >= record.ended - CLOCK_MS
    ends = case.ends.get(upstream, ())
    return not case.design.nodes[upstream].has_body or any(end.at <= start.at for end in ends)


def right_inputs(case: Case) -> Iterator[Violation]:
    """A node sees what is recorded of its upstreams, to the byte."""
    for path, node in case.design.nodes.items():
        for start in case.starts.get(path, ()):
            if start.seen.keys() != node.sees.keys():
                yield case.bad("wrong input", path, f"it saw {sorted(start.seen)}, not {sorted(node.sees)}")
                continue
            strict = case.is_recorded(start) or not (case.is_struck or node.is_fused)
            for name, upstream in node.sees.items():
                if start.seen[name] == _recorded(case, upstream):
                    continue
                given = {end.digest for end in case.ends.get(upstream.partition("#")[0], ())}
                if strict or not (start.seen[name] in given or "#" in upstream):
                    what = f"attempt {start.attempt} saw {start.seen[name]} of {upstream!r}"
                    yield case.bad("wrong input", path, f"{what}; recorded is {_recorded(case, upstream)}")


def _recorded(case: Case, upstream: str) -> str | None:
    path, _, part = upstream.partition("#")
    output = case.history.outputs.get(path)
    if output is None or case.status(path) != COMPLETED:
        return None
    return output.parts.get(part) if part else output.digest


def within_policy(case: Case) -> Iterator[Violation]:
    """Attempts are as many as the policy says, and wait as long."""
    for path, node in case.design.nodes.items():
        record = case.history.nodes.get(path, Record(""))
        retries = [change.attempt for _, change in case.changes.get(path, ()) if change.status == PENDING]
        if len(retries) > node.max_attempts - 1:
            yield case.bad("attempts", path, f"{len(retries)} retries; its policy has {node.max_attempts - 1}")
        if record.status == FAILED == node.status and len(retries) < node.max_attempts - 1:
            yield case.bad("attempts", path, f"it gave up after {len(retries)} retries of {node.max_attempts - 1}")
        if record.attempt > node.max_attempts + MAX_CRASHES:
            yield case.bad("attempts", path, f"{record.attempt} attempts")
        if not case.is_struck:
            yield from _waited(case, path, node, retries)


def _waited(case: Case, path: str, node: Node, retries: Sequence[int]) -> Iterator[Violation]:
    for number, attempt in enumerate(retries):
        wait = int(node.delay_s * 2**number * 1000)
        failed = [end.at for end in case.ends.get(path, ()) if end.what == "fail" and end.attempt == attempt]
        again = [start.at for start in case.starts.get(path, ()) if start.attempt == attempt + 1]
        if failed and again and (min(again) - min(failed)) // MS < wait - CLOCK_MS:
            yield case.bad("attempts", path, f"attempt {attempt + 1} did not wait {wait} ms")


def claimed_first(case: Case) -> Iterator[Violation]:
    """An execution is one of a claim that is recorded; so none is claimed after its run's end."""
    for path, starts in case.starts.items():
        node = case.design.nodes.get(path)
        if node is None:
            yield case.bad("wrong input", path, "there is no such node")
            continue
        claimed = {change.attempt for _, change in case.changes.get(path, ()) if change.status == RUNNING}
        for start in starts:
            if start.attempt not in claimed and not node.is_fused and not case.is_struck:
                yield case.bad("unclaimed", path, f"attempt {start.attempt} started, and no claim of it is recorded")


def nothing_after_the_end(case: Case) -> Iterator[Violation]:
    """Nothing starts once its run has ended, cancelled or not, but what was claimed just before."""
    ended = case.history.ended or 0
    for path, starts in case.starts.items():
        for start in starts:
            at = start.at // MS
            if at <= ended + case.limits.stop_s * 1000 or case.is_struck:
                continue
            if not any(pause.began <= ended <= at and at >= pause.ended for pause in case.faults.pauses):
                yield case.bad(
                    "late start", path, f"attempt {start.attempt}, {(at - ended) / 1000:.1f} s after the end"
                )


def economy(cases: Sequence[Case], limits: Limits) -> Iterator[Violation]:
    """Faults repeat a few executions only. Cancelled runs and doomed ones do not count: they may end anywhere."""
    done, needed = executions(cases)
    if needed and done > limits.executions * needed:
        yield Violation("executions", "", "", f"{done} executions where {needed} are needed: {done / needed:.3f}")


def executions(cases: Sequence[Case]) -> tuple[int, int]:
    """Give how many there were, and how many are needed."""
    whole = [case for case in cases if case.history.status == COMPLETED]
    done = sum(len(starts) for case in whole for starts in case.starts.values())
    needed = sum(node.executions for case in whole for node in case.design.nodes.values() if node.has_body)
    return done, needed


def is_final(record: Record) -> bool:
    return record.status in FINAL


def count(violations: Iterable[Violation]) -> Counter[str]:
    return Counter(violation.kind for violation in violations)


RULES: Sequence[Rule] = (
    in_time,
    not_lost_for_a_while,
    client_was_served,
    right_status,
    one_record,
    right_output,
    effects_happened,
    in_order,
    right_inputs,
    within_policy,
    claimed_first,
    nothing_after_the_end,
)
