"""How values are written and read back."""

import dataclasses
import datetime
import decimal
import enum
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import zstandard
from pydantic import BaseModel, Field

from flowq import CorruptValueError, OutputError, Record, ValueTooLargeError
from flowq.results.codec import (
    BYTES,
    COMPRESSED,
    JSON,
    compress,
    decode,
    decode_as,
    decompress,
    encode,
    json_of,
    list_of,
)


class Row(BaseModel):
    name: str
    size: float = 0.0


class Aliased(BaseModel):
    name: str = Field(alias="Name")


@dataclasses.dataclass
class Point:
    x: float
    y: float


class Color(enum.Enum):
    RED = "red"


AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    "value",
    [None, True, 0, -5, 2**70, 1.5, "", "text", "üñî\u2028\0", [], [1, [2]], {}, {"a": {"b": None}}, "x" * 100_000],
)
def test_plain_values_come_back(value):
    assert decode(encode(value)) == value
    assert encode(value)[:1] == JSON


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 0.1 + 0.2, 5e-324])
@pytest.mark.parametrize("annotation", [Any, float, "a list", "a model", "a dataclass"])
def test_every_float_comes_back(value, annotation):
    if annotation == "a list":
        came = decode_as(encode([value], list[float]), list[float])[0]
    elif annotation == "a model":
        came = decode_as(encode(Row(name="a", size=value), Row), Row).size
    elif annotation == "a dataclass":
        came = decode_as(encode(Point(value, 0), Point), Point).x
    else:
        came = decode_as(encode(value, annotation), annotation)
    assert repr(came) == repr(value)


def test_floats_in_what_has_no_annotation():
    assert repr(decode(encode({"a": [math.nan, Row(name="b", size=math.inf)]}))) == repr(
        {"a": [math.nan, {"name": "b", "size": math.inf}]}
    )


@pytest.mark.parametrize(
    ("value", "annotation"),
    [
        (Row(name="a", size=1.5), Row),
        (Aliased(Name="a"), Aliased),
        (Point(1, 2), Point),
        ([Row(name="a")], list[Row]),
        ({"a": Point(1, 2)}, dict[str, Point]),
        (AT, datetime.datetime),
        (AT.date(), datetime.date),
        (datetime.timedelta(days=1, microseconds=5), datetime.timedelta),
        (decimal.Decimal("0.10"), decimal.Decimal),
        (uuid.UUID(int=7), uuid.UUID),
        (Path("a/b"), Path),
        (Color.RED, Color),
        ({1, 2}, set[int]),
        ((1, "a"), tuple[int, str]),
        (None, Row | None),
        (b"\xff\0", bytes),
        (b"", bytes),
        (b"\xff", bytes | None),
    ],
)
def test_typed_values_come_back_as_their_types(value, annotation):
    came = decode_as(encode(value, annotation), annotation)
    assert came == value
    assert type(came) is type(value)


def test_objects_are_records():
    value = decode(encode({"a": {"b": [1]}}))
    assert type(value) is Record
    assert value.a.b == [1]


def test_models_without_annotation_are_plain_data():
    assert decode(encode(Row(name="a"))) == {"name": "a", "size": 0.0}
    assert decode(encode([AT])) == ["2026-01-02T03:04:05Z"]


def test_what_is_given_is_checked_against_the_annotation():
    assert decode(encode({"name": "a", "size": "1.5", "more": 1}, Row)) == {"name": "a", "size": 1.5}
    with pytest.raises(OutputError, match=r"breaks its type: field 'size': .*valid number.*change what is returned"):
        encode({"name": "a", "size": "many"}, Row)
    with pytest.raises(OutputError, match=r"field '1.name'"):
        encode([Row(name="a"), {}], list[Row])
    with pytest.raises(OutputError, match=r"field 'value'"):
        encode("many", int)


def test_raw_bytes_are_written_as_they_are():
    assert encode(b"\xff\0") == encode(bytearray(b"\xff\0")) == BYTES + b"\xff\0"
    assert decode(encode(b"\xff\0")) == b"\xff\0"


def test_bytes_for_whom_does_not_take_bytes():
    with pytest.raises(ValueError, match="int"):
        decode_as(encode(b"abc"), int)
    assert decode_as(encode(b"abc"), str) == "abc"


class Cyclic(list[Any]):
    pass


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [object(), lambda: 1, {"a": object()}, cyclic(), deep(5000), {"a": b"\xff"}, "\ud800", {(1, 2): object()}],
    ids=["object", "function", "inside", "cyclic", "deep", "bytes inside", "surrogate", "key"],
)
def test_what_cannot_be_written(value):
    with pytest.raises(OutputError, match=r"cannot be written as JSON.*return plain data"):
        encode(value)


# ── parts and lists ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_list_of_encoded_values():
    assert decode(list_of([encode(1), None, encode({"a": 2})])) == [1, None, {"a": 2}]
    assert decode(list_of([])) == []


@pytest.mark.parametrize("data", [BYTES + b"abc", b"", b"x", COMPRESSED + b"abc"])
def test_what_is_no_json_cannot_be_part_of_json(data):
    with pytest.raises(CorruptValueError, match="pass them to a parameter of their own"):
        json_of(data)


# ── compression ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [0, 1, 100, 1_000_000])
def test_what_was_compressed_is_unpacked(size):
    data = encode("ab" * size)
    assert decompress(compress(data), 10_000_000) == data


def test_it_is_compressed_only_if_that_pays():
    import os

    noise = encode(os.urandom(1000))
    assert compress(noise) is noise
    assert len(compress(encode("a" * 1000))) < 100


def test_a_bomb_is_not_unpacked():
    bomb = compress(JSON + b" " * 50_000_000)
    assert len(bomb) < 10_000
    with pytest.raises(ValueTooLargeError, match="50000001 bytes is over the limit of 1000000"):
        decompress(bomb, 1_000_000)


def test_a_bomb_that_does_not_say_its_size():
    stream = zstandard.ZstdCompressor().compressobj()
    bomb = COMPRESSED + stream.compress(b"j" + b" " * 5_000_000) + stream.flush()
    with pytest.raises(ValueTooLargeError):
        decompress(bomb, 1_000_000)


def test_a_bomb_that_lies_about_its_size():
    """The frame claims 10 bytes: no more than these are ever produced."""
    honest = zstandard.ZstdCompressor(write_content_size=True).compress(b"x" * 200)
    assert zstandard.frame_content_size(honest) == 200
    lie = bytearray(honest)
    position = lie.index(200, 4)
    lie[position] = 10
    with pytest.raises(CorruptValueError, match="cannot be unpacked"):
        decompress(COMPRESSED + bytes(lie), 1000)


def _damaged() -> Sequence[bytes]:
    whole = compress(encode("a" * 1000))
    assert whole[:1] == COMPRESSED
    return [COMPRESSED, COMPRESSED + b"garbage", whole[:-3], COMPRESSED + b"\0" * 20]


@pytest.mark.parametrize("data", _damaged())
def test_damaged_frames(data):
    with pytest.raises(CorruptValueError, match="cannot be unpacked"):
        decompress(data, 1_000_000)


def test_what_is_not_compressed_is_given_as_it_is():
    assert decompress(b"j1", 0) == b"j1"
