"""An orderly end when somebody says stop: everything that was started is stopped, then the command ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer


class Terminated(SystemExit):
    """SIGTERM has arrived. Of SystemExit's kind, which event loops let through and nobody takes for a failure."""


@contextmanager
def orderly() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM leave the block through its ``finally`` clauses; exit codes 130 and 143, as shells say it.

    A second signal cuts the cleaning up short. What was started ends all the same: its guards see this process go.
    """
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("Interrupted.", err=True)
        raise typer.Exit(128 + signal.SIGINT) from None
    except Terminated:
        typer.echo("Terminated.", err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated
