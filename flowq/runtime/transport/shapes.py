"""The shapes that messages must have: what kombu and Celery read of them, and of which types.

Celery reads headers where an error ends the worker: while it takes a message, in timers, in the callbacks of its pool.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from celery.app.task import Context
from celery.utils.time import maybe_iso8601, maybe_make_aware

from flowq.core.errors import FlowqError


class Malformed(FlowqError):
    """A message that nobody can use; the text says why."""


def check_properties(properties: Mapping[str, Any], headers: Mapping[str, Any]) -> None:
    """Check what every message has."""
    if not isinstance(properties.get("delivery_tag"), str | int):
        raise Malformed("no delivery_tag")
    _check(properties, _PROPERTIES, "property")
    _check(properties.get("delivery_info") or {}, _DELIVERY_INFO, "delivery_info")
    for names in (properties, headers):
        for value in names.values():
            if isinstance(value, str) and not value.isascii():
                value.encode()  # half a surrogate pair cannot be logged, stored or sent on


def check_task(headers: Mapping[str, Any], content: Any) -> None:
    """Check a task of Celery's, of either protocol; anything else is left to its consumer."""
    if "task" in headers:
        fields = headers
    elif isinstance(content, dict) and "task" in content:
        fields = content  # protocol 1
    else:
        return
    for name in ("task", "id"):
        if not isinstance(fields.get(name), str) or not fields[name]:
            raise Malformed(f"a task without {name}")
    _check(fields, _TASK, "header")
    _check(fields, _EMBED, "header")
    if clash := _RESERVED.intersection(headers):
        raise Malformed(f"a header is called {min(clash)!r}, as something of Celery's")
    if isinstance(content, dict) and (fields is content or "args" in content):
        _check_call(content.get("args", ()), content.get("kwargs", {}), content)
    elif isinstance(content, list | tuple) and len(content) == 3:
        args, kwargs, embed = content
        if not isinstance(embed, dict | None):
            raise Malformed("the third part of the body is no JSON object")
        if unknown := set(embed or ()) - _EMBED.keys():
            raise Malformed(f"the third part of the body has {min(unknown)!r:.50}")
        _check_call(args, kwargs, embed or {})
    else:
        raise Malformed("the body is not [args, kwargs, embed]")


def _check_call(args: Any, kwargs: Any, embed: Mapping[str, Any]) -> None:
    if not isinstance(args, list | tuple):
        raise Malformed("args is no list")
    if not isinstance(kwargs, dict):
        raise Malformed("kwargs is no JSON object")
    _check(embed, _EMBED, "part of the body")


def _check(fields: Any, checks: Mapping[str, Callable[[Any], bool]], what: str) -> None:
    if not isinstance(fields, Mapping):
        raise Malformed(f"{what} is no JSON object")
    for name, fits in checks.items():
        value = fields.get(name)
        if value is not None and not fits(value):
            raise Malformed(f"the {what} {name} cannot be {value!r:.100}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and 0 <= value < 2**53


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_duration(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value < 2**31)


def _is_pair_of_durations(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) in (0, 2) and all(map(_is_duration, value))


def _is_time(value: Any) -> bool:
    if not isinstance(value, str | datetime) or not value:
        return False
    try:
        time = maybe_make_aware(maybe_iso8601(value), UTC)
        return 0 <= time.timestamp() < 2**35 and bool(time.astimezone())
    except (ValueError, OverflowError, TypeError):
        return False


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(part, str) for part in value)


def _is_signature(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("task"), str)


def _is_signatures(value: Any) -> bool:
    return _is_signature(value) or (isinstance(value, list | tuple) and all(map(_is_signature, value)))


_PROPERTIES = {
    "correlation_id": _is_text,
    "reply_to": _is_text,
    "delivery_info": _is_object,
    "priority": _is_number,
}
_DELIVERY_INFO = {"exchange": _is_text, "routing_key": _is_text}
_TASK = {
    "eta": _is_time,
    "expires": _is_time,
    "retries": _is_count,
    "timelimit": _is_pair_of_durations,
    "group": _is_text,
    "group_index": _is_count,
    "root_id": _is_text,
    "parent_id": _is_text,
    "shadow": _is_text,
    "argsrepr": _is_text,
    "kwargsrepr": _is_text,
    "replaced_task_nesting": _is_count,
    "stamped_headers": _is_texts,
    "stamps": _is_object,
}
_EMBED = {"callbacks": _is_signatures, "errbacks": _is_signatures, "chain": _is_signatures, "chord": _is_signature}
_RESERVED = frozenset(name for name in dir(Context) if callable(getattr(Context, name)))
"""Methods of the object that Celery makes of the headers: a header of the same name would hide it."""
