"""Runs that were never run: a design played through rightly, for whoever tests the checker."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from tests.chaos.checker import check
from tests.chaos.designs import COMPLETED, FAILED, SKIPPED, UPSTREAM_FAILED, Design, Node
from tests.chaos.effects import Effect
from tests.chaos.history import MS, Change, Faults, History, Limits, Output, Record, Violation

SUBMITTED = 1_000_000
"""Milliseconds."""

STEP = 10
"""Milliseconds that anything takes."""

WHATS = {COMPLETED: "end", FAILED: "fail", SKIPPED: "skip"}


@dataclass(frozen=True)
class Played:
    """All that the checker gets."""

    design: Design
    history: History
    effects: tuple[Effect, ...]
    faults: Faults = field(default_factory=Faults)

    def violations(self) -> list[Violation]:
        return check([self.design], {self.design.run: self.history}, self.effects, self.faults, Limits())

    def kinds(self) -> set[str]:
        return {violation.kind for violation in self.violations()}

    def with_history(self, **more: Any) -> Played:
        return replace(self, history=replace(self.history, **more))

    def with_record(self, path: str, **more: Any) -> Played:
        nodes = dict(self.history.nodes)
        nodes[path] = nodes[path]._replace(**more)
        return self.with_history(nodes=nodes)

    def with_output(self, path: str, **more: Any) -> Played:
        outputs = dict(self.history.outputs)
        outputs[path] = outputs[path]._replace(**more)
        return self.with_history(outputs=outputs)

    def with_effects(self, *more: Effect) -> Played:
        return replace(self, effects=(*self.effects, *more))

    def without(self, path: str, what: str) -> Played:
        return replace(self, effects=tuple(e for e in self.effects if (e.node, e.what) != (path, what)))

    def of(self, path: str, what: str) -> Effect:
        return next(effect for effect in self.effects if (effect.node, effect.what) == (path, what))


def played(design: Design) -> Played:
    """Play a design: one node after the other, one attempt after the other, as its policy says."""
    player = _Player(design)
    for path in design.nodes:
        player.visit(path)
    ended = player.now + STEP
    history = History(
        design.run,
        design.status,
        SUBMITTED,
        ended=ended,
        nodes=player.nodes,
        outputs=player.outputs,
        events=player.events,
        first=dict(player.nodes),
    )
    return Played(design, history, tuple(player.effects))


class _Player:
    def __init__(self, design: Design) -> None:
        self.now = SUBMITTED
        self.nodes: dict[str, Record] = {}
        self.outputs: dict[str, Output] = {}
        self.events: list[Change] = []
        self.effects: list[Effect] = []
        self._design = design

    def visit(self, path: str) -> None:
        if path in self.nodes:
            return
        node = self._design.nodes[path]
        for upstream in (*node.required, *node.optional):
            self.visit(upstream)
        for item in self._items(path):
            self.visit(item)
        if node.status == UPSTREAM_FAILED:
            self._settle(path, Record(UPSTREAM_FAILED, ended=self.now))
        elif not node.has_body:
            self._join(path)
        else:
            for attempt in range(1, node.executions + 1):
                self._attempt(path, node, attempt)

    def _items(self, path: str) -> list[str]:
        return [other for other in self._design.nodes if other.startswith(f"{path}[")]

    def _join(self, path: str) -> None:
        node = self._design.nodes[path]
        items = self._items(path)
        parts = (
            {str(index): self.outputs[item].digest for index, item in enumerate(items)}
            if items
            else {up: out.digest if (out := self.outputs.get(up)) else None for up in (*node.required, *node.optional)}
        )
        self.outputs[path] = Output(f"digest of {path}", parts=parts)
        self.events.append(Change(path, "running", 1))
        self._settle(path, Record(COMPLETED, 1, self.now, self.now))

    def _attempt(self, path: str, node: Node, attempt: int) -> None:
        self.now += STEP
        nonce, began = f"{path}-{attempt}", self.now
        seen = {name: self._seen(upstream) for name, upstream in node.sees.items()}
        self.events.append(Change(path, "running", attempt))
        start = Effect(self._design.run, path, attempt, "start", self.now * MS, 7, nonce, seen)
        self.now += STEP
        is_last = attempt == node.executions
        digest = f"digest of {nonce}" if is_last and node.status == COMPLETED else ""
        what = WHATS[node.status] if is_last else "fail"
        self.effects += [start, start._replace(what=what, at=self.now * MS, digest=digest)]
        self.now += STEP
        if not is_last:
            self.events.append(Change(path, "pending", attempt))
            self.now += int(node.delay_s * 2 ** (attempt - 1) * 1000)
            return
        if node.status == COMPLETED:
            parts = {str(index): f"part {index} of {nonce}" for index in range(20)} if path == "spread" else {}
            self.outputs[path] = Output(digest, node.core, attempt, nonce, parts)
        self._settle(path, Record(node.status, attempt, began, self.now))

    def _seen(self, upstream: str) -> str | None:
        path, _, part = upstream.partition("#")
        output = self.outputs.get(path)
        return None if output is None else output.parts[part] if part else output.digest

    def _settle(self, path: str, record: Record) -> None:
        self.nodes[path] = record
        self.events.append(Change(path, record.status, record.attempt))
