"""What may lie in a queue besides messages: a few thousand ways to be wrong, drawn cheaply."""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

Choose = Callable[[Sequence[Any]], Any]
"""Draws one of several."""

NOW = "2026-01-01T00:00:00+00:00"

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 0.5, -1e308, float("nan"), float("inf"), 2**31, 2**63, 10**400, "", "x", "\x00", "0",
    "ä" * 300, "\ud800", NOW, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-01", "flowq.drain",
    "celery.chord_unlock", [], [1], ["a", "b"], [None, None], [0.5, "x"], [1, 2, 3], {}, {"a": 1}, {"task": "x"},
    [{"task": "celery.chain", "args": 1}], {"__type__": "datetime", "__value__": NOW}, [[[[[[]]]]]],
    {"__type__": "datetime", "__value__": []}, {"__type__": "uuid", "__value__": {"hex": "0" * 32}},
    {"__type__": "base64", "__value__": "?"}, {"__type__": [], "__value__": 1},
    {"__type__": "decimal", "__value__": "NaN"},
]  # fmt: skip
"""In the place of anything."""

NAMES = [
    "get",
    "update",
    "compression",
    "errbacks",
    "callbacks",
    "chain",
    "chord",
    "args",
    "hostname",
    "\x00",
    "stamps",
]
"""Of headers that nobody has sent."""


def envelope(queue: str, number: int, task: str = "flowq.drain") -> dict[str, Any]:
    """Give a message as Celery would send it, with its body as the text that it will be."""
    name = f"garbage-{number}"
    return {
        "body": [[queue, name], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py", "task": task, "id": name, "shadow": None, "eta": None, "expires": None, "group": None,
            "group_index": None, "retries": 0, "timelimit": [None, None], "root_id": name, "parent_id": None,
            "argsrepr": "", "kwargsrepr": "{}", "origin": "x", "ignore_result": True, "replaced_task_nesting": 0,
            "stamped_headers": None, "stamps": {},
        },
        "properties": {
            "correlation_id": name, "reply_to": "none", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_info": {"exchange": "", "routing_key": queue}, "delivery_tag": name,
        },
    }  # fmt: skip


def written(message: Any) -> bytes:
    """Give the bytes of a message whose body, if it is no text yet, is encoded as its properties say."""
    if isinstance(message, dict) and not isinstance(message.get("body"), str | None):
        properties = message.get("properties")
        text = json.dumps(message["body"])
        encoded = isinstance(properties, dict) and properties.get("body_encoding") == "base64"
        message = {**message, "body": base64.b64encode(text.encode()).decode() if encoded else text}
    return json.dumps(message).encode()


def bomb(compression: str, size: int) -> dict[str, Any]:
    """Give a message whose body becomes very large."""
    compress: Any = {"zlib": zlib.compress, "bzip2": bz2.compress, "lzma": partial(lzma.compress, preset=0)}[
        compression
    ]
    message = envelope("q", 0)
    message["headers"]["compression"] = compression
    message["body"] = base64.b64encode(compress(b'[["' + b"a" * size + b'"],{},{}]')).decode()
    return message


_BOMBS = [written(bomb(compression, 20_000_000)) for compression in ("zlib", "bzip2", "lzma")]
_PLAIN = [
    b"", b"\x00", b"\xff\xfe", b"null", b"1", b'"text"', b"[]", b"{}", b"[1, 2]", b"{", b"NaN", b"not json",
    b'{"body": 1}', b'{"properties": {}}', b'{"properties": []}', b"[" * 2000 + b"]" * 2000, b"[" * 100_000,
    b'{"a":' * 5000 + b"1" + b"}" * 5000, b'{"a":"' + b"\\" * 500 + b"[" * 500, "ä".encode("utf-16"), b"1" * 5000,
]  # fmt: skip


def garbage(choose: Choose, queue: str, number: int) -> bytes:
    """Draw an item: mostly a message that is wrong in one or two places."""
    kind = choose(range(20))
    if kind == 0:
        return bytes(choose(_PLAIN))
    if kind == 1:
        return bytes(choose(range(256)) for _ in range(choose(range(40))))
    if kind == 2 and choose(range(10)) == 0:
        return bytes(choose(_BOMBS))
    message = envelope(queue, number, choose(["flowq.drain", "flowq.drain", "celery.chord_unlock", "nobody.knows.it"]))
    for _ in range(choose([1, 1, 2])):
        _break(choose, message)
    raw = written(message)
    if kind == 3:
        place = choose(range(len(raw)))
        return raw[:place] + bytes([choose(range(256))]) + raw[place + choose([0, 1, 10]) :]
    return raw[: choose(range(len(raw)))] if kind == 4 else raw


def _break(choose: Choose, message: dict[str, Any]) -> None:
    headers = message.get("headers")
    at: Any = choose([message, headers, headers]) if isinstance(headers, dict) else message
    while True:
        places = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not places:
            return
        place = choose(places)
        inner = at[place]
        if isinstance(inner, dict | list) and inner and choose(range(4)):
            at = inner
            continue
        break
    how = choose(["replace", "replace", "remove", "add", "nest"])
    if how == "replace":
        at[place] = deepcopy(choose(VALUES))
    elif how == "remove":
        del at[place]
    elif how == "nest":
        at[place] = _nested(choose([5, 150, 290, 320, 500]))
    elif isinstance(at, dict):
        at[choose(NAMES)] = deepcopy(choose(VALUES))
    else:
        at.insert(0, deepcopy(choose(VALUES)))


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value
