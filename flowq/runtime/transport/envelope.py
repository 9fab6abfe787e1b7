"""What lies in a queue, opened: bytes from anybody, of any shape, become a message or a reason why not.

Everything is bounded (size, depth, decompression), and nothing here can raise anything but ``Malformed``: what the
consumer does with a message later must not be able to fail on its shape.
"""

from __future__ import annotations

import binascii
import codecs
import re
from typing import Any, NamedTuple

from kombu import serialization
from kombu.utils import json

from flowq.runtime.transport.inflate import decompressed
from flowq.runtime.transport.shapes import Malformed, check_properties, check_task

MAX_DEPTH = 300
"""Levels of nesting. Celery pickles what it has decoded, and Python's stack ends at some 900 levels of that."""

DEATH = b"\t"
"""Stands before a message once for each consumer that has died with it in its hands; JSON allows it there."""

_JSON = "application/json"
_BYTES_AS_THEY_ARE = ("binary", "ascii-8bit")  # kombu's words for "do not decode"


class Taken(NamedTuple):
    """A message that was taken from its list: its bytes, the list, and where it lies now."""

    raw: bytes
    source: str
    held: str

    @property
    def deaths(self) -> int:
        """How many of its consumers have died lately."""
        return len(self.raw) - len(self.raw.lstrip(DEATH))


class Payload(dict[str, Any]):
    """A message as kombu's virtual channels pass it on, with its body decoded."""

    taken: Taken
    content: Any
    """What the body says, if it is JSON; else UNREAD."""


UNREAD = object()

_loads: Any = json.loads  # kombu's: with types of its own, such as datetime
_decode: Any = serialization.loads


def open_envelope(taken: Taken, max_bytes: int) -> Payload:
    """Open a message.

    Raises:
        Malformed: it says why the message cannot be used.
    """
    try:
        return _open(taken, max_bytes)
    except Malformed:
        raise
    except RecursionError:
        raise Malformed("nested too deeply") from None
    except Exception as error:  # a decoder's own: kombu's JSON has types of its own, with constructors
        raise Malformed(f"{type(error).__name__}: {error}") from None


def _open(taken: Taken, max_bytes: int) -> Payload:
    raw = taken.raw
    if len(raw) > max_bytes:
        raise Malformed(f"{len(raw)} bytes, more than the {max_bytes} that are read")
    _check_depth(raw)
    envelope: Any = _loads(raw)
    if not isinstance(envelope, dict):
        raise Malformed(f"the envelope is no JSON object but {type(envelope).__name__}")
    properties, headers = envelope.get("properties"), envelope.get("headers")
    if headers is None:
        headers = {}
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        raise Malformed("no properties" if properties is None else "properties and headers must be JSON objects")
    check_properties(properties, headers)
    if taken.deaths:  # marked as kombu does
        headers["redelivered"] = True
        properties["delivery_info"] = {**(properties.get("delivery_info") or {}), "redelivered": True}
    kind, encoding = _text(envelope, "content-type"), _text(envelope, "content-encoding")
    if encoding is not None and encoding.lower() not in _BYTES_AS_THEY_ARE:
        _check_encoding(encoding)
    body = _body(envelope.get("body"), properties, headers, max_bytes)
    opened = Payload(
        {
            "body": body,
            "content-type": kind,
            "content-encoding": encoding,
            "headers": {name: value for name, value in headers.items() if name != "compression"},
            "properties": {name: value for name, value in properties.items() if name != "body_encoding"},
        }
    )
    opened.taken, opened.content = taken, UNREAD
    if kind == _JSON and body:
        _check_depth(body)
        opened.content = _decode(body, kind, encoding, force=True)
        check_task(headers, opened.content)
    elif "task" in headers:
        check_task(headers, ([], {}, {}))  # the body is for whoever can read it
    return opened


def _text(envelope: dict[str, Any], name: str) -> str | None:
    value = envelope.get(name)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"{name} is no string")
    return value


def _check_encoding(encoding: str) -> None:
    try:
        codecs.lookup(encoding)
    except (LookupError, ValueError):
        raise Malformed(f"unknown content-encoding {encoding!r:.50}") from None


def _body(body: Any, properties: dict[str, Any], headers: dict[str, Any], max_bytes: int) -> bytes:
    if body is None:
        return b""
    if not isinstance(body, str):
        raise Malformed(f"the body is no string but {type(body).__name__}")
    encoding = properties.get("body_encoding")
    if encoding is None or encoding == "" or (isinstance(encoding, str) and encoding.lower() == "utf-8"):
        found = body.encode()
    elif encoding == "base64":
        try:
            found = binascii.a2b_base64(body.encode(), strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise Malformed(f"the body is no base64: {error}") from None
    else:
        raise Malformed(f"unknown body_encoding {encoding!r:.50}")
    compression = headers.get("compression")
    return decompressed(found, compression, max_bytes) if compression else found


def _check_depth(text: bytes) -> None:
    """See that JSON is not nested deeper than whoever handles it can follow; cheap unless it has many brackets."""
    if text.count(b"[") + text.count(b"{") <= MAX_DEPTH:
        return
    depth = 0
    for found in _BRACKETS.finditer(text):
        bracket = found.group()
        if bracket in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise Malformed(f"nested deeper than {MAX_DEPTH} levels")
        elif bracket in (b"]", b"}"):
            depth -= 1


_BRACKETS = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
"""Strings and brackets of JSON; strings, so that the brackets in them do not count."""
