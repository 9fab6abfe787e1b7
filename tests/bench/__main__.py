"""``make bench``: all benchmarks in their small form, or one of them by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tests.bench.compare import __main__ as compare
from tests.bench.growth import __main__ as growth
from tests.bench.latency import __main__ as latency
from tests.bench.mixed import __main__ as mixed
from tests.bench.scaling import __main__ as scaling

app = typer.Typer(add_completion=False)
app.command("compare")(compare.main)
app.command("work")(compare.work)
app.command("latency")(latency.main)
app.command("growth")(growth.main)
app.command("scaling")(scaling.main)
app.command("mixed")(mixed.main)
app.command("others")(compare.beside)


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context,
    full: Annotated[bool, typer.Option("--full", help="The big sizes and five rounds: takes most of an hour.")] = False,
    instances: Annotated[Path | None, typer.Option(help="A folder of WfFormat files, for the makespans.")] = None,
    out: Annotated[Path | None, typer.Option(help="A folder for JSON, Markdown and the picture.")] = None,
    docs: Annotated[bool, typer.Option("--docs", help="Write all tables into docs/performance.md.")] = False,
) -> None:
    """Compare flowq with hand-written canvases and with the limit; then see how soon, how large and how wide it goes.

    All but the others, which need packages of their own.
    """
    if context.invoked_subcommand is None:
        compare.main(full=full, out=out, docs=docs)
        compare.work(full=full, out=out, docs=docs)
        latency.main(full=full, out=out, docs=docs)
        growth.main(full=full, out=out, docs=docs)
        scaling.main(full=full, instances=instances, out=out, docs=docs)
        mixed.main(full=full, out=out, docs=docs)


if __name__ == "__main__":
    app()
