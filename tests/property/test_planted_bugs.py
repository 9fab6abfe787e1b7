"""A test that cannot fail is a defect: bugs are planted one at a time, and the property tests must find each."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from flowq.runtime import machine
from tests.property.calls import changed, load
from tests.property.choices import seeded
from tests.property.drive import Drive
from tests.property.graphs import random_plan
from tests.property.twin import random_twin

SEEDS = 400
"""So many examples must be enough for any of them; most need one to five."""


class Bug(NamedTuple):
    """A piece of a script's text, and the wrong one in its place."""

    script: str
    right: str
    wrong: str


SCRIPTS = {
    "a fence is not checked": Bug("lib", "record.fence == fence and fence > 0", "true"),
    "nobody's fence is valid": Bug("lib", "record.fence == fence and fence > 0", "record.fence == fence"),
    "a settled attempt keeps its lease": Bug("settle", "let_go(outcome", "tostring(outcome"),
    "a settled node is settled again": Bug(
        "lib", "if not FINAL[record.status] then\n      if req", "if true then\n      if req"
    ),
    "a failed sink does not count": Bug("lib", "count(run, 'bad_sinks', 1)", "count(run, 'bad_sinks', 0)"),
    "a skip fails what follows": Bug("lib", "skipped = 'skipped',", "skipped = 'upstream_failed',"),
    "an optional upstream is required": Bug("lib", "downstream[position + 1] == 1", "true"),
    "a required upstream is optional": Bug("lib", "downstream[position + 1] == 1", "false"),
    "a key lives for ever": Bug("lib", "':values', ':failures', ':events'}) do", "':values', ':events'}) do"),
    "consequences outlive their run": Bug("lib", "ipairs({':todo', ':due'})", "ipairs({':due'})"),
    "a plan lives for ever": Bug("lib", "'runs', -1) <= 0 then", "'runs', -1) < 0 then"),
    "a plan dies under its runs": Bug("lib", "'runs', -1) <= 0 then", "'runs', -1) <= 1 then"),
    "one crash too many": Bug("lib", "if record.crashes < row[5] then", "if record.crashes <= row[5] then"),
    "one attempt too many": Bug(
        "settle", "record.attempt - record.crashes < row", "record.attempt - record.crashes <= row"
    ),
    "a crash counts as a failure": Bug("settle", "record.attempt - record.crashes < row", "record.attempt < row"),
    "a release counts as an attempt": Bug(
        "lib",
        "record.attempt = record.attempt - 1\n  enqueue(run, key, record, row_of",
        "enqueue(run, key, record, row_of",
    ),
    "a timeout is forgotten": Bug("settle", "outcome.timed_out and 'timed_out' or 'failed'", "'failed'"),
    "a mended failure is kept": Bug("settle", "if record.attempt > 1 then", "if false then"),
    "a value is lost": Bug("settle", "if outcome.value > 0 then", "if outcome.value > 2 then"),
    "a repeated claim takes more": Bug("lib", "if said then", "if false then"),
    "a repeated claim gives what is lost": Bug(
        "lib", "if holds(record, tonumber(fence)) then claims", "if record then claims"
    ),
    "drains share their last reply": Bug("lib", "key_of('claims', header.call)", "key_of('claims', header.token)"),
    "an ended run goes on": Bug(
        "lib",
        "local record = is_open(run) and record_of(run, key)\n  if not",
        "local record = run and record_of(run, key)\n  if not",
    ),
    "a map is settled early": Bug("lib", "if map.settled == map.total then", "if map.settled == map.opened then"),
    "a map goes by its first bad item": Bug("lib", "if map.broken ~= 'failed' then", "if not map.broken then"),
    "a failed item is noticed late": Bug("lib", "if not map.broken then later", "if false then later"),
    "a retried map forgets its items": Bug(
        "settle",
        "record.status, record.fence = 'pending', 0",
        "record.status, record.fence, record.more = 'pending', 0, ''",
    ),
    "a failed map's items go on": Bug("lib", "then record.status = 'cancelled' end", "then end"),
    "a map completes by a word": Bug("settle", "valid = false --", "valid = true --"),
    "items are opened twice": Bug("extend", "for first = 2 + map.opened - header.offset,", "for first = 2,"),
    "items are left out": Bug("extend", "if header.offset > map.opened then return {0, {}} end", ""),
    "any node opens items": Bug("extend", "row[6] == 0 or", ""),
    "a continuation begins anew": Bug("lib", "{node, status, stopped, only}", "{node, status, 0, only}"),
    "a continuation forgets its kind": Bug("lib", "{node, status, stopped, only}", "{node, status, stopped}"),
    "a continuation has no timer": Bug("lib", "call('ZADD', key_of('timers'), now, run.id .. ' todo 0')", ""),
    "the caller is not told to go on": Bug("settle", "unfinished[#unfinished + 1] = id", ""),
    "advance says that it is over": Bug("advance", "and 1 or 0", "and 0 or 0"),
    "an inline node is handed to anybody": Bug("settle", "takes_inline = header.inline", "takes_inline = true"),
    "a fused node is anybody's": Bug(
        "settle", "fuse(run, key)\n  for", "fuse(run, key)\n  do return begin(run, key) end\n  for"
    ),
    "thread nodes are in the wrong lane": Bug("lib", "local lane = row[1] == 'thread' and", "local lane = false and"),
    "an idle drain leaves work behind": Bug(
        "lib",
        "call('ZREM', drains, header.token)\n    touched[header.queue] = true",
        "call('ZREM', drains, header.token)",
    ),
    "nobody is told of new work": Bug("lib", "run.id .. ' ' .. key)\n  touched[queue] = true", "run.id .. ' ' .. key)"),
    "too many are told of new work": Bug("lib", "if free <= 0 then break end", ""),
    "a repeated submit starts again": Bug("submit", "if call('EXISTS', base) == 1 then", "if false then"),
    "a cancel ends an ended run": Bug("cancel", "if is_open(run) then", "if true then"),
    "a lost lease is renewed": Bug(
        "renew", "if not holds(is_open(run) and record_of(run, key), tonumber(fence)) then", "if false then"
    ),
    "a retry never falls due": Bug(
        "sweep", "tonumber(attempt) and record.attempt > 0", "tonumber(attempt) and record.attempt > 1"
    ),
    "something is not forgotten": Bug("forget", "':values', ':failures'", "':failures'"),
}

