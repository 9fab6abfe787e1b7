"""Draws who ran what and when: a Gantt chart, one lane per worker process, as SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape

from flowq.cli.demo.account import Account, Span
from flowq.core.types import NodeStatus

WIDTH = 1000.0
BAR, GAP, LABEL, AXIS = 22.0, 4.0, 20.0, 26.0
"""Heights of a bar, of the space below it, of a lane's label and of the time axis."""

SMALLEST = 0.7
"""Width that even the shortest node gets, so that it is seen."""


def timeline(account: Account, describe: Callable[[Span], str]) -> str:
    """Give the chart; ``describe`` says what the tooltip of a node says."""
    scale = WIDTH / max(account.makespan_s, 1e-9)
    colours = colours_of(account)
    parts: list[str] = []
    y = 0.0
    for share in account.shares:
        rows = packed(span for span in account.spans if span.worker == share.worker)
        note = f"{share.worker} · {share.nodes} nodes · busy {share.busy_s:.2f} s"
        parts.append(f'<text class="lane" x="0" y="{y + LABEL - 6:.0f}">{escape(note)}</text>')
        y += LABEL
        height = len(rows) * (BAR + GAP) - GAP
        parts.append(f'<rect class="bed" x="0" y="{y:.0f}" width="{WIDTH:.0f}" height="{height:.0f}"/>')
        for row in rows:
            parts += [_bar(span, y, scale, colours[span.task], describe(span)) for span in row]
            y += BAR + GAP
        y += 2 * GAP
    grid = [_tick(second, scale, y) for second in ticks(account.makespan_s)]
    height = y + AXIS
    return (
        f'<svg class="timeline" viewBox="-2 0 {WIDTH + 4:.0f} {height:.0f}" role="img"'
        f' aria-label="Timeline of all nodes by worker process">{"".join([*grid, *parts])}</svg>'
    )


def colours_of(account: Account) -> dict[str, str]:
    """Give each task its colour's class, in the order in which they started."""
    tasks = list(dict.fromkeys(span.task for span in account.spans))
    return {task: f"c{position % 6}" for position, task in enumerate(tasks)}


def packed(spans: Iterable[Span]) -> list[list[Span]]:
    """Spread the spans of a process over as few rows as keep those apart that ran at the same time (threads)."""
    rows: list[list[Span]] = []
    for span in sorted(spans, key=lambda span: (span.start_s, span.end_s)):
        row = next((row for row in rows if row[-1].end_s <= span.start_s), None)
        if row is None:
            rows.append(row := [])
        row.append(span)
    return rows


def ticks(end: float, most: int = 10) -> Sequence[float]:
    """Give round times from 0 to the end: steps of 1, 2 or 5 times a power of ten."""
    if end <= 0:
        return [0.0]
    power = 10.0 ** math.floor(math.log10(end / most))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if end / (power * factor) <= most)
    return [number * step for number in range(int(end / step) + 1)]


def _bar(span: Span, y: float, scale: float, colour: str, title: str) -> str:
    failed = "" if span.status is NodeStatus.COMPLETED else " bad"
    # Neighbours of one colour are told apart by their shade.
    shade = " odd" if span.item > 0 and span.item % 2 else ""
    x, width = span.start_s * scale, max(span.duration_s * scale, SMALLEST)
    return (
        f'<rect class="{colour}{shade}{failed}" x="{x:.2f}" y="{y:.0f}" width="{width:.2f}" height="{BAR:.0f}">'
        f"<title>{escape(title)}</title></rect>"
    )


def _tick(second: float, scale: float, height: float) -> str:
    x = second * scale
    anchor = "start" if not second else "middle" if x < WIDTH - 20 else "end"
    return (
        f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height:.0f}"/>'
        f'<text class="tick" text-anchor="{anchor}" x="{x:.1f}" y="{height + 16:.0f}">{second:g} s</text>'
    )
