"""Bugs to plant, one at a time, in copies of the modules under test."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, TypeAlias

from tests.chaos.simulation import claims, control, delivery
from tests.chaos.simulation.world import Parts

_numbers = itertools.count()


Texts: TypeAlias = dict[str, tuple[str, ...]]
"""By the bug's name: its two texts, and what goes wrong besides."""


class Bug(NamedTuple):
    """A piece of a module's text, and the wrong one in its place."""

    part: str
    right: str
    wrong: str
    kinds: tuple[str, ...] = ()
    """What goes wrong in all its seeds: few others would show it."""


MACHINE: Texts = {
    "a fence is not checked": ("event.fence == node.fence != 0", "True"),
    "a settled node is settled again": ("if node.status in FINAL:\n            continue", "pass"),
    "fences go on from the last one alone": ("event.fence or state.fence + 1", "state.fence + 1"),
    "a restart uses fences again": (
        "state.fence = max(event.fence or state.fence + 1, state.fence)",
        "state.fence = 7",
    ),
    "a lost claim is not enqueued again": (
        "node.status, node.fence = READY, 0\n        commands.append(Enqueue(event.ref))",
        "node.fence = 0",
    ),
    "a release counts an attempt": ("node.attempt -= 1", "pass"),
    "a release enqueues nothing": ("node.attempt -= 1\n    commands.append(Enqueue(event.ref))", "node.attempt -= 1"),
    "a crash is not counted": ("node.crashes += 1", "pass"),
    "one attempt too many": ("failures < state.spec", "failures <= state.spec"),
    "an optional upstream is not waited for": (
        "downstream.waiting == 0:",
        "downstream.waiting <= 1 and not required:",
    ),
    "a required upstream is optional": ("if required and status is not COMPLETED:", "if False:"),
    "a failed sink does not count": ("state.bad_sinks += 1", "pass"),
}

DELIVERY: Texts = {
    "nobody is told of a list that fills again": (
        "append((stored.id, ref))\n        self._touched.add(queue)",
        "append((stored.id, ref))",
    ),
    "lost wake-ups are not sent again": ("in drains.items() if expires <= self.now]", "in drains.items() if False]"),
    "what is ready of a paused run is forgotten": ("stored.aside[ref] = None\n            return", "return"),
}

CLAIMS: Texts = {
    "an ended drain leaves its work behind": (
        "self._touched.add(queue)\n        if listens:",
        "if listens:",
    ),
    "dead holders keep their claims": (
        "if expires <= self.now:\n                del self.holders",
        "if False:\n                del self.holders",
    ),
    "holders expire early": (
        "self.holders[holder] = self.now + self.lease\n",
        "self.holders[holder] = self.now + self.lease // 4\n",
    ),
    "nobody gets time after a silence": ("if last < 0 or self.now - last", "if False and self.now - last"),
    "nobody gets time before the first sweep": (
        "if last < 0 or self.now",
        "if last >= 0 and self.now",
        "the store is away",
    ),
    "a paused run is claimed": ("if stored.paused:", "if False:"),
    "a paused run's list is emptied": ("stored.aside[ref] = None", "pass"),
}

CONTROL: Texts = {
    "a resumed run stays where it was": ("for ref in aside:", "for ref in ():"),
    "resume tells nobody": (
        "self._enqueue(stored, ref)\n        return Changed(stored.state.status, self._wake_ups(call))",
        "self._enqueue(stored, ref)\n        self._touched.clear()\n"
        "        return Changed(stored.state.status, self._wake_ups(call))",
    ),
    "a retry asks for nothing": ("for ref in opened.ready:", "for ref in ():"),
    "a retry opens an open run": (
        "not stored.state.status.is_final or stored.ended != ended",
        "stored.ended != ended and not stored.ended < 0",
    ),
    "a retry keeps old values": ("stored.values.pop(ref, None)", "pass"),
    "the epoch is that of the call": (
        ' {self.now}"  # a call that',
        '"  # a call that',
        "the store is emptied",
        "lost replies",
    ),
    "a submit starts a run anew": ("if run not in self.runs:", "if True:", "late calls", "lost replies"),
}

STORE: Texts = {
    "a timer is dropped": ("if due <= self.now or not is_open:", "if True:"),
    "a timer never falls due": ("if due <= self.now and is_open", "if False and is_open"),
    "a deadline is missed": (
        "if ref == DEADLINE:",
        "if ref == DEADLINE:\n            pass\n        elif ref is None:",
        "deadlines",
    ),
    "a repeated call claims more": ("if last == number:  # the reply was lost", "if False:"),
    "a call that comes too late claims": ("if last > number:", "if False:"),
    "a repeated call gives nothing": ("self._hand_again(args[0], reply.claims)", "[]"),
    "what a process forgot is kept for it": ("made <= self.now - self.lease and", "False and"),
    "what a process did not name once is lost": ("self.unnamed.setdefault(lease, call) != call", "True"),
    "a burial leaves the claims": (
        'self._take(holder, lease, "buried" if crashed else "handed back", crashed=crashed)',
        "pass",
    ),
    "a renewal renews nothing": ("self._touch(holder)\n        own, lost", "own, lost"),
    "nobody hears of lost claims": ("lost.append(position)", "pass", "a cancel"),
}

