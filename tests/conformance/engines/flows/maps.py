"""Maps over lists known now, over an input, and over what an upstream returned."""

from __future__ import annotations

from flowq import Skip, flow, optional, task
from tests.conformance.engines.effects import note


@task
def numbers(count: int) -> list[int]:
    return list(range(count))


@task
def no_list(count: int):  # without annotation: that it is no list shows at run time alone
    return {"count": count}


@task
def double(item: int) -> int:
    return 2 * item


@task
def add(item: int, other: int, log: str | None = None) -> int:
    return item + other


@task
def picky(item: int, bad: list[int], skip: list[int]) -> int:
    if item in bad:
        raise ValueError(f"{item} is bad")
    if item in skip:
        raise Skip(f"{item} is not needed")
    return item


@task
def total(values: list[int]) -> int:
    return sum(values)


@task
def total_of_some(values: list[int | None] | None = None) -> list[int | None]:
    return [-1] if values is None else values


@task
def noted(item: int, log: str) -> int:
    note(log, "item", item)
    return item


@flow
def known_list() -> list[int]:
    return double.map([1, 2, 3])


@flow
def known_list_summed() -> int:
    return total(double.map([1, 2, 3]))


@flow
def list_in_the_input(items: list[int]) -> int:
    return total(double.map(items))


@flow
def run_time_list(count: int) -> int:
    return total(double.map(numbers(count)))


@flow
def many_noted(count: int, log: str) -> int:
    return total(noted.map(numbers(count), log=log))


@flow
def not_a_list(count: int) -> int:
    return total(double.map(no_list(count)))


@flow
def mixed_list(count: int) -> list[int]:
    return double.map([double(count), 5, double(count)])


@flow
def of_a_map(count: int) -> int:
    return total(double.map(double.map(numbers(count))))


@flow
def chained(count: int) -> int:
    first = total(double.map(numbers(count)))
    return total(add.map(numbers(count), first))


@flow
def with_required_total(count: int, bad: list[int], skip: list[int]) -> int:
    return total(picky.map(numbers(count), bad, skip))


@flow
def with_optional_total(count: int, bad: list[int], skip: list[int]) -> list[int | None]:
    return total_of_some(optional(picky.map(numbers(count), bad, skip)))


@flow
def map_as_output(count: int) -> list[int]:
    return double.map(numbers(count))


@task
def failing_numbers() -> list[int]:
    raise ValueError("no numbers today")


@flow
def over_a_failed_upstream() -> list[int | None]:
    return total_of_some(optional(double.map(failing_numbers())))


@task(flow_type="inline")
def double_inline(item: int) -> int:
    return 2 * item


@task(flow_type="thread")
def double_in_thread(item: int) -> int:
    return 2 * item


@flow
def placed_elsewhere(count: int) -> int:
    return total(double_inline.map(double_in_thread.map(numbers(count))))
