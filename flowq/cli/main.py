"""The commands, and how an error ends them."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from flowq.cli.worker import worker
from flowq.core.errors import FlowqError

app = typer.Typer(
    name="flowq",
    help="Run flows of typed steps on Celery and Redis.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.callback()(lambda: None)  # also with one command, the command is named
app.command()(worker)


def main() -> None:
    """Run the command line; what flowq itself says went wrong is one message, not a traceback."""
    try:
        app()
    except FlowqError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/]: ", end="")
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
