"""The demo's results as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from flowq.cli.demo.account import Account
from flowq.cli.demo.models import Survey

SHOWN = 8
"""Lines of a list; the page shows more."""


def tell(survey: Survey, account: Account, console: Console) -> None:
    """Print what was found, and how it was run."""
    for part in (*_findings(survey), *_running(account)):
        console.print(part, highlight=False, soft_wrap=isinstance(part, str))


def _findings(survey: Survey) -> Iterator[RenderableType]:
    totals, imports = survey.totals, survey.imports
    yield f"\n[bold]What is in {escape(survey.root)}[/]"
    yield (
        f"{totals.modules:,} modules, {totals.lines:,} lines ({totals.code_lines:,} of code); {totals.classes:,}"
        f" classes; {totals.functions:,} functions, {percent(totals.documented, totals.functions)} of them documented;"
        f" mean complexity {totals.mean_complexity}\n"
    )
    yield _table(
        ["Most complex functions", "ways", "lines", "deep", "Most imported modules", "by"],
        [
            [
                *(
                    ["", "", "", ""]
                    if one is None
                    else _function_row(one.module, one.name, one.complexity, one.lines, one.nesting)
                ),
                *(["", ""] if two is None else [escape(two.module), f"{two.count:,}"]),
            ]
            for one, two in zip_longest(totals.most_complex[:SHOWN], imports.most_imported[:SHOWN])
        ],
    )
    yield (
        f"\n{imports.edges:,} imports at module level, {imports.late_edges:,} more in functions; the longest line is"
        f" {imports.depth} modules deep: {escape(' → '.join(shortened(imports.chain)))}"
    )
    yield f"{len(imports.cycles)} import cycles; {imports.broken_cycles} more are kept open by imports in functions:"
    for cycle in imports.cycles[:SHOWN]:
        yield f"  {escape(' ⇄ '.join(cycle))}"


def _function_row(module: str, name: str, *figures: int) -> list[str]:
    return [f"{escape(module)}.[bold]{escape(name)}[/]", *(str(figure) for figure in figures)]


def _running(account: Account) -> Iterator[RenderableType]:
    yield "\n[bold]How it was run[/]"
    yield _table(
        ["Worker process", "nodes", "busy"],
        [[escape(share.worker), f"{share.nodes:,}", f"{share.busy_s:.2f} s"] for share in account.shares],
    )
    yield (
        f"{len(account.spans):,} nodes took {account.work_s:.2f} s together, and {account.makespan_s:.2f} s from submit"
        f" to end: [bold]{at_once(account)}[/] at once on average, on {processes(account)}"
    )
    for bypass in account.bypasses:
        name, node = escape(bypass.upstream), escape(bypass.node)
        yield f"[yellow]Bypassed:[/] [bold]{name}[/] ({bypass.reason}); {node} can do without it, and did"
        if bypass.message:
            yield f"  {escape(bypass.message)}"


def percent(part: float, whole: float) -> str:
    """Give a share as people write it."""
    share = 100 * part / whole if whole else 0.0
    return f"{share:.1f} %" if 0 < share < 1 else f"{share:.0f} %"


def at_once(account: Account) -> str:
    """Give how many nodes ran at the same time, on average over the run.

    No speed-up: where processes share cores, each node takes longer than it would take alone.
    """
    return f"{account.work_s / account.makespan_s:.2f}" if account.makespan_s else "–"


def processes(account: Account) -> str:
    """Give the number of worker processes that ran something."""
    return f"{account.processes} process{'es' * (account.processes > 1)}"


def shortened(names: Sequence[str], most: int = 7) -> list[str]:
    """Leave the middle of a long list out."""
    return list(names) if len(names) <= most else [*names[: most // 2], "…", *names[-(most // 2) :]]


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for position, heading in enumerate(headings):
        names = position == 0 or heading[0].isupper()
        table.add_column(heading, justify="left" if names else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table