REOPENING: Texts = {
    "a retry leaves what is downstream": ("if index not in again:", "if False:"),
    "a retry waits for nothing": ("node.waiting = sum(", "node.waiting = 0 * sum("),
    "a retry waits for what is kept": ("edge.upstream in reopened for edge", "True for edge"),
    "a retry counts bad sinks twice": ("state.bad_sinks = sum(", "state.bad_sinks += sum("),
    "a retry counts too few": ("state.remaining = len(reopened)", "state.remaining = len(again)"),
    "a retry counts a map's items anew": (
        "node.settled = sum(status in FINAL for status in ends)",
        "node.settled = 0",
    ),
}

DRAIN: Texts = {
    "a drain ends before it was told to": (
        "elif self._over:",
        "else:\n                return\n            if self._over:",
    ),
    "a drain that closes goes on claiming": ("0 if self._closing() or self._keeping.is_puzzled else int(", "int("),
    "what a listener is given is lost": (
        "if not following.claims:\n            yield from follow_up",
        "if True:\n            yield from follow_up",
    ),
    "a listener is content with nothing": (
        "            return (yield from self._claim())\n        yield from self._found",
        "            return following\n        yield from self._found",
    ),
    "threads are not counted": ("self._busy = waiting + self.threads", "self._busy = waiting"),
}

KEEPING: Texts = {
    "an ended drain's messages are not sent": ("if following.messages:", "if following.claims:"),
    "claims are not held": ("yield Hold(following.claims)", "pass"),
    "claims are kept for ever": ("        yield Drop(claims)\n", "        yield Drop([])\n"),
    "an outcome is tried but once": ("yield Pause(AGAIN_S)", "return Next([], [])"),
    "a claim is let go before its outcome is stored": (
        "        following = yield from self._store(ended,",
        "        yield Drop(claims)\n        following = yield from self._store(ended,",
        "late calls",
    ),
    "a claim is let go while it is on its way to the store": (
        "claims, ended = work.take_done()\n        asked",
        "claims, ended = work.take_done()\n        yield Drop(claims)\n        asked",
        "late calls",
        "lost replies",
    ),
    "what was on its way is not tried again": (
        "self._store(posted.ended,",
        "self._store(Ended([]),",
        "the store is away",
    ),
    "what came of what was on its way is not begun": (
        "            return (yield from self._receive(work, posted, ask))",
        "            yield from self._receive(work, posted, ask)\n            return Next([], [])",
    ),
    "what was not begun is forgotten": ("joined([ended, back])\n        work", "ended\n        work"),
    "what waits behind an attempt is forgotten": (
        "Settle(ended.entries, inline=False",
        "Settle([], inline=False",
    ),
}

OF_PART: dict[str, Texts] = {
    "machine": MACHINE,
    "delivery": DELIVERY,
    "claims": CLAIMS,
    "control": CONTROL,
    "store": STORE,
    "keeping": KEEPING,
    "drain": DRAIN,
    "reopening": REOPENING,
}

BUGS = {
    name: Bug(part, texts[0], texts[1], texts[2:]) for part, bugs in OF_PART.items() for name, texts in bugs.items()
}

CHAINS = (("delivery", "claims", "control", "store"), ("keeping", "drain"))
"""Modules that are made of those before them; the last one is a part."""

MODULES = {
    **Parts()._asdict(),
    "delivery": delivery,
    "claims": claims,
    "control": control,
}


def planted(bug: Bug) -> Parts:
    """Give the modules with one bug."""
    made = {bug.part: _changed(MODULES[bug.part], {bug.right: bug.wrong})}
    for chain in CHAINS:
        if bug.part in chain:
            position = chain.index(bug.part)
            for before, name in itertools.pairwise(chain[position:]):
                old = f"from {MODULES[before].__name__} import"
                new = f"from {made[before].__name__} import"
                made[name] = _changed(MODULES[name], {old: new})
    return Parts()._replace(**{name: module for name, module in made.items() if name in Parts._fields})


def _changed(module: ModuleType, texts: dict[str, str]) -> ModuleType:
    assert module.__file__ is not None
    text = Path(module.__file__).read_text("utf-8")
    for right, wrong in texts.items():
        assert text.count(right) == 1, f"{text.count(right)} times in {module.__name__}: {right!r}"
        text = text.replace(right, wrong)
    made = ModuleType(f"{module.__name__.rpartition('.')[2]}_with_bug_{next(_numbers)}")
    sys.modules[made.__name__] = made  # dataclasses look their module up
    exec(compile(text, module.__file__, "exec"), vars(made))  # noqa: S102
    return made
