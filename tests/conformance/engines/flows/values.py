"""Values of every kind on their way between steps, and those that cannot go."""

from __future__ import annotations

import asyncio
import datetime
import math
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, Field

from flowq import DependencyData, Flow, FlowConfig, FlowType, flow, task


class Row(BaseModel):
    name: str
    size: float
    at: datetime.datetime | None = None


class Table(BaseModel):
    rows: list[Row]


@dataclass
class Point:
    x: int
    y: int


# ── function form: typed outputs ──────────────────────────────────────────────────────────────────────────────────────


@task
def table(names: list[str]) -> Table:
    at = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)
    return Table(rows=[Row(name=name, size=len(name), at=at) for name in names])


@task
def largest(given: Table) -> Row:
    assert isinstance(given, Table)
    assert isinstance(given.rows[0].at, datetime.datetime)
    return max(given.rows, key=lambda row: row.size)


@task
def point(x: int) -> Point:
    return Point(x, -x)


@task
def mirrored(given: Point) -> Point:
    assert isinstance(given, Point)
    return Point(given.y, given.x)


@flow
def typed_model(names: list[str]) -> Row:
    return largest(table(names))


@flow
def typed_dataclass(x: int) -> Point:
    return mirrored(point(x))


@flow
def typed_list(names: list[str]) -> list[Row]:
    return row_of.map(names)


@task
def row_of(name: str) -> Row:
    return Row(name=name, size=len(name))


@task
def shifted(item: int, by: int = 10, factor: float = 1.0) -> float:
    return item * factor + by


@flow
def with_defaults(item: int) -> float:
    return shifted(item, factor=2)


# ── plain, special, large ─────────────────────────────────────────────────────────────────────────────────────────────


@task
def special_numbers() -> list[float]:
    return [math.nan, math.inf, -math.inf, -0.0, 0.1 + 0.2, 2.0**60]


@task
def described(values: list[float]) -> list[str]:
    return [repr(value) for value in values]


@flow
def specials() -> list[str]:
    return described(special_numbers())


@task
def some_bytes(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + b"\xff\x00" * (size % 256)


@task
def reversed_bytes(data: bytes) -> bytes:
    assert isinstance(data, bytes)
    return data[::-1]


@flow
def of_bytes(size: int) -> bytes:
    return reversed_bytes(some_bytes(size))


@task
def large(size: int) -> list[int]:
    """Give what compresses badly."""
    state, values = 1, []
    for _ in range(size):
        state = state * 6364136223846793005 % 2**63
        values.append(state)
    return values


@task
def checksum(values: list[int], other: list[int]) -> int:
    assert values == other
    return sum(values) % 2**31


@flow
def of_large_values(size: int) -> int:
    return checksum(large(size), large.options(name="again")(size))


@task
def item_size(item: str) -> int:
    return len(item)


@task
def strings(size: int, count: int) -> list[str]:
    return ["".join(chr(33 + (i * 7919 + k * k) % 90) for k in range(size)) for i in range(count)]


@flow
def of_large_items(size: int, count: int) -> list[int]:
    return item_size.map(strings(size, count))


@task
def joined(parts: list[str]) -> int:
    return len("".join(parts))


@flow
def of_large_input(text: str) -> int:
    return joined([echo(text)])


@task
def echo(text: str) -> str:
    return text


@task
def hidden_bytes(x: int):
    return bytes([x, 255])


@flow
def map_of_hidden_bytes(xs: list[int]):
    return hidden_bytes.map(xs)


@flow
def list_of_hidden_bytes(x: int):
    return [hidden_bytes(x), x]


# ── what cannot be stored ─────────────────────────────────────────────────────────────────────────────────────────────


@task
def an_object():
    return object()


@task
def broken_model() -> Table:
    return {"rows": [{"name": "a"}]}  # type: ignore[return-value]


@task
def too_large(size: int) -> list[int]:
    return large.function(size)


@task
def unlike_its_annotation():
    return {"text": "no number"}


@task
def takes_a_number(number: int) -> int:
    return number


@flow
def unserialisable() -> Any:
    return an_object()


@flow
def breaks_its_model() -> Table:
    return broken_model()


@flow
def oversized(size: int) -> list[int]:
    return too_large(size)


@flow
def misfit() -> int:
    return takes_a_number(unlike_its_annotation())


class Model(BaseModel):
    """A class whose output breaks its Output."""

    class Input(BaseModel):
        count: int

    class Output(BaseModel):
        count: int = Field(le=10)

    def process(self, input_data):
        return {"count": input_data.count}


# ── class form: inputs, sync and async dependencies ───────────────────────────────────────────────────────────────────


class Load(BaseModel):
    class Input(BaseModel):
        path: str
        limit: int = 3

    class Output(BaseModel):
        rows: list[float]

    def process(self, input_data: Input) -> Output:
        return self.Output(rows=[float(len(input_data.path))] * input_data.limit)


class AsyncLoad(Load):
    async def process(self, input_data: Load.Input) -> Load.Output:  # type: ignore[override]
        await asyncio.sleep(0.01)
        return super().process(input_data)


class Stats(BaseModel):
    """Takes its rows from the upstream that has such a field."""

    class Input(BaseModel):
        rows: list[float]

    class Output(BaseModel):
        mean: float

    def process(self, input_data: Input) -> dict[str, float]:
        return {"mean": sum(input_data.rows) / len(input_data.rows)}


class SyncReport:
    """A plain object; reads its dependencies as a mapping."""

    def __init__(self, title: str) -> None:
        self.title = title

    def process(self, input_data, dependencies: DependencyData):
        assert set(dependencies) == {"load", "stats"}
        assert len(dependencies) == 2
        return {
            "title": self.title,
            "path": input_data.path,
            "rows": dict(dependencies)["load"].rows,
            "mean": dependencies["stats"]["mean"],
        }


class AsyncReport(BaseModel):
    """Awaits its dependencies."""

    title: str

    async def process(self, input_data: dict[str, Any], dependencies: DependencyData) -> dict[str, Any]:
        everything = await dependencies.get_all()
        assert set(everything) == {"load", "stats"}
        load = await dependencies.get("load")
        return {
            "title": self.title,
            "path": input_data["path"],
            "rows": load["rows"],
            "mean": everything["stats"].mean,
        }


def report(placement: FlowType, *, is_async: bool) -> Flow:
    processor = AsyncReport(title="t") if is_async else SyncReport("t")
    end = Flow(processor, FlowConfig(name="report", flow_type=placement))
    load = Flow(AsyncLoad() if is_async else Load(), FlowConfig(name="load", flow_type=placement))
    stats = Flow(Stats(), FlowConfig(name="stats", flow_type=placement))
    load.register_to(end)
    stats.register_to(end, required_deps=[load.process_id])
    return end
