"""The commands, and how an error ends them."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from rich.console import Console

from flowq.cli import deadletter
from flowq.cli.demo.command import demo
from flowq.cli.explain import explain
from flowq.cli.graph import graph, validate
from flowq.cli.problems import exit_code
from flowq.cli.run import run
from flowq.cli.worker import worker
from flowq.core.errors import FlowqError

app = typer.Typer(
    name="flowq",
    help="Run flows of typed steps on Celery and Redis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, run, graph, validate, explain, worker):
    app.command()(command)
app.add_typer(deadletter.app, name="deadletter")


def main() -> None:
    """Run the command line; what flowq itself says went wrong is one message, not a traceback."""
    # As `python -m` does: the modules that people name on the command line, or include, lie where they stand.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        app()
    except FlowqError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: ", end="")
        print(error, file=sys.stderr)
        raise SystemExit(exit_code(error)) from error
