"""``python -m tests.chaos.replies``: lose replies until there are enough of them, and say what happened."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from flowq.standalone import EmbeddedServer
from tests.chaos.replies.campaign import Campaign
from tests.chaos.replies.faults import EVEN, Fault


def main(
    lost: Annotated[int, typer.Option(help="So many replies.")] = 10_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same faults.")] = 1,
    dispatch: Annotated[str, typer.Option(help="pull or canvas.")] = "pull",
    only: Annotated[str, typer.Option(help=f"One of {', '.join(Fault)}; default: all.")] = "",
    rate: Annotated[float, typer.Option(help="With --only: the share of requests that meet it.")] = 0.2,
) -> None:
    """Lose replies under whole runs."""
    rates = {Fault(only): rate} if only else EVEN
    with ExitStack() as stack:
        server = stack.enter_context(EmbeddedServer(appendonly=False))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flowq-")))
        made = Campaign(server, folder, rates, seed=seed, dispatch=dispatch)  # type: ignore[arg-type]
        figures = stack.enter_context(made).until(lost, lambda figures: sys.stderr.write(f"{figures}\n"))
    sys.stdout.write(f"{figures}\n")


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(main)
    app()
