"""Which annotated output may feed which parameter: a table, and what pydantic itself says about its lines."""

from __future__ import annotations

import datetime
import decimal
import enum
import pathlib
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, Protocol, TypeVar, Union

import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, Field, RootModel, computed_field
from typing_extensions import TypeAliasType, TypedDict

from flowq.core.compatible import can_feed
from flowq.core.processor import EMPTY
from flowq.results.codec import decode_as, encode

T = TypeVar("T")
UserId = NewType("UserId", int)
Positive = Annotated[int, Field(gt=0)]
Unhashable = Annotated[int, []]


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Row(BaseModel):
    name: str
    size: float = 0.0


class WideRow(Row):
    more: int = 0


class SameShape(BaseModel):
    name: str
    size: int | None = None


class OtherShape(BaseModel):
    name: int


class NeedsMore(BaseModel):
    name: str
    more: str


class Aliased(BaseModel):
    name: str = Field(alias="Name")


class AliasedElsewhere(BaseModel):
    name: str = Field(validation_alias=AliasChoices("title", AliasPath("names", 0)))  # type: ignore[pydantic-alias]


class Computed(BaseModel):
    first: str

    @computed_field
    def name(self) -> str:
        return self.first


class Rows(RootModel[list[int]]):
    pass


class Box(BaseModel, Generic[T]):
    content: T


class Keys(TypedDict):
    name: str


class LooseKeys(TypedDict, total=False):
    name: str
    more: int


@dataclass
class Point:
    x: int
    y: int = 0
    tags: list[str] = field(default_factory=list)


@dataclass
class Named:
    name: str


class Pair(NamedTuple):
    left: int
    right: str


class Custom:
    pass


class MoreCustom(Custom):
    pass


class Unrelated:
    pass


class HasRead(Protocol):
    def read(self) -> bytes: ...


Ids = TypeAliasType("Ids", list[int])
AliasOfCustom = TypeAliasType("AliasOfCustom", Custom)

YES: list[tuple[Any, Any]] = [
    # what cannot be known passes
    (EMPTY, int),
    (int, EMPTY),
    (Any, int),
    (int, Any),
    (object, int),
    (int, object),
    (T, int),
    (int, T),
    ("Later", int),
    (Unhashable, str),
    # numbers
    (int, int),
    (int, float),
    (float, int),
    (bool, int),
    (int, bool),
    (bool, float),
    (float, bool),
    (Level, int),
    (int, Level),
    (UserId, int),
    (int, UserId),
    (Positive, int),
    (int, Positive),
    (int, decimal.Decimal),
    (float, decimal.Decimal),
    (decimal.Decimal, float),
    (decimal.Decimal, str),
    (str, decimal.Decimal),
    # text
    (str, str),
    (str, bytes),
    (bytes, str),
    (str, datetime.datetime),
    (datetime.date, str),
    (datetime.datetime, datetime.date),
    (float, datetime.timedelta),
    (int, datetime.datetime),
    (str, pathlib.Path),
    (pathlib.Path, str),
    (str, uuid.UUID),
    (Color, str),
    (str, Color),
    # None, unions, literals
    (None, None),
    (type(None), Optional[int]),  # noqa: UP045
    (int, Optional[int]),  # noqa: UP045
    (Optional[int], int),  # noqa: UP045
    (Union[int, str], str),  # noqa: UP007
    (str, int | str),
    (int | None, float | None),
    (Literal["a", "b"], str),
    (str, Literal["a"]),
    (Literal[1, "a"], int),
    (None, Literal[None, 1]),
    # lists and mappings
    (list, list[int]),
    (list[int], list),
    (list[int], list[float]),
    (list[int], set[int]),
    (list[int], tuple[int, ...]),
    (tuple[int, str], list[str]),
    (set[str], Sequence[str]),
    (Sequence[int], frozenset[int]),
    (list[Any], list[int]),
    (list[int | None], list[int]),
    (Iterator[int], list[int]),
    (Pair, list[int]),
    (dict, dict[str, int]),
    (dict[str, int], dict[str, float]),
    (dict[str, int], Mapping[str, int]),
    (Mapping[str, Any], dict[str, int]),
    (Rows, list[int]),
    (list[int], Rows),
    (Ids, list[int]),
    (list[int], Ids),
    (AliasOfCustom, Custom),
    # models, structurally
    (Row, Row),
    (WideRow, Row),
    (Row, SameShape),
    (SameShape, Row),
    (Row, dict),
    (dict, Row),
    (dict[str, Any], Row),
    (Row, Keys),
    (Keys, Row),
    (Keys, LooseKeys),
    (Row, Named),
    (Named, Row),
    (Point, dict[str, Any]),
    (Aliased, Aliased),
    (Aliased, Row),
    (Row, Aliased),
    (Row, AliasedElsewhere),
    (Point, AliasedElsewhere),
    (Computed, Keys),
    (Box[int], Box[float]),
    (list[Row], list[SameShape]),
    (list[Row], list[dict[str, Any]]),
    # classes of one's own
    (Custom, Custom),
    (MoreCustom, Custom),
    (Custom, MoreCustom),
    (Custom, str),
    (int, Custom),
    (Custom, HasRead),
]

