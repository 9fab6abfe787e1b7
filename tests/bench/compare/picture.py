"""What was measured, as a picture: bars on a logarithmic scale, a group of them for each workload."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import cycle

from tests.bench.compare.measure import Measurement
from tests.bench.compare.peer import Peer
from tests.bench.compare.report import ms_per_node, of, workloads_of

COLOURS = {
    "celery": "#c23b22",
    "celery-tuned": "#e6884f",
    "flowq-canvas": "#6ba3d6",
    "flowq-pull": "#1f4e99",
    "limit": "#9a9a9a",
    "limit-32": "#555555",
}
FURTHER = ("#7a5195", "#2a9d8f", "#b5a642", "#8c564b", "#d45087", "#3f7f3f")
"""For the others, in their order."""

LABELS, BARS = 210, 560
"""Widths of the names on the left, and of the scale."""
BAR, GAP, LINE = 9, 12, 18
"""Heights of a bar, of the space between two groups, and of a line of the legend."""


def picture(found: Sequence[Measurement], peers: Sequence[Peer]) -> str:
    """Give the milliseconds per node of each peer on each workload as SVG; what failed has a word, not a bar."""
    rows = [
        (f"{workload.key} {workload.title}", [of(found, workload, peer.name, ms_per_node) for peer in peers])
        for workload in workloads_of(found)
    ]
    values = [value for _, row in rows for value in row if isinstance(value, float) and value > 0]
    low = math.floor(math.log10(min(values, default=0.1)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=1.0))))

    def x(value: float) -> float:
        return LABELS + (math.log10(value) - low) / (high - low) * BARS

    top = LINE * (len(peers) + 1) + 16
    group = BAR * len(peers) + GAP
    height, width = top + group * len(rows) + 8, LABELS + BARS + 80
    colours = _colours(peers)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="11" role="img" aria-label="Milliseconds per node">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        _text(8, 14, "Milliseconds per node, logarithmic: shorter is better"),
    ]
    for i, peer in enumerate(peers):
        y = LINE * (i + 1) + 4
        parts += [f'<rect x="8" y="{y}" width="12" height="10" fill="{colours[i]}"/>', _text(26, y + 9, peer.title)]
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{top - 4}" y2="{height - 8}" stroke="#dddddd"/>')
        parts.append(_text(at, top - 8, f"{10.0**power:g}", "middle"))
    for number, (title, row) in enumerate(rows):
        y = top + group * number
        parts.append(_text(LABELS - 8, y + BAR * len(peers) / 2 + 4, title, "end"))
        for i, value in enumerate(row):
            at = y + BAR * i
            if isinstance(value, float) and value > 0:
                length = max(1.0, x(value) - LABELS)
                parts.append(
                    f'<rect x="{LABELS}" y="{at}" width="{length:.1f}" height="{BAR - 1}" fill="{colours[i]}"/>'
                )
                parts.append(_text(LABELS + length + 4, at + BAR - 1, f"{value:.3g}", size=9))
            else:
                parts.append(_text(LABELS + 4, at + BAR - 1, str(value), size=9))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _colours(peers: Sequence[Peer]) -> list[str]:
    others = cycle(FURTHER)
    return [COLOURS.get(peer.name) or next(others) for peer in peers]


def _text(x: float, y: float, text: str, anchor: str = "start", size: int = 11) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="#222222">{escape(text)}</text>'
    )
