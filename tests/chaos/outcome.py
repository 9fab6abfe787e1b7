"""What came of a chaos on one peer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.history import MS, Case, Violation


@dataclass
class Outcome:
    """A row of the table."""

    peer: str
    title: str
    runs: int
    right: int = 0
    """Ended as they must."""
    wrong: int = 0
    """Ended otherwise."""
    hung: int = 0
    """Have not ended, or are gone."""
    executions: int = 0
    needed: int = 0
    """Executions that it takes without faults."""
    faults: dict[str, int] = field(default_factory=dict)
    last_s: float | None = None
    """From the last fault to the end of the last run that ended."""
    seconds: float = 0.0
    violations: Sequence[Violation] | None = None
    """None: nobody can check it from outside, beyond its results."""
    stories: Sequence[str] = ()
    notes: dict[str, int] = field(default_factory=dict)
    """Counted, and no violations."""

    @property
    def is_bad(self) -> bool:
        return bool(self.violations)

    def plain(self) -> dict[str, Any]:
        """Give it as JSON has it."""
        found = asdict(self)
        if self.violations is not None:
            found["violations"] = [violation._asdict() for violation in self.violations]
        return found


def story(case: Case, violations: Sequence[Violation], lines: int = 24) -> str:
    """Tell what happened to a run: what does not hold, its effects and its events, of the nodes in question only."""
    own = [violation for violation in violations if violation.run == case.design.run]
    nodes = {violation.node for violation in own}
    told = {upstream for node in nodes if node in case.design.nodes for upstream in case.design.nodes[node].required}
    zero = case.history.submitted * MS
    effects = [effect for effect in case.effects if not any(nodes) or effect.node in nodes | told]
    events = [change for change in case.history.events if not any(nodes) or change.node in nodes | told]
    parts = [
        f"{case.design.run}: {case.design.kind}, {case.design.dispatch}, {case.history.status or 'gone'}",
        *(f"  ✗ {violation.kind} {violation.node}: {violation.text}" for violation in own[:6]),
        *(f"  {node} failed: {why}" for node, why in case.history.failures.items() if node in nodes),
        *(f"  server killed at {(kill - case.history.submitted) / 1000:+.2f} s" for kill in _near(case)),
        *(
            f"  {(effect.at - zero) / 1e9:8.3f} s  {effect.node} attempt {effect.attempt} {effect.what}"
            f"  pid {effect.pid} {effect.nonce[:6]}"
            for effect in effects[-lines:]
        ),
        "  events: " + ", ".join(f"{change.node} {change.status} {change.attempt}" for change in events[-lines:]),
        "  records: " + ", ".join(f"{node} {case.history.nodes.get(node)}" for node in sorted(nodes) if node)[:600],
    ]
    return "\n".join(parts)


def _near(case: Case) -> list[int]:
    last = case.history.ended or case.faults.ended
    return [kill for kill in case.faults.kills if case.history.submitted - 3000 <= kill <= last + 3000]
