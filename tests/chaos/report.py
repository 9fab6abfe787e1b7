"""The table, the stories and the JSON of a chaos."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.checker import count
from tests.chaos.outcome import Outcome


def show(outcomes: Sequence[Outcome], console: Console) -> None:
    """Print one table with all rows, and below it what does not hold, with its stories."""
    console.print(table(outcomes))
    for outcome in outcomes:
        notes = ", ".join(f"{what}: {number}" for what, number in outcome.notes.items() if number)
        if notes:
            console.print(f"{outcome.title}: {notes}", soft_wrap=True)
    for outcome in outcomes:
        if outcome.violations:
            kinds = ", ".join(f"{kind} {number}" for kind, number in count(outcome.violations).most_common())
            console.print(f"\n[bold]{outcome.title}[/]: {kinds}", soft_wrap=True)
            for violation in [found for found in outcome.violations if not found.run][:10]:
                console.print(f"  ✗ {violation.kind}: {violation.text}", markup=False, soft_wrap=True)
            for told in outcome.stories:
                console.print(told, markup=False, highlight=False, soft_wrap=True)


def table(outcomes: Sequence[Outcome]) -> Table:
    made = Table(title="Runs under faults")
    for name in ("", "runs", "right", "wrong", "hung", "executions", "last end", "faults", "violations"):
        made.add_column(name, justify="left" if name in ("", "faults", "violations") else "right")
    for outcome in outcomes:
        ratio = f"{outcome.executions / outcome.needed:.3f} ×" if outcome.needed else "–"
        faults = ", ".join(f"{number} {kind}" for kind, number in sorted(outcome.faults.items()))
        kinds = Counter() if outcome.violations is None else count(outcome.violations)
        verdict = "not checked" if outcome.violations is None else str(kinds.total())
        made.add_row(
            outcome.title,
            *(str(number) for number in (outcome.runs, outcome.right, outcome.wrong, outcome.hung)),
            ratio,
            "–" if outcome.last_s is None else f"{outcome.last_s:.1f} s",
            faults,
            verdict,
        )
    return made


def write_json(path: Path, seed: int, outcomes: Sequence[Outcome]) -> None:
    found = {"seed": seed, "outcomes": [outcome.plain() for outcome in outcomes]}
    path.write_text(json.dumps(found, indent=1) + "\n")
