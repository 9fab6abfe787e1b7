"""Shows what came of cells."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from tests.chaos.points.stage import Verdict


def say(verdict: Verdict, number: int, *, logs: bool) -> None:
    """Tell of one cell that ended wrong, and now and then how far it is."""
    if verdict.violations:
        _tell(f"WRONG  {verdict.cell}")
        for violation in verdict.violations:
            _tell(f"       {violation}")
        if logs:
            _tell(verdict.logs)
    if number % 50 == 0:
        _tell(f"… {number} cells")


def show(verdicts: Sequence[Verdict], took_s: float) -> None:
    """Show the table of cells and what was found."""
    struck = [verdict for verdict in verdicts if verdict.struck]
    victims = sorted({verdict.cell.victim for verdict in struck})
    counts = Counter((verdict.cell.shape, verdict.cell.victim) for verdict in struck)
    _tell(f"\n{'shape':29}" + "".join(f"{victim:>7}" for victim in victims) + "  points  again  slowest  wrong")
    for shape in dict.fromkeys(sorted(verdict.cell.shape for verdict in struck)):
        own = [verdict for verdict in struck if verdict.cell.shape == shape]
        row = "".join(f"{counts[shape, victim]:7}" for victim in victims)
        points = len({verdict.cell.point for verdict in own})
        again, slowest = sum(verdict.extra for verdict in own), max(verdict.took_s for verdict in own)
        wrong = sum(bool(verdict.violations) for verdict in own)
        _tell(f"{shape:29}{row}{points:8}{again:7}{slowest:8.1f}s{wrong:7}")
    for victim in victims:
        times = sorted(verdict.took_s for verdict in struck if verdict.cell.victim == victim)
        beside = sorted(verdict.bystander_s for verdict in struck if verdict.cell.victim == victim)
        _tell(
            f"{victim}: from the kill to the run's end {times[len(times) // 2]:.2f} s in the middle, {times[-1]:.2f} s"
            f" at most; a run of one node beside it {beside[len(beside) // 2]:.3f} s, {beside[-1]:.3f} s"
        )
    slow = sorted(struck, key=lambda verdict: verdict.took_s)[-5:]
    _tell("\n  ".join(["slowest:", *(f"{verdict.took_s:6.2f} s  {verdict.cell}" for verdict in reversed(slow))]))
    wrong_ones = [verdict for verdict in verdicts if verdict.violations]
    idle = len(verdicts) - len(struck)
    _tell(f"\n{len(struck)} cells in {took_s:.0f} s, {len(wrong_ones)} wrong; {idle} more were not passed so often")


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
