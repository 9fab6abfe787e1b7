"""What the nodes do: the functions that every competitor runs, each under its own name."""

from __future__ import annotations

import os
import random
import string
import time
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

Work: TypeAlias = Literal["", "spin", "nap", "heavy", "mark"]
"""What a body does besides: nothing, 1 ms of processor time, 10 ms of sleep, 100 KB to take and to give, or marks."""

Mark: TypeAlias = list[float]
"""When a body began and ended, by the clock that all processes of a machine share, and in which process it ran."""

MODULO = 1_000_003
"""Values of layered graphs stay below it."""

SPIN_S = 0.001
NAP_S = 0.01
HEAVY_CHARACTERS = 100_000
DIGITS = 12
"""A heavy value begins with its number, in so many digits."""

# Neither all the same nor the same in every value's place of interest: compression gains a quarter, not everything.
_FILLER = "".join(random.Random(1).choices(string.ascii_letters + string.digits + "+/", k=HEAVY_CHARACTERS - DIGITS))


def inc(x: int, by: int = 1) -> int:
    return x + by


def one(number: int) -> int:
    return number


def total(numbers: list[int]) -> int:
    return sum(numbers)


def value(upstreams: list[int], number: int) -> int:
    """Be a node of a layered graph."""
    return (1 + number + sum(upstreams)) % MODULO


def spin_inc(x: int, by: int = 1) -> int:
    _spin()
    return x + by


def spin_one(number: int) -> int:
    _spin()
    return number


def spin_total(numbers: list[int]) -> int:
    _spin()
    return sum(numbers)


def nap_one(number: int) -> int:
    time.sleep(NAP_S)
    return number


def depth(upstreams: list[int], ms: int) -> int:
    """Sleep so long, and tell how many nodes a longest path to here has."""
    time.sleep(ms / 1000)
    return 1 + max(upstreams, default=0)


def heavy_inc(x: str, by: int = 1) -> str:
    return heavy(number_of(x) + by)


def heavy_one(number: int) -> str:
    return heavy(number)


def heavy_total(numbers: list[str]) -> str:
    return heavy(sum(map(number_of, numbers)))


def mark_inc(x: list[Mark], by: int = 0) -> list[Mark]:
    """Add a mark to those before; if a number is given, after 10 ms of sleep: nodes side by side take two workers."""
    began = time.monotonic()
    if by:
        time.sleep(NAP_S)
    return [*x, [began, time.monotonic(), os.getpid()]]


def mark_total(numbers: list[list[Mark]]) -> list[Mark]:
    """Give the marks that lead to a fork, one of each side, and an own one."""
    began = time.monotonic()
    sides = [marks[-1] for marks in numbers]
    return [*numbers[0][:-1], *sides, [began, time.monotonic(), os.getpid()]]


def heavy(number: int) -> str:
    """Give a number as a text of 100 KB."""
    return f"{number:0{DIGITS}d}{_FILLER}"


def number_of(value: int | str) -> int:
    """Give the number that a value is, heavy or not."""
    if isinstance(value, int):
        return value
    if len(value) != HEAVY_CHARACTERS:
        raise ValueError(f"a heavy value has {HEAVY_CHARACTERS} characters, not {len(value)}")
    return int(value[:DIGITS])


def _spin() -> None:
    until = time.thread_time() + SPIN_S
    while time.thread_time() < until:
        pass


BODIES: dict[str, Callable[..., Any]] = {
    body.__name__: body
    for body in (
        *(inc, one, total, value),
        *(spin_inc, spin_one, spin_total),
        *(nap_one, depth),
        *(heavy_inc, heavy_one, heavy_total),
        *(mark_inc, mark_total),
    )
}


def named(body: str, work: Work) -> str:
    """Give the name of a body that does some work besides."""
    return f"{work}_{body}" if work else body