MACHINE = {
    "a fence is not checked": ("event.fence == node.fence != 0", "True"),
    "nobody's fence is valid": ("event.fence == node.fence != 0", "event.fence == node.fence"),
    "one crash too many": ("node.crashes >= state.spec", "node.crashes > state.spec"),
    "one attempt too many": ("failures < state.spec", "failures <= state.spec"),
    "a crash counts as a failure": ("failures = node.attempt - node.crashes", "failures = node.attempt"),
    "a release counts as an attempt": ("node.attempt -= 1", "pass"),
    "a timeout is forgotten": ("if event.timed_out:", "if False:"),
    "a retry falls due twice": ("if node.attempt == event.attempt and event.attempt > 0:", "if event.attempt > 0:"),
    "an optional upstream is required": ("if required and status is not COMPLETED:", "if status is not COMPLETED:"),
    "a required upstream is optional": ("if required and status is not COMPLETED:", "if False:"),
    "a skip fails what follows": ("SKIPPED: SKIPPED,", "SKIPPED: NodeStatus.UPSTREAM_FAILED,"),
    "a failed sink does not count": ("state.bad_sinks += 1", "pass"),
    "a skipped sink counts": ("status not in (COMPLETED, SKIPPED)", "status is not COMPLETED"),
    "a map is settled early": (
        "node.settled == node.total:\n        yield",
        "node.settled == node.opened:\n        yield",
    ),
    "a map goes by its first bad item": ("if node.broken is not FAILED:", "if node.broken is None:"),
    "a failed map's items go on": ("node.opened if node.settled < node.opened else 0", "0"),
    "a map completes by a word": ("if not _opens_map(state, event.ref):  #", "if True:  #"),
    "items are left out": ("or event.offset > node.opened:", "or False:"),
    "any node opens items": ("not _opens_map(state, event.ref) or", "False or"),
    "a cancelled run goes on": ("state.status = status", "pass"),
}


@pytest.mark.parametrize("bug", SCRIPTS.values(), ids=SCRIPTS)
def test_in_a_script(client: Any, bug: Bug) -> None:
    changes = {bug.script: [(bug.right, bug.wrong)]}
    load(client, changes)  # the piece is there
    seed = first_failure(lambda seed: random_twin(client, seed, changes).run())
    random_twin(client, seed).run()  # it is the bug's doing


@pytest.mark.parametrize(("right", "wrong"), MACHINE.values(), ids=MACHINE)
def test_in_the_machine(right: str, wrong: str) -> None:
    def drive(seed: int, module: ModuleType) -> None:
        choose = seeded(seed)
        Drive(random_plan(choose), choose, cancel=seed % 3 == 0, machine=module).run()

    broken = planted(right, wrong)
    seed = first_failure(lambda seed: drive(seed, broken))
    drive(seed, machine)


def first_failure(example: Callable[[int], None]) -> int:
    """Give the first seed whose example fails, in whatever way."""
    for seed in range(SEEDS):
        try:
            example(seed)
        except Exception:
            return seed
    raise AssertionError(f"the bug is not found in {SEEDS} examples")


def planted(right: str, wrong: str) -> ModuleType:
    """Give the state machine's module with a piece of its text changed."""
    assert machine.__file__ is not None
    module = ModuleType("machine_with_a_bug")
    sys.modules[module.__name__] = module  # dataclasses look their module up
    source = changed(Path(machine.__file__).read_text("utf-8"), [(right, wrong)])
    exec(compile(source, machine.__file__, "exec"), vars(module))  # noqa: S102
    return module
