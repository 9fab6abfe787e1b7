"""``flowq demo``: survey the standard library on real workers, and show what came of it."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from flowq.cli.board import Board
from flowq.cli.demo.account import account_of
from flowq.cli.demo.page import page_of
from flowq.cli.demo.summary import tell
from flowq.cli.follow import run_here, run_on
from flowq.cli.place import DEFAULT_WORKERS, ConnectOption, LocalOption, WorkersOption, check_place, fleet
from flowq.cli.problems import UsageProblem
from flowq.cli.run import tell as tell_ending
from flowq.cli.signals import orderly
from flowq.core.types import FlowStatus

MODULE = "flowq.cli.demo.flows"


def demo(
    workers: WorkersOption = None,
    connect: ConnectOption = False,
    local: LocalOption = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="Where the HTML report is written.")
    ] = Path("flowq-demo-report.html"),
) -> None:
    """Survey Python's standard library with a real flow on real workers, and leave a report.

    By default it starts a private Redis and two Celery workers, which end with it.
    """
    check_place(local=local, connect=connect, workers=workers)
    _check_writable(output)
    # Late: a worker knows the processors of the modules that it includes, and this import would add the demo's.
    from flowq.cli.demo.flows import survey

    progress, console = Console(stderr=True), Console()
    board = Board(progress, survey.name, every_s=1.0)
    given = {"root": sysconfig.get_paths()["stdlib"]}
    with orderly():
        progress.print(_plan_of_action(local=local, connect=connect, workers=workers), highlight=False)
        if local:
            result = run_here(survey, given, board)
        else:
            with fleet(connect=connect, workers=workers, include=[MODULE]) as context:
                result = run_on(context, survey, given, board)
        if result.status is not FlowStatus.COMPLETED:
            tell_ending(result, progress)
            raise typer.Exit(1)
        plan = survey.plan()
        account = account_of(result, (node.path for node in plan if node.is_map))
        tell(result.output, account, console)
        output.write_text(page_of(result, account, plan), encoding="utf-8")
        console.print(f"\nReport: [bold]{escape(str(output))}[/]", highlight=False, soft_wrap=True)


def _plan_of_action(*, local: bool, connect: bool, workers: int | None) -> str:
    if local:
        return "Running in this process…"
    if connect:
        return "Submitting to the workers that are there…"
    count = workers or DEFAULT_WORKERS
    return f"Starting a private Redis and {count} worker{'s' * (count > 1)}…"


def _check_writable(output: Path) -> None:
    """Say at once, not after the work, that the report cannot be written."""
    folder = output.parent
    if output.is_dir() or not folder.is_dir() or not os.access(output if output.exists() else folder, os.W_OK):
        raise UsageProblem(f"the report cannot be written to {str(output)!r}: name another place with --output")
