"""Builds the demo's report: one HTML page that needs nothing but itself."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from itertools import pairwise
from string import Template

from flowq import __version__
from flowq.cli.demo.account import Account, Span
from flowq.cli.demo.drawing import drawing
from flowq.cli.demo.measure import BANDS
from flowq.cli.demo.models import Count, Function, Survey
from flowq.cli.demo.summary import at_once, percent, processes
from flowq.cli.demo.timeline import colours_of, timeline
from flowq.core.result import FlowResult
from flowq.plan import Plan


def page_of(result: FlowResult, account: Account, plan: Plan) -> str:
    """Give the page of a COMPLETED run. Everything that comes from outside is escaped here or in the drawings."""
    survey: Survey = result.output
    work_s = Counter[str]()
    for span in account.spans:
        work_s[span.task] += span.duration_s  # type: ignore[assignment]  # a Counter of seconds

    def describe(span: Span) -> str:
        what = f"{span.node} {survey.modules[span.item]}" if span.item >= 0 else span.node
        return f"{what}: {span.duration_s * 1000:.0f} ms, {span.status}"

    template = Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    return template.substitute(
        _run(result, account),
        **_findings(survey),
        graph=drawing(plan, result, work_s),
        timeline=timeline(account, describe),
        tiles=_tiles(survey, account),
        footer=(
            f"Written by flowq {escape(__version__)} on {result.start_time:%d %B %Y, %H:%M} UTC"
            f" · run <code>{escape(result.run_id)}</code> · plan <code>{escape(plan.hash)}</code>"
        ),
    )


def _run(result: FlowResult, account: Account) -> dict[str, str]:
    survey: Survey = result.output
    name = "a source tree" if survey.project is None else escape(survey.project.name)
    python = escape(platform.python_version())
    return {
        "title": f"A survey of Python {python}’s standard library" if survey.project is None else f"A survey of {name}",
        "status": escape(result.status),
        "lead": (
            f"{survey.totals.modules:,} modules in <code>{escape(survey.root)}</code>, each measured by a node of its"
            f" own, on {processes(account)}."
        ),
        "flow_note": (
            "Every box is a step as it ended. The stack is a map: one node per module, and how many only the step"
            " before it could say."
        ),
        "bypasses": "".join(
            f'<div class="card bypassed-note"><p><b>Bypassed:</b> <code>{escape(bypass.upstream)}</code>'
            f" {escape(bypass.reason)}, and <code>{escape(bypass.node)}</code> ran without it.</p>"
            + (f'<p class="soft"><code>{escape(bypass.message)}</code></p>' if bypass.message else "")
            + "</div>"
            for bypass in account.bypasses
        ),
        "run_note": (
            f"{len(account.spans):,} nodes took {account.work_s:.2f} s together, and {account.makespan_s:.2f} s from"
            f" submit to end: {at_once(account)} at once on average, on {processes(account)}. Point at a bar to see"
            " which node it is."
        ),
        "legend": "".join(
            f'<span><i class="{colour}"></i>{escape(task)}</span>' for task, colour in colours_of(account).items()
        ),
        "shares": _table(
            ["Worker process", "nodes", "busy", "share of the time"],
            [
                [
                    f"<code>{escape(share.worker)}</code>",
                    f"{share.nodes:,}",
                    f"{share.busy_s:.2f} s",
                    percent(share.busy_s, account.makespan_s),
                ]
                for share in account.shares
            ],
        ),
    }


def _findings(survey: Survey) -> dict[str, str]:
    totals, imports = survey.totals, survey.imports
    return {
        "size_note": (
            f"{totals.lines:,} lines: {totals.code_lines:,} of code, {totals.doc_lines:,} of docstrings,"
            f" {totals.comment_lines:,} of comments. {percent(totals.documented, totals.functions)} of the functions"
            f" have a docstring. Complexity is McCabe’s: the number of ways through a function; the mean is"
            f" {totals.mean_complexity}."
        ),
        "most_complex": _functions(totals.most_complex, "ways", "complexity"),
        "longest": _functions(totals.longest, "lines", "lines"),
        "most_nested": _functions(totals.most_nested, "blocks", "nesting"),
        "largest": _counts(totals.largest, "lines of code"),
        "bands": _bands(totals.bands),
        "most_imported": _counts(imports.most_imported, "imported by"),
        "imports_note": (
            f"{imports.edges:,} imports run when a module is imported, {imports.late_edges:,} more only when a function"
            f" is called: {imports.broken_cycles} more rings are kept open that way. The longest line is"
            f" {imports.depth} modules deep, each ring counted once."
        ),
        "cycles": _rings(imports.cycles),
        "chain": " → ".join(f"<code>{escape(module)}</code>" for module in imports.chain),
    }


def _tiles(survey: Survey, account: Account) -> str:
    tiles = {
        "modules": f"{survey.totals.modules:,}",
        "lines": f"{survey.totals.lines:,}",
        "functions": f"{survey.totals.functions:,}",
        "import cycles": f"{len(survey.imports.cycles):,}",
        "nodes run": f"{len(account.spans):,}",
        "from submit to end": f"{account.makespan_s:.2f} s",
        "at once, on average": at_once(account),
    }
    return "".join(f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for name, value in tiles.items())


def _functions(functions: Iterable[Function], heading: str, key: str) -> str:
    return _table(
        ["Function", heading],
        [
            [
                f'<code title="line {function.line}">{escape(function.module)}.<b>{escape(function.name)}</b></code>',
                f"{getattr(function, key):,}",
            ]
            for function in functions
        ],
    )


def _counts(counts: Iterable[Count], heading: str) -> str:
    rows = [[f"<code>{escape(one.module)}</code>", f"{one.count:,}"] for one in counts]
    return _table(["Module", heading], rows)


def _bands(counts: Sequence[int]) -> str:
    """Give a bar chart of how many functions fall into each band, with the bars' lengths by the square root.

    Nearly all functions are simple: on a straight scale the others would not be seen.
    """
    most = max(counts, default=0) or 1
    ends = [f"{start}–{end - 1}" for start, end in pairwise(BANDS)] + [f"over {BANDS[-1] - 1}"]
    rows = "".join(
        f"<tr><td>{name}</td>"
        f'<td class="wide"><span class="bar" style="width:{100 * (count / most) ** 0.5:.1f}%"></span></td>'
        f'<td class="n">{count:,}</td><td class="n">{percent(count, sum(counts))}</td></tr>'
        for name, count in zip(ends, counts, strict=True)
    )
    head = '<th>Ways through</th><th>on a square root’s scale</th><th class="n">functions</th><th class="n">share</th>'
    return f"<table><tr>{head}</tr>{rows}</table>"


def _rings(cycles: Sequence[Sequence[str]]) -> str:
    if not cycles:
        return "<p>None.</p>"
    items = (" ⇄ ".join(f"<code>{escape(module)}</code>" for module in cycle) for cycle in cycles)
    return f'<ul class="ring">{"".join(f"<li>{item}</li>" for item in items)}</ul>'


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Give a table of cells that are HTML already; all columns but the first hold figures."""
    classes = ["", *[' class="n"'] * (len(headings) - 1)]
    head = "".join(f"<th{kind}>{escape(text)}</th>" for kind, text in zip(classes, headings, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for kind, cell in zip(classes, row, strict=True))}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"
