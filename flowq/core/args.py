"""Where a parameter's value comes from: a small expression, plain data, so that a plan can carry it.

::

    ("input",)            the run's input, whole
    ("input", field)      one field of it
    ("step", path)        the output of another step        (in a graph; a map gives the list of its items' outputs)
    ("node", index)       the same, in a plan
    ("item",)             the item that this node of a map is for
    ("const", value)      a constant, plain JSON data
    ("list", (arg, …))    a list of these
    ("dict", ((key, arg), …))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

Arg: TypeAlias = tuple[Any, ...]

WHOLE_INPUT: Arg = ("input",)
ITEM: Arg = ("item",)


def sources(arg: Arg) -> Iterator[Any]:
    """Give every step (or node) whose output the expression reads."""
    kind = arg[0]
    if kind in ("step", "node"):
        yield arg[1]
    elif kind == "list":
        for part in arg[1]:
            yield from sources(part)
    elif kind == "dict":
        for _, part in arg[1]:
            yield from sources(part)


def rewrite(arg: Arg, leaf: Callable[[Arg], Arg]) -> Arg:
    """Give the expression with every leaf replaced by ``leaf(leaf)``."""
    kind = arg[0]
    if kind == "list":
        return ("list", tuple(rewrite(part, leaf) for part in arg[1]))
    if kind == "dict":
        return ("dict", tuple((key, rewrite(part, leaf)) for key, part in arg[1]))
    return leaf(arg)


def from_json(arg: Any) -> Arg:
    """Read an expression back from JSON, where tuples have become lists."""
    kind = arg[0]
    if kind == "list":
        return ("list", tuple(from_json(part) for part in arg[1]))
    if kind == "dict":
        return ("dict", tuple((key, from_json(part)) for key, part in arg[1]))
    return tuple(arg)