NO: list[tuple[Any, Any]] = [
    (int, str),
    (str, int),
    (float, str),
    (str, float),
    (bool, str),
    (bytes, int),
    (uuid.UUID, int),
    (datetime.datetime, float),
    (datetime.date, int),
    (Color, int),
    (int, Color),
    (Level, str),
    (UserId, str),
    (Positive, str),
    (None, int),
    (int, None),
    (None, str | int),
    (str | bytes, int),
    (int, str | None),
    (Literal["a"], int),
    (int, Literal["a"]),
    (list[int], int),
    (int, list[int]),
    (str, list[str]),
    (list[str], str),
    (list[int], dict[str, int]),
    (dict[str, int], list[int]),
    (list[str], list[int]),
    (set[str], list[int]),
    (tuple[str, ...], list[int]),
    (list[list[int]], list[int]),
    (list[int], list[list[int]]),
    (dict[str, str], dict[str, int]),
    (dict[str, list[int]], dict[str, int]),
    (Rows, list[str]),
    (Rows, dict),
    (Ids, list[str]),
    (AliasOfCustom, Unrelated),
    (Row, OtherShape),
    (OtherShape, Row),
    (Row, NeedsMore),
    (Row, str),
    (str, Row),
    (Row, list[Any]),
    (list[Row], Row),
    (Row, list[Row]),
    (list[Row], list[OtherShape]),
    (LooseKeys, OtherShape),
    (Point, Row),
    (Row, Point),
    (Named, OtherShape),
    (Computed, OtherShape),
    (Box[int], Box[str]),
    (Box[Row], Box[OtherShape]),
    (Custom, Unrelated),
]


def name(pair: tuple[Any, Any]) -> str:
    return " -> ".join(getattr(kind, "__qualname__", str(kind)) for kind in pair)


@pytest.mark.parametrize(("source", "target"), YES, ids=map(name, YES))
def test_it_can_feed(source, target):
    assert can_feed(source, target)


@pytest.mark.parametrize(("source", "target"), NO, ids=map(name, NO))
def test_it_cannot_feed(source, target):
    assert not can_feed(source, target)


EXAMPLES: list[tuple[Any, list[Any]]] = [
    (int, [0, 1, 5]),
    (float, [0.0, 1.5]),
    (bool, [True]),
    (str, ["", "a", "red", "2026-01-02", "1.5", "00000000-0000-0000-0000-000000000000"]),
    (bytes, [b"a"]),
    (decimal.Decimal, [decimal.Decimal("1.5")]),
    (datetime.datetime, [datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)]),
    (datetime.date, [datetime.date(2026, 1, 2)]),
    (datetime.timedelta, [datetime.timedelta(seconds=3)]),
    (uuid.UUID, [uuid.uuid4()]),
    (pathlib.Path, [pathlib.Path("a/b")]),
    (Color, [Color.RED]),
    (Level, [Level.LOW]),
    (None, [None]),
    (list[int], [[1]]),
    (list[str], [["a"]]),
    (set[int], [{1}]),
    (dict[str, int], [{"a": 1}]),
    (Rows, [Rows([1])]),
    (Row, [Row(name="a")]),
    (SameShape, [SameShape(name="a")]),
    (OtherShape, [OtherShape(name=1)]),
    (NeedsMore, [NeedsMore(name="a", more="b")]),
    (Aliased, [Aliased(Name="a")]),
    (Computed, [Computed(first="a")]),
    (Keys, [{"name": "a"}]),
    (Point, [Point(1, 2)]),
    (Named, [Named("a")]),
    (Box[int], [Box[int](content=1)]),
]


TEXT_FIRST = (str, bytes, datetime.datetime, datetime.date, datetime.timedelta, uuid.UUID, pathlib.Path)
"""Refused for numbers and the like, though some strings would do: that is what the check is for."""


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example[0]))
def test_what_goes_through_is_not_refused(example):
    """Send values along every edge between these types: if one arrives, the check must not have said no."""
    source, values = example
    wrong = []
    for target, _ in EXAMPLES:
        for value in values:
            try:
                decode_as(encode(value, source), target)
            except ValueError:
                continue
            if not can_feed(source, target) and source not in TEXT_FIRST:
                wrong.append((target, value))
    assert wrong == []
