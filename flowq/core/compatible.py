"""Can what one function returns feed what another one takes?

Values travel as JSON and are validated by pydantic on arrival, so the question is not subtyping but: is there any value
of the one type that the other accepts? Only a certain *no* is an error; what cannot be known (Any, type variables,
custom types) passes and is checked at run time.
"""

from __future__ import annotations

import collections.abc as abc
import datetime
import decimal
import enum
import pathlib
import types
import typing
import uuid
from dataclasses import MISSING, fields, is_dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from pydantic import BaseModel, RootModel

from flowq.core.processor import EMPTY

_TEXT = (str, pathlib.PurePath, uuid.UUID, bytes)
_MOMENTS = (datetime.date, datetime.time, datetime.timedelta)
_LISTS = (list, tuple, set, frozenset, abc.Sequence, abc.Iterable, abc.Collection, abc.Set)
_NUMBERS = ("bool", "number", "float", "decimal")
_ACROSS = {
    *((source, target) for source in _NUMBERS for target in _NUMBERS),
    *(("decimal", "text"), ("text", "decimal"), ("text", "moment"), ("moment", "text")),
    *(("number", "moment"), ("float", "moment"), ("decimal", "moment")),
}
"""Shapes, as _shape names them, of which the one may be read as the other."""
_MAPS = (dict, abc.Mapping, abc.MutableMapping)


def can_feed(source: Any, target: Any) -> bool:
    """Tell whether a value annotated as ``source`` may be accepted where ``target`` is asked for."""
    try:
        return _can_feed(source, target)
    except TypeError:  # an unhashable annotation, such as Annotated[int, []]
        return True


@lru_cache(maxsize=65536)
def _can_feed(source: Any, target: Any) -> bool:
    source, target = _plain(source), _plain(target)
    if source == target or _is_open(source) or _is_open(target):
        return True
    if _is_union(source):
        return any(can_feed(member, target) for member in typing.get_args(source))
    if _is_union(target):
        return any(can_feed(source, member) for member in typing.get_args(target))
    if _is_literal(source):
        return any(can_feed(type(value), target) for value in typing.get_args(source))
    if _is_literal(target):
        return any(can_feed(source, type(value)) for value in typing.get_args(target))
    if source is None or target is None:
        return source is target
    fields = _fields(source), _fields(target)
    if fields[0] is not None and fields[1] is not None:
        return _is_subclass(source, target) or _fields_feed(fields[0], fields[1])
    return _shapes_feed(source, target)


def _shapes_feed(source: Any, target: Any) -> bool:
    from_shape, to_shape = _shape(source), _shape(target)
    if "other" in (from_shape, to_shape):  # custom classes: two unrelated ones cannot feed each other, else who knows
        return from_shape != to_shape or _is_subclass(source, target) or _is_subclass(target, source)
    if from_shape != to_shape:
        return (from_shape, to_shape) in _ACROSS
    if from_shape == "list":
        return _items_feed(_item(source), _item(target))
    if from_shape == "map":
        return _items_feed(_values(source), _values(target))
    return True


def _items_feed(source: Any, target: Any) -> bool:
    return source is EMPTY or target is EMPTY or can_feed(source, target)


def _plain(annotation: Any) -> Any:
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # typing's, or that of typing_extensions
            annotation = annotation.__value__
        elif isinstance(annotation, type) and issubclass(annotation, RootModel) and annotation is not RootModel:
            annotation = annotation.model_fields["root"].annotation
        elif annotation is type(None):
            return None
        else:
            return annotation


def _is_open(annotation: Any) -> bool:
    return annotation in (Any, object, EMPTY) or isinstance(annotation, (typing.TypeVar, str, typing.ForwardRef))


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_literal(annotation: Any) -> bool:
    return typing.get_origin(annotation) is typing.Literal


def _shape(annotation: Any) -> str:
    """Name the JSON shape that the type travels as."""
    cls = typing.get_origin(annotation) or annotation
    if not isinstance(cls, type):
        return "other"
    if issubclass(cls, bool):
        return "bool"
    if issubclass(cls, enum.Enum):
        return _shape(type(next(iter(cls)).value)) if len(cls) else "other"
    if issubclass(cls, int):
        return "number"
    if issubclass(cls, float):
        return "float"
    if issubclass(cls, decimal.Decimal):
        return "decimal"
    if issubclass(cls, _MOMENTS):
        return "moment"
    if issubclass(cls, _TEXT):
        return "text"
    if cls in _MAPS or issubclass(cls, dict) or _fields(annotation) is not None:
        return "map"
    if cls in _LISTS or issubclass(cls, (list, tuple, set, frozenset)):
        return "list"
    return "other"


class _Field(NamedTuple):
    """One field of a model. It is written under its name, and read under its name or its alias."""

    annotation: Any
    required: bool = False
    alias: str = ""


def _fields(annotation: Any) -> dict[str, _Field] | None:
    """Give a model's fields by name; None if it is no model."""
    if not isinstance(annotation, type):
        return None
    if issubclass(annotation, BaseModel):
        found = {name: _Field(info.return_type) for name, info in annotation.model_computed_fields.items()}
        for name, info in annotation.model_fields.items():
            alias = info.validation_alias or ""
            if isinstance(alias, str):
                found[name] = _Field(info.annotation, info.is_required(), alias)
            else:  # a path or a choice: the value may be anywhere
                found[name] = _Field(info.annotation)
        return found
    if issubclass(annotation, dict) and hasattr(annotation, "__total__"):  # typing's TypedDict, or typing_extensions'
        required: frozenset[str] = getattr(annotation, "__required_keys__", frozenset())
        return {name: _Field(hint, name in required) for name, hint in _hints(annotation).items()}
    if is_dataclass(annotation):
        hints = _hints(annotation)
        return {
            field.name: _Field(
                hints.get(field.name, EMPTY), field.default is MISSING and field.default_factory is MISSING
            )
            for field in fields(annotation)
            if field.init
        }
    return None


def _fields_feed(source: dict[str, _Field], target: dict[str, _Field]) -> bool:
    for name, field in target.items():
        given = source.get(name) or source.get(field.alias)
        if given is None and field.required:
            return False
        if given is not None and not can_feed(given.annotation, field.annotation):
            return False
    return True


def _hints(annotation: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(annotation)
    except NameError:
        return {}


def _item(annotation: Any) -> Any:
    args = [arg for arg in typing.get_args(annotation) if arg is not ...]
    if not args:
        return EMPTY
    return args[0] if len(set(map(repr, args))) == 1 else typing.Union[tuple(args)]  # noqa: UP007


def _values(annotation: Any) -> Any:
    args = typing.get_args(annotation)
    return args[1] if len(args) == 2 else EMPTY


def _is_subclass(source: Any, target: Any) -> bool:
    return isinstance(source, type) and isinstance(target, type) and issubclass(source, target)
