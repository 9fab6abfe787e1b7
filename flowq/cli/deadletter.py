"""``flowq deadletter``: the nodes that were given up, for a person to look at, run again or put away."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from flowq.cli.output import json_text
from flowq.cli.problems import UsageProblem
from flowq.client import Client, DeadLetter
from flowq.core.context import FlowContext
from flowq.core.errors import RunStatusError

app = typer.Typer(
    help="Nodes that were given up: their attempts died with their workers, or no worker knew how to run them.",
    no_args_is_help=True,
)

Ids = Annotated[list[str] | None, typer.Argument(metavar="[RUN:NODE]...", help="As `list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="All that there are.")]


@app.command(name="list")
def list_(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """Show the dead letters, the latest first."""
    letters = _client().dead_letters()
    if as_json:
        shown = [letter.model_dump(mode="json") | {"id": _id(letter)} for letter in letters]
        sys.stdout.buffer.write(json_text(shown))
        return
    if not letters:
        typer.echo("There are no dead letters.")
        return
    table = Table("run:node", "flow", "given up", "why", box=None, pad_edge=False)
    for letter in letters:
        why = letter.failure.message if letter.failure else ""
        cells = (_id(letter), letter.flow, f"{letter.at:%Y-%m-%d %H:%M:%S} UTC", why)
        table.add_row(*(Text(cell, overflow="fold") for cell in cells))
    Console().print(table)


@app.command()
def retry(ids: Ids = None, every: All = False) -> None:
    """Run nodes again, and all that is downstream of them; their runs must have ended."""
    client, failed = _client(), 0
    for run, letters in _by_run(_chosen(client, ids, every)).items():
        try:
            client.handle(run).retry([letter.node for letter in letters])
        except RunStatusError as error:
            failed += 1
            typer.echo(f"{run}: {error}", err=True)
            continue
        client.drop_dead_letters(letters)
        for letter in letters:
            typer.echo(f"{_id(letter)} runs again.")
    if failed:
        raise typer.Exit(1)


@app.command()
def drop(ids: Ids = None, every: All = False) -> None:
    """Put dead letters away; their runs stay as they are."""
    client = _client()
    dropped = client.drop_dead_letters(_chosen(client, ids, every))
    typer.echo(f"{dropped} dropped.")


def _client() -> Client:
    client: Any = FlowContext.get_instance().client
    found: Client = client
    return found


def _id(letter: DeadLetter) -> str:
    return f"{letter.run_id}:{letter.node}"


def _by_run(letters: list[DeadLetter]) -> dict[str, list[DeadLetter]]:
    found: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        found.setdefault(letter.run_id, []).append(letter)
    return found


def _chosen(client: Client, ids: list[str] | None, every: bool) -> list[DeadLetter]:
    if bool(ids) == every:
        raise UsageProblem("name dead letters as RUN:NODE, or all of them by --all")
    letters = {_id(letter): letter for letter in client.dead_letters()}
    unknown = [name for name in ids or () if name not in letters]
    if unknown:
        raise UsageProblem(
            f"there is no dead letter {unknown[0]!r}; `flowq deadletter list` shows those that there are"
        )
    return [letters[name] for name in ids] if ids else list(letters.values())
