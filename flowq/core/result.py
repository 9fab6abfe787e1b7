"""What processors get from upstream and what callers get from a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from flowq.core.errors import RunFailed
from flowq.core.types import FailureKind, FlowStatus, MissingReason, NodeStatus


class Record(dict[str, Any]):
    """A JSON object: a dict whose keys also read as attributes (a key wins over nothing, a dict method over a key)."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        try:
            value = self[name]
        except KeyError:
            raise AttributeError(f"no field {name!r}; there are {', '.join(map(repr, self)) or 'none'}") from None
        return Record(value) if type(value) is dict else value


class Failure(BaseModel):
    """Why an attempt failed."""

    model_config = ConfigDict(frozen=True)

    kind: FailureKind
    type: str
    """The exception's class, as ``module.qualname`` (builtins without module)."""
    message: str
    traceback: str | None = None


class NodeResult(BaseModel):
    """One node of a run as it stands now."""

    model_config = ConfigDict(frozen=True)

    name: str
    """The node's path: ``load``, ``report/clean``, ``measure[3]`` for an item of a map."""
    status: NodeStatus
    attempt: int = 0
    """The latest attempt, from 1; 0: none was made."""
    worker: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    failure: Failure | None = None
    missing: dict[str, MissingReason] = Field(default_factory=dict)
    """The optional upstreams that were bypassed, and why."""


class _Later:
    """Nodes that nobody has asked for yet."""

    __slots__ = ("_made", "_make")

    def __init__(self, make: Callable[[], dict[str, NodeResult]]) -> None:
        self._make, self._made = make, dict[str, dict[str, NodeResult]]()

    def __call__(self) -> dict[str, NodeResult]:
        """Make them; threads that ask at once may all do so, and get those of the first."""
        return self._made.setdefault("nodes", self._make())


class FlowResult(BaseModel):
    """The outcome of a run."""

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    run_id: str
    process_id: str
    """The flow that ran (``Flow.process_id``)."""
    name: str
    status: FlowStatus
    start_time: datetime
    end_time: datetime | None = None
    output: Any = None
    """What the flow returned; None unless COMPLETED. JSON objects are Records; functions give their annotated type."""
    error: str | None = None
    """The failures that made the run fail, one a line, each with the node's name."""
    traceback: str | None = None
    """The first such failure's traceback."""
    nodes: dict[str, NodeResult] = Field(default_factory=dict)

    @property
    def failures(self) -> dict[str, Failure]:
        """Every failed node's failure, also of those that only optional edges lead away from."""
        return {name: node.failure for name, node in self.nodes.items() if node.failure}

    @property
    def bypassed(self) -> dict[str, dict[str, MissingReason]]:
        """Per node, the optional upstreams it did without, and why."""
        return {name: node.missing for name, node in self.nodes.items() if node.missing}

    def raise_for_status(self) -> FlowResult:
        """Give self if COMPLETED; raise RunFailed otherwise."""
        if self.status is not FlowStatus.COMPLETED:
            raise RunFailed(f"run {self.run_id} of {self.name!r} is {self.status}: {self.error or 'no node failed'}")
        return self

    # ``nodes`` stays a field, and a plain dict to all who see it: one that fills itself would be empty to code in C,
    # which does not ask it. Whatever pydantic does with the fields (compare, copy, pickle, dump) begins with
    # ``__dict__``: so this is the one place to make them.
    if not TYPE_CHECKING:  # to a type checker, any name would be an attribute

        def __getattribute__(self, name: str) -> Any:
            if name in ("nodes", "__dict__"):
                fields = super().__getattribute__("__dict__")
                nodes = fields.get("nodes")
                if type(nodes) is _Later:
                    fields["nodes"] = nodes()
            return super().__getattribute__(name)


def with_nodes_later(result: FlowResult, make: Callable[[], dict[str, NodeResult]]) -> FlowResult:
    """Have a result's nodes made when they are first asked for: most callers want the output alone."""
    result.__dict__["nodes"] = _Later(make)
    return result


class DependencyData(Mapping[str, Any]):
    """The upstream values of one attempt, by the upstream flows' names.

    Async code awaits ``get`` and ``get_all``; sync code reads it as a mapping. An optional upstream that did not
    complete gives None, and ``missing`` says why. A map gives the list of its items' values, None where an item is
    missing (``missing("measure[3]")`` says why; ``missing("measure")`` gives the first item's reason). Values are
    loaded when they are first asked for.
    """

    def __init__(
        self, load: Callable[[str], Any], names: tuple[str, ...], missing: Mapping[str, MissingReason]
    ) -> None:
        self._load = load
        self._names = names
        self._missing = missing
        self._loaded: dict[str, Any] = {}

    async def get(self, dep_name: str) -> Any:  # type: ignore[override]  # the founding name, and it is awaited
        """Give the value of one upstream; KeyError if this flow has no such dependency."""
        return self[dep_name]

    async def get_all(self) -> dict[str, Any]:
        """Give all values by name."""
        return dict(self)

    def missing(self, dep_name: str | None = None) -> Any:
        """Say why an upstream is missing (None if it is not); without a name, all reasons by name."""
        if dep_name is None:
            return dict(self._missing)
        if dep_name in self._missing:
            return self._missing[dep_name]
        if dep_name in self._names:
            items = (reason for name, reason in self._missing.items() if name.startswith(f"{dep_name}["))
            return next(items, None)
        if dep_name.split("[", 1)[0] in self._names:
            return None
        raise KeyError(self._unknown(dep_name))

    def __getitem__(self, dep_name: str) -> Any:
        if dep_name not in self._loaded:
            if dep_name not in self._names:
                raise KeyError(self._unknown(dep_name))
            self._loaded[dep_name] = None if dep_name in self._missing else self._load(dep_name)
        return self._loaded[dep_name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def _unknown(self, dep_name: str) -> str:
        return f"{dep_name!r} is no dependency of this flow; it has {', '.join(map(repr, self._names)) or 'none'}"
