"""``make bench``: all benchmarks in their small form, or one of them by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare import __main__ as compare
from tests.bench.growth import __main__ as growth
from tests.bench.scaling import __main__ as scaling

app = typer.Typer(add_completion=False)
app.command("compare")(compare.main)
app.command("growth")(growth.main)
app.command("scaling")(scaling.main)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="The big sizes: takes an hour or more.")] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for JSON, Markdown and the picture.")] = None,
) -> None:
    """Compare flowq with hand-written canvases and with the limit; then see how it grows, and how it scales."""
    if context.invoked_subcommand is None:
        compare.main(full=full, out=out)
        growth.main(full=full, out=out)
        scaling.main(rounds=5 if full else 3, out=out)


if __name__ == "__main__":
    app()
