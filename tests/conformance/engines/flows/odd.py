"""What people do sooner or later."""

from __future__ import annotations

from typing import Any

from flowq import flow, task


@task
def one(x: int) -> int:
    return x


# ── failures that are hard to write down ──────────────────────────────────────────────────────────────────────────────


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@task
def raises(what: str) -> None:
    raise {
        "half a character": ValueError("bad \ud800 text"),
        "no message": Unspeakable(),
        "a huge message": ValueError("x" * 5_000_000),
        "several": ExceptionGroup("some", [ValueError("a"), KeyError("b")]),
        "a base exception": GeneratorExit(),
        "an assertion": AssertionError("a | b, {c}"),
    }[what]


@flow
def failing(what: str) -> None:
    raises(what)


@task
async def streams():
    yield 1


@flow
def streaming():
    return streams()


# ── flows that are hardly any ─────────────────────────────────────────────────────────────────────────────────────────


@flow
def empty(x: int) -> None:
    pass


@flow
def gives_its_input(x: int):
    return x


@flow
def gives_a_constant() -> dict[str, Any]:
    return {"a": [1, None, "ü|,{}\u2028"], "": {}}


# ── values and names ──────────────────────────────────────────────────────────────────────────────────────────────────


@task
def counts(to: int):
    yield from range(to)


@task
def total(values: list[int]) -> int:
    return sum(values)


@flow
def generating(to: int) -> int:
    return total(counts(to))


@task
def by_number() -> dict[int, str]:
    return {1: "a", 2: "b"}


@task
def numbers_of(given: dict[int, str]) -> list[int]:
    return sorted(given)


@flow
def keyed_by_number() -> list[int]:
    return numbers_of(by_number())


@task
def huge() -> int:
    return 2**200


@task
def is_huge(x: int) -> bool:
    return x == 2**200


@flow
def huge_numbers() -> bool:
    return is_huge(huge())


@flow(name="fl|ow,{ü}:%s")
def named_oddly(x: int) -> int:
    return one.options(name="no|de,{é}:%d.1")(one.options(name="1.2")(x))


@task
def appends(values: list[int]) -> list[int]:
    values.append(1)
    return values


@task
def both(left: list[int], right: list[int]) -> list[list[int]]:
    return [left, right]


@flow
def changing_what_was_given() -> list[list[int]]:
    first = appends([0])
    return both(first, appends(first))


@task
def gives_nothing() -> None:
    return None


@task
def says(x: int | None) -> str:
    return repr(x)


@flow
def passing_none() -> str:
    return says(gives_nothing())


@task
def runs_another(x: int) -> Any:
    return generating.run(x).raise_for_status().output


@flow
def flow_in_a_processor(x: int) -> Any:
    return runs_another(x)
