"""Every error that flowq raises.

::

    FlowqError
    ├── DefinitionError            a task, flow or processor that cannot be used as written
    ├── GraphError                 a graph that cannot run; .problems lists all that is wrong with it
    │   ├── CycleError             ├── DuplicateNameError       ├── TypeMismatchError
    │   ├── SelfDependencyError    ├── DuplicateDependencyError ├── MissingParameterError
    │   └── UnknownDependencyError
    ├── InputError                 the run's input does not fit the flow
    ├── PlanError                  a plan document that is malformed or of another version
    ├── UnknownProcessorError      a plan names code that this process does not know
    ├── UnknownFlowError           a message names a flow that this process does not know
    ├── ArgumentError              what upstreams gave does not fit the parameters
    ├── OutputError                a processor returned what breaks its model or cannot be encoded
    │   └── ValueTooLargeError
    ├── CorruptValueError          a stored value is gone or cannot be decoded
    ├── AttemptTimeout             an attempt ran out of its time
    ├── RunFailed                  raised by FlowResult.raise_for_status
    ├── RunNotFound                no such run, or its retention has passed
    │   └── RunLost                the state store has lost its data, and the run with them
    ├── RunStatusError             what is asked for does not fit where the run stands
    ├── IdempotencyError           an idempotency key was used before, for another input
    ├── OverloadedError            as many runs are open as the settings allow
    └── StateError                 the state store answered what it never should
        ├── StoreUnavailableError  it cannot be reached
        ├── StoreFullError         it is out of memory
        └── UnsafeStoreError       its configuration may lose runs

``Skip`` is no error: a processor raises it to say that there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class FlowqError(Exception):
    """The base of all errors of flowq."""

    started: tuple[Any, ...] = ()
    """Of ``submit_many``: the handles of the runs that it had started, in the order of their inputs."""


class Skip(Exception):
    """Raise it in a processor to settle the node as SKIPPED; its required downstream is skipped too."""


class DefinitionError(FlowqError):
    """A task, flow or processor that cannot be used as written."""


class GraphError(FlowqError):
    """A graph that cannot run.

    ``problems`` lists everything that is wrong, each a GraphError of its own with ``node``, ``field`` and ``remedy``.
    A graph with one problem raises just that one.
    """

    def __init__(self, message: str, *, node: str = "", field: str = "", remedy: str = "") -> None:
        super().__init__(f"{message}; {remedy}" if remedy else message)
        self.node = node
        self.field = field
        self.remedy = remedy
        self.problems: tuple[GraphError, ...] = (self,)

    @staticmethod
    def of(problems: Sequence[GraphError]) -> GraphError:
        """Give the one problem as it stands, or one error that lists them all."""
        if len(problems) == 1:
            return problems[0]
        lines = "\n".join(f"  {number}. {problem}" for number, problem in enumerate(problems, 1))
        error = GraphError(f"the graph has {len(problems)} problems:\n{lines}")
        error.problems = tuple(problems)
        return error


class CycleError(GraphError):
    """Steps wait for each other in a ring; ``path`` names them, the first one repeated at the end."""

    def __init__(self, path: Sequence[str]) -> None:
        self.path = tuple(path)
        super().__init__(
            f"{path[0]!r}: dependencies form a cycle: {' -> '.join(path)}",
            node=path[0],
            field="dependencies",
            remedy="remove one of these dependencies",
        )


class SelfDependencyError(GraphError):
    """A step depends on itself."""


class UnknownDependencyError(GraphError):
    """A step depends on something that is not part of its graph."""


class DuplicateDependencyError(GraphError):
    """A step names the same upstream twice."""


class DuplicateNameError(GraphError):
    """Two steps of one parent have the same name."""


class TypeMismatchError(GraphError):
    """What an upstream returns cannot feed the parameter that receives it."""


class MissingParameterError(GraphError):
    """A parameter without default gets no value."""


class InputError(FlowqError):
    """The input of a run does not fit what its flow asks for. Nothing was stored."""


class PlanError(FlowqError):
    """A plan document that is malformed, or of a version that this flowq does not read."""


class UnknownProcessorError(FlowqError):
    """A plan names a processor that this process does not know."""


class UnknownFlowError(FlowqError):
    """A message names a flow that this process does not know."""


class ArgumentError(FlowqError):
    """What upstreams gave a node does not fit its processor's parameters."""


class OutputError(FlowqError):
    """A processor returned what breaks its model or cannot be encoded."""


class ValueTooLargeError(OutputError):
    """A value is larger than ``max_value_bytes``."""


class CorruptValueError(FlowqError):
    """A stored value is gone or cannot be decoded."""


class AttemptTimeout(FlowqError):
    """An attempt ran longer than its timeout."""


class RunFailed(FlowqError):
    """A run did not complete; raised only where the caller asked for that (``raise_for_status``)."""


class RunNotFound(FlowqError):
    """There is no such run: it never was, it was forgotten, or its retention has passed."""


class RunLost(RunNotFound):
    """The state store has come back without its data, so the run is gone; submit it again."""


class RunStatusError(FlowqError):
    """What is asked for does not fit where the run stands. Nothing was changed."""


class IdempotencyError(FlowqError):
    """An idempotency key was used before, for another input. Nothing was stored."""


class OverloadedError(FlowqError):
    """As many runs are open as the settings allow. Nothing was stored: submit again when some of them have ended."""


class StateError(FlowqError):
    """The state store holds or answers something that no transition produces."""


class StoreUnavailableError(StateError):
    """The state store could not be reached. Whether the last call was carried out is not known; it may be repeated."""


class StoreFullError(StateError):
    """The state store is out of memory. Nothing was stored."""


class UnsafeStoreError(StateError):
    """The state store is configured so that it may lose runs; the message says which setting to change."""
