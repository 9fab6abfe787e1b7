"""``python -m tests.chaos.aof``: cut recordings at commands and at bytes until there are enough prefixes."""

from __future__ import annotations

import random
import sys
import time
from typing import Annotated

import typer

from flowq.standalone import EmbeddedServer
from tests.chaos.aof.prefixes import Survivor
from tests.chaos.aof.recording import record

app = typer.Typer(pretty_exceptions_enable=False)


@app.command()
def main(
    prefixes: Annotated[int, typer.Option(help="So many at commands.")] = 1000,
    torn: Annotated[int, typer.Option(help="So many within commands.")] = 200,
    seed: Annotated[int, typer.Option(help="For the bytes at which files are cut.")] = 1,
) -> None:
    """Let servers come back with a part of their file."""
    done = runs = recordings = 0
    began = time.monotonic()
    while done < prefixes:
        with EmbeddedServer() as server:
            made = record(server)
        recordings += 1
        with EmbeddedServer(appendonly=False) as living, Survivor(living.redis_url, made) as survivor, made.folder:
            for position in range(min(len(made.log.entries) + 1, prefixes - done)):
                made.log.pour(living, position)
                survivor.show_clock()
                runs += survivor.finish()
                done += 1
                _say(f"{done} prefixes at commands", done)
    took = time.monotonic() - began
    sys.stdout.write(
        f"{done} prefixes at commands of {recordings} recordings, {runs} runs ended, {1000 * took / done:.0f} ms each\n"
    )
    began = time.monotonic()
    choose = random.Random(seed)
    with EmbeddedServer() as server:
        made = record(server)
        with Survivor(server.redis_url, made) as survivor, made.folder:
            for number in range(torn):
                made.log.put_back(server, choose.randrange(len(made.log.data)))
                survivor.show_clock()
                survivor.finish()
                _say(f"{number + 1} prefixes at bytes", number + 1)
    took = time.monotonic() - began
    sys.stdout.write(f"{torn} prefixes at bytes, each loaded by a server: {1000 * took / max(1, torn):.0f} ms each\n")


def _say(text: str, number: int) -> None:
    if number % 50 == 0:
        sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    app()
