"""What an attempt reads: the run's input, its item, and the outputs of its upstreams."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json

from flowq.core.args import Arg
from flowq.core.errors import ArgumentError, InputError, OutputError, ValueTooLargeError
from flowq.core.result import DependencyData
from flowq.core.types import MissingReason
from flowq.plan import Node
from flowq.results import ResultsManager
from flowq.results.codec import BYTES, JSON, NONE, decode, encode, json_of

ABSENT = b""
"""The value of an input field that the run's input does not have: the parameter's default holds."""


@dataclass(slots=True)
class Inputs:
    """The encoded values that one attempt may read, loaded when they are asked for."""

    node: Node
    read_input: Callable[[], bytes]
    """Gives the run's input."""
    load: Callable[[int], bytes]
    """Gives the output of an upstream, by its place in the plan; of a map, the JSON list of its items' outputs."""
    missing: dict[str, MissingReason] = field(default_factory=dict)
    """Why optional upstreams (and items of maps) have no value, by name."""
    item: bytes = ABSENT
    _fields: dict[str, Any] | None = None

    @property
    def run_input(self) -> bytes:
        """The run's input, encoded."""
        return self.read_input()

    @property
    def fields(self) -> dict[str, Any]:
        """The run's input."""
        if self._fields is None:
            self._fields = dict(decode(self.run_input))
        return self._fields

    def is_missing(self, upstream: int) -> bool:
        """Tell whether an upstream was bypassed as a whole."""
        if not self.missing:  # a node may have thousands of upstreams, and ask this of each
            return False
        return any(edge.upstream == upstream and edge.name in self.missing for edge in self.node.edges)

    def value(self, arg: Arg) -> bytes:
        """Evaluate an expression to an encoded value; ABSENT if it names an input field that is not there."""
        match arg[0]:
            case "node":
                return NONE if self.is_missing(arg[1]) else self.load(arg[1])
            case "input" if len(arg) == 1:
                return self.run_input
            case "input":
                return encode(self.fields[arg[1]]) if arg[1] in self.fields else ABSENT
            case "item":
                return self.item
            case "const":
                return JSON + to_json(arg[1], inf_nan_mode="constants")
            case "list":
                return JSON + b"[" + b",".join(self._part(part) for part in arg[1]) + b"]"
            case "dict":
                parts = (json.dumps(key).encode() + b":" + self._part(part) for key, part in arg[1])
                return JSON + b"{" + b",".join(parts) + b"}"
        raise AssertionError(f"unknown expression {arg[0]!r}")

    def dependencies(self) -> DependencyData:
        """Give the upstream values by name."""
        upstreams = {edge.name: edge.upstream for edge in self.node.edges if edge.name}
        return DependencyData(lambda name: decode(self.load(upstreams[name])), tuple(upstreams), self.missing)

    def _part(self, arg: Arg) -> bytes:
        # A node may have thousands of upstreams, and each is a part.
        data = self.load(arg[1]) if arg[0] == "node" and not self.missing else self.value(arg) or NONE
        if data[:1] == BYTES:
            raise ArgumentError(
                f"node {self.node.path!r}: bytes cannot be part of a list or dict; give them a parameter of their own"
            )
        return json_of(data)


def encode_input(flow: str, given: Mapping[str, Any], results: ResultsManager) -> bytes:
    """Encode a run's input.

    Raises:
        InputError: it is nothing that JSON can hold, or too large.
    """
    try:
        data = encode(dict(given))
        results.check(data)
    except ValueTooLargeError as error:
        raise InputError(f"the input of flow {flow!r} is too large: {error}") from error
    except OutputError as error:
        raise InputError(f"the input of flow {flow!r} cannot be stored as JSON: {error.__cause__}") from error
    return data
