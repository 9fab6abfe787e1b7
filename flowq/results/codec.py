"""How values are written: validated, as JSON by pydantic (bytes as they are), compressed when large. Never pickle.

An encoded value is one byte that says what follows, then that:

====  ========================================================================================================
byte  what follows
====  ========================================================================================================
j     JSON
b     the bytes themselves
z     a zstandard frame with its content size; inside, an encoded value
r     a reference, JSON: ``{"digest": …, "size": …}``; the value lies in the results store under its digest, or under
      the ``"name"`` that stands there, too
====  ========================================================================================================
"""

from __future__ import annotations

import contextlib
from typing import Any

import zstandard
from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, from_json, to_json

from flowq.core.errors import CorruptValueError, OutputError, ValueTooLargeError
from flowq.core.processor import EMPTY, adapter
from flowq.core.result import Record

JSON, BYTES, COMPRESSED, REFERENCE = b"j", b"b", b"z", b"r"
NONE = b"jnull"


def encode(value: Any, annotation: Any = EMPTY) -> bytes:
    """Check a value against its annotation and encode it.

    Raises:
        OutputError: it breaks the annotation, or is nothing that JSON can hold.
    """
    if isinstance(value, (bytes, bytearray)):
        return BYTES + bytes(value)
    if annotation is EMPTY or annotation is Any:
        return JSON + _dump(adapter(EMPTY), value)
    kind = adapter(annotation)
    try:
        checked = kind.validator.validate_python(value)
    except ValueError as error:
        raise OutputError(
            f"the output breaks its type: {_explain(error)}; change what is returned, or the annotation"
        ) from error
    if isinstance(checked, bytes):
        return BYTES + checked
    return JSON + _dump(kind, checked)


def decode(data: bytes) -> Any:
    """Give the plain value; JSON objects become Records."""
    if data[:1] == BYTES:
        return data[1:]
    value = from_json(json_of(data))
    return Record(value) if type(value) is dict else value


def decode_as(data: bytes, annotation: Any) -> Any:
    """Give the value as the annotation's type; plain, if there is none.

    Raises:
        ValueError: it does not fit (pydantic's ValidationError).
    """
    if annotation is EMPTY or annotation is Any:
        return decode(data)
    validator = adapter(annotation).validator
    if data[:1] == BYTES:
        return validator.validate_python(data[1:])
    return validator.validate_json(json_of(data), by_alias=True, by_name=True)  # values are written by name


def json_of(data: bytes) -> bytes:
    """Give an encoded value's JSON.

    Raises:
        CorruptValueError: it is not JSON (bytes cannot stand inside a list or object).
    """
    if data[:1] != JSON:
        raise CorruptValueError("raw bytes cannot be part of a JSON value: pass them to a parameter of their own")
    return data[1:]


def list_of(values: list[bytes | None]) -> bytes:
    """Encode the list of a map's outputs; None: the item has none."""
    return JSON + b"[" + b",".join(b"null" if value is None else json_of(value) for value in values) + b"]"


def compress(data: bytes) -> bytes:
    """Compress an encoded value; give it unchanged if that does not pay."""
    packed = COMPRESSED + zstandard.ZstdCompressor(level=3).compress(data)
    return packed if len(packed) < len(data) else data


def decompress(data: bytes, limit: int) -> bytes:
    """Undo ``compress``; nothing larger than ``limit`` bytes is ever unpacked.

    Raises:
        CorruptValueError: it cannot be unpacked.
        ValueTooLargeError: it says that it is larger than the limit.
    """
    if data[:1] != COMPRESSED:
        return data
    frame = data[1:]
    try:
        size = zstandard.frame_content_size(frame)
        if size < 0 or size > limit:
            raise ValueTooLargeError(f"a compressed value of {size} bytes is over the limit of {limit}")
        return zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except zstandard.ZstdError as error:
        raise CorruptValueError(f"a compressed value cannot be unpacked: {error}") from error


def _dump(kind: TypeAdapter[Any], value: Any) -> bytes:
    try:
        data = kind.serializer.to_json(value)
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise OutputError(
            f"the output ({type(value).__name__}) cannot be written as JSON: {error}; return plain data, a pydantic"
            " model or a dataclass, or annotate the return type"
        ) from error
    if b"null" in data:  # it may stand for NaN or an infinity, which are values of float like any other
        with contextlib.suppress(ValueError):
            exact = to_json(kind.dump_python(value), inf_nan_mode="constants")
            if b"NaN" in exact or b"Infinity" in exact:
                return exact
    return data


def _explain(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return str(error)
    parts = (f"field {'.'.join(map(str, e['loc'])) or 'value'!r}: {e['msg']}" for e in errors()[:3])
    return "; ".join(parts)
