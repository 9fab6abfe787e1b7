"""``python -m tests.chaos.poison``: nodes that kill their process do no harm beyond that, and long ones run once."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from flowq import FlowStatus, FlowType
from flowq.testing.fleet import fleet
from tests.chaos import poisoned
from tests.chaos.poisoned import How, Poisoned, long, poison

GOOD, BAD, MAX_CRASHES = 1000, 20, 3
WORKERS, CHILDREN = 2, 2

MOST_LOSS = 0.10
"""Of the throughput of the good nodes."""

LEASE = {"lease_s": 0.6, "renew_s": 0.2}
LEASES = 10
"""A long node is so many times as long as a lease."""

LONG_NODES = 200

KINDS: tuple[tuple[How, FlowType, float], ...] = (
    ("sleeps", FlowType.THREAD, 0.5),
    ("sleeps", FlowType.PROCESS, 0.3),
    ("spins", FlowType.PROCESS, 0.1),
    ("holds", FlowType.PROCESS, 0.1),
)
"""What long nodes do, where, and how many of them do so. Those that compute are few: they share the machine's cores."""


def poisoning(rounds: int, console: Console) -> dict[str, Any]:
    """Run the good nodes alone and with the poison, in turn; which comes first, changes from round to round."""
    table = Table(
        title=f"{GOOD} nodes of 10 ms on {WORKERS} × {CHILDREN} processes, with and without {BAD} that kill theirs"
    )
    for column in ("round", "alone", "with poison", "loss", "executions of poison", "dead letters", "completed"):
        table.add_column(column, justify="right")
    alone: list[Poisoned] = []
    beside: list[Poisoned] = []
    with fleet(WORKERS, [poisoned], concurrency=CHILDREN) as context:
        poison(context, 0, GOOD // 10, 0)
        for seed in range(rounds):
            for bad in (0, BAD) if seed % 2 == 0 else (BAD, 0):
                (beside if bad else alone).append(poison(context, seed, GOOD, bad))
            found = beside[-1]
            times = ", ".join(f"{nodes} × {count}" for count, nodes in found.executions.items())
            seconds = (f"{alone[-1].seconds:.2f} s", f"{found.seconds:.2f} s")
            lost = f"{1 - alone[-1].seconds / found.seconds:.1%}"
            table.add_row(str(seed), *seconds, lost, times, str(found.letters), str(found.good))
    console.print(table)
    pairs = list(zip(alone, beside, strict=True))
    # Of each round by itself: what else runs on the machine changes from one to the next.
    loss = median(1 - without.seconds / found.seconds for without, found in pairs)
    deaths = BAD * MAX_CRASHES
    slot_s = median(found.seconds - without.seconds for without, found in pairs) * WORKERS * CHILDREN / deaths
    is_right = all(map(_is_right, beside))
    verdict = "as it must be" if is_right else "WRONG"
    console.print(f"loss of throughput: {loss:.1%} (≤ {MOST_LOSS:.0%}, median of the rounds); outcomes: {verdict}")
    console.print(f"each of the {deaths} deaths costs {slot_s * 1000:.0f} ms of a slot's time")
    return {
        "loss": loss,
        "slot_s": slot_s,
        "bad": not is_right or loss > MOST_LOSS,
        "seconds": [_seconds(alone), _seconds(beside)],
    }


def _is_right(found: Poisoned) -> bool:
    return (
        max(found.executions) <= MAX_CRASHES
        and found.executions.total() == found.letters == found.failed == BAD
        and found.good == GOOD
    )


def _seconds(found: list[Poisoned]) -> list[float]:
    return [one.seconds for one in found]


def lasting(count: int, console: Console) -> dict[str, Any]:
    """Run long nodes, one kind after the other."""
    table = Table(title=f"nodes of {LEASES} leases ({LEASE['lease_s']} s, renewed every {LEASE['renew_s']} s)")
    for column in ("", "nodes", "executed once", "more often", "run", "shortest", "took"):
        table.add_column(column, justify="right" if column else "left")
    is_bad, seconds = False, LEASES * LEASE["lease_s"]
    with fleet(2, [poisoned], concurrency=4, settings=LEASE) as context:
        for how, flow_type, share in KINDS:
            own = max(1, round(count * share))
            found = long(context, [how], own, seconds, flow_type)
            once = found.executions[1]
            is_bad |= found.executions != Counter({1: own}) or found.status is not FlowStatus.COMPLETED
            figures = (str(own), str(once), str(own - once), found.status.value)
            title = f"{how}, {flow_type.value}"
            table.add_row(title, *figures, f"{found.shortest:.1f} s", f"{found.seconds:.0f} s")
    console.print(table)
    return {"bad": is_bad}


def main(
    rounds: Annotated[int, typer.Option(help="Of the poison: with and without, in turn; 0: none.")] = 5,
    nodes: Annotated[int, typer.Option(help="Long nodes; 0: none.")] = LONG_NODES,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all of it there.")] = None,
) -> None:
    """Put poison among good nodes, run nodes that are far longer than a lease, and say what came of them."""
    console = Console(width=None if sys.stdout.isatty() else 130)
    seen = {}
    if rounds:
        seen["poison"] = poisoning(rounds, console)
    if nodes:
        seen["long"] = lasting(nodes, console)
    if json_file is not None:
        json_file.write_text(json.dumps(seen, indent=1) + "\n")
    if any(found["bad"] for found in seen.values()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
