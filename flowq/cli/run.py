"""``flowq run``: run a flow of the user's, and give its output as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from flowq.cli.board import Board
from flowq.cli.follow import run_here, run_on
from flowq.cli.output import json_text, stdout_for_result
from flowq.cli.place import ConnectOption, LocalOption, WorkersOption, check_place, fleet
from flowq.cli.problems import InputProblem
from flowq.cli.signals import orderly
from flowq.cli.target import TargetArgument, find_flow
from flowq.core.result import FlowResult
from flowq.core.types import FlowStatus

_STYLES = {FlowStatus.COMPLETED: "green", FlowStatus.FAILED: "red", FlowStatus.CANCELLED: "yellow"}


def run(
    target: TargetArgument,
    given: Annotated[
        str, typer.Option("--input", "-i", metavar="JSON", help="A JSON object; @FILE reads a file, - reads stdin.")
    ] = "{}",
    local: LocalOption = False,
    connect: ConnectOption = False,
    workers: WorkersOption = None,
    timeout: Annotated[
        float | None, typer.Option(min=0, metavar="SECONDS", help="Cancel the run if it has not ended by then.")
    ] = None,
) -> None:
    """Run a flow, by default on a private Redis and real Celery workers that end with it.

    Stdout gets the output as JSON and nothing else; status, progress and failures go to stderr. Exit code: 0 if the
    run COMPLETED, 1 if it FAILED or was CANCELLED, 2 if it could not be run as asked.
    """
    check_place(local=local, connect=connect, workers=workers)
    input_data = read_input(given)
    console = Console(stderr=True)
    with orderly(), stdout_for_result() as stdout:
        found = find_flow(target)
        found.flow.validate()  # what is wrong with it shows before anything is started
        board = Board(console, found.flow.name)
        if local:
            result = run_here(found.flow, input_data, board, timeout)
        else:
            place = fleet(connect=connect, workers=workers, include=found.include, queues=found.queues)
            with place as context:
                result = run_on(context, found.flow, input_data, board, timeout)
        tell(result, console)
        if result.status is FlowStatus.COMPLETED:
            stdout.write(json_text(result.output))
    raise typer.Exit(0 if result.status is FlowStatus.COMPLETED else 1)


def read_input(given: str) -> Mapping[str, Any]:
    """Read what ``--input`` says.

    Raises:
        InputProblem: it cannot be read, or is no JSON object.
    """
    try:
        if given == "-":
            text, origin = sys.stdin.read(), "stdin"
        elif given.startswith("@"):
            text, origin = Path(given[1:]).read_text(encoding="utf-8"), given[1:]
        else:
            text, origin = given, "--input"
        value = json.loads(text)
    except OSError as error:
        raise InputProblem(f"the input cannot be read from {given[1:]!r}: {error.strerror}") from error
    except ValueError as error:
        raise InputProblem(
            f'{origin} holds no JSON ({error}); write it as in --input \'{{"path": "a.csv"}}\''
        ) from error
    if not isinstance(value, dict):
        raise InputProblem(f"{origin} holds {type(value).__name__} {text.strip():.40}, but an input is a JSON object")
    return value


def tell(result: FlowResult, console: Console) -> None:
    """Say how a run ended: its status, what failed, and what was done without."""

    def say(markup: str) -> None:
        console.print(markup, highlight=False, soft_wrap=True)

    took = "" if result.end_time is None else f" in {(result.end_time - result.start_time).total_seconds():.2f} s"
    status = f"[bold {_STYLES.get(result.status, '')}]{result.status.upper()}[/]"
    say(f"{status} {escape(result.name)}{took}, {len(result.nodes)} nodes, run {result.run_id}")
    for name, failure in result.failures.items():
        attempts = result.nodes[name].attempt
        tries = f" (attempt {attempts})" if attempts > 1 else ""
        say(f"  [red]failed[/] {escape(name)}{tries}: {escape(f'{failure.type}: {failure.message}')}")
    for name, missing in result.bypassed.items():
        for upstream, reason in missing.items():
            say(f"  [yellow]bypassed[/] {escape(upstream)} ({reason.replace('_', ' ')}): {escape(name)} ran without it")
    if result.status is FlowStatus.FAILED and result.traceback:
        say(f"[dim]{escape(result.traceback.rstrip())}[/]")
