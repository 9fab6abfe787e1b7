"""Where a random test's decisions come from: hypothesis, which can shrink them, or a seed."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, TypeVar, cast

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Choose: TypeAlias = Callable[[int], int]
"""Gives one of 0 … n-1. Everything random is made of these; 0 is the plainest choice, towards which examples shrink."""

T = TypeVar("T")
Test = TypeVar("Test", bound=Callable[..., None])

THOROUGH = os.environ.get("FLOWQ_THOROUGH", "") not in ("", "0")
"""Many more examples, other ones in every run; by default always the same few."""

TIMEOUT_S = 7200 if THOROUGH else 120
"""Of one test."""

MOST_DRAWS = 1500
"""Decisions of one example; from then on all are the plainest, so that it ends."""


def examples(number: int) -> Callable[[Test], Test]:
    """Give the settings of a property: so many examples, twenty times as many under FLOWQ_THOROUGH=1."""
    chosen: Any = settings(
        max_examples=number * (20 if THOROUGH else 1),
        derandomize=not THOROUGH,
        deadline=None,
        database=None,
        print_blob=True,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    return cast("Callable[[Test], Test]", chosen)


@st.composite
def choices(draw: st.DrawFn) -> Choose:
    """Decisions that hypothesis makes and shrinks."""
    drawn = 0

    def choose(n: int) -> int:
        nonlocal drawn
        if n < 2 or drawn >= MOST_DRAWS:
            return 0
        drawn += 1
        return draw(st.integers(0, n - 1))

    return choose


def seeded(seed: int) -> Choose:
    """Decisions that are the same for a seed, whatever hypothesis does."""
    generator = random.Random(seed)
    return generator.randrange


def one_of(choose: Choose, options: Sequence[T]) -> T:
    return options[choose(len(options))]


def some_of(choose: Choose, options: Sequence[T], most: int) -> list[T]:
    """Take up to ``most`` different ones, in random order."""
    left = list(options)
    return [left.pop(choose(len(left))) for _ in range(min(choose(most + 1), len(left)))]
