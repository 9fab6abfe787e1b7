"""Runs flows of typed processing steps on Celery and Redis."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flowq.core.attempt import AttemptInfo, current_attempt
from flowq.core.config import FlowConfig, RetryPolicy, Settings
from flowq.core.context import FlowContext
from flowq.core.errors import (
    ArgumentError,
    AttemptTimeout,
    CorruptValueError,
    CycleError,
    DefinitionError,
    DuplicateDependencyError,
    DuplicateNameError,
    FlowqError,
    GraphError,
    IdempotencyError,
    InputError,
    MissingParameterError,
    OutputError,
    OverloadedError,
    PlanError,
    RunFailed,
    RunLost,
    RunNotFound,
    RunStatusError,
    SelfDependencyError,
    Skip,
    StateError,
    StoreFullError,
    StoreUnavailableError,
    TypeMismatchError,
    UnknownDependencyError,
    UnknownFlowError,
    UnknownProcessorError,
    UnsafeStoreError,
    ValueTooLargeError,
)
from flowq.core.flow import Flow
from flowq.core.function import FunctionFlow, flow
from flowq.core.processor import Processable
from flowq.core.result import DependencyData, Failure, FlowResult, NodeResult, Record
from flowq.core.task import Task, optional, required, task
from flowq.core.types import (
    DependencyType,
    FailureKind,
    FlowStatus,
    FlowType,
    MissingReason,
    NodeStatus,
    StorageType,
)

if TYPE_CHECKING:
    from flowq.client import Client, DeadLetter, FlowHandle, results_of
    from flowq.execution import ProcessPoolManager
    from flowq.plan import Plan
    from flowq.results import ResultsManager
    from flowq.standalone import embedded

__version__ = "0.1.0"

# Loaded when first used, so that a local run needs neither Redis nor Celery.
_LATER = {
    "Client": "flowq.client",
    "DeadLetter": "flowq.client",
    "FlowHandle": "flowq.client",
    "Plan": "flowq.plan",
    "ProcessPoolManager": "flowq.execution",
    "ResultsManager": "flowq.results",
    "embedded": "flowq.standalone",
    "results_of": "flowq.client",
}

# The upper layers fulfil here what the context promises.
FlowContext.provide("compile", lambda _: import_module("flowq.plan").compile_graph)
FlowContext.provide("engine", lambda context: import_module("flowq.runtime.local").LocalEngine(context))
FlowContext.provide("pools", lambda context: import_module("flowq.runtime.local").make_pools(context))
FlowContext.provide("local_results", lambda context: import_module("flowq.results").open_local(context.settings))
FlowContext.provide("results", lambda context: import_module("flowq.results").open_shared(context.settings))
FlowContext.provide("client", lambda context: import_module("flowq.client").Client(context))
FlowContext.provide("state", lambda context: import_module("flowq.runtime.state").State(context))
FlowContext.provide("attach", lambda context: import_module("flowq.runtime.app").attach(context.celery_app, context))
FlowContext.provide("from_canvas", lambda _: import_module("flowq.runtime.imported").from_canvas)
FlowContext.provide("celery_app", lambda context: import_module("flowq.runtime.app").make_app(context))


def __getattr__(name: str) -> Any:
    if name in _LATER:
        found = getattr(import_module(_LATER[name]), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'flowq' has no attribute {name!r}")


__all__ = [
    "ArgumentError",
    "AttemptInfo",
    "AttemptTimeout",
    "Client",
    "CorruptValueError",
    "CycleError",
    "DeadLetter",
    "DefinitionError",
    "DependencyData",
    "DependencyType",
    "DuplicateDependencyError",
    "DuplicateNameError",
    "Failure",
    "FailureKind",
    "Flow",
    "FlowConfig",
    "FlowContext",
    "FlowHandle",
    "FlowResult",
    "FlowStatus",
    "FlowType",
    "FlowqError",
    "FunctionFlow",
    "GraphError",
    "IdempotencyError",
    "InputError",
    "MissingParameterError",
    "MissingReason",
    "NodeResult",
    "NodeStatus",
    "OutputError",
    "OverloadedError",
    "Plan",
    "PlanError",
    "ProcessPoolManager",
    "Processable",
    "Record",
    "ResultsManager",
    "RetryPolicy",
    "RunFailed",
    "RunLost",
    "RunNotFound",
    "RunStatusError",
    "SelfDependencyError",
    "Settings",
    "Skip",
    "StateError",
    "StorageType",
    "StoreFullError",
    "StoreUnavailableError",
    "Task",
    "TypeMismatchError",
    "UnknownDependencyError",
    "UnknownFlowError",
    "UnknownProcessorError",
    "UnsafeStoreError",
    "ValueTooLargeError",
    "current_attempt",
    "embedded",
    "flow",
    "optional",
    "required",
    "results_of",
    "task",
]
