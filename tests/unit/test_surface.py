"""What users can import, and the error tree as its module draws it."""

import inspect
import re
import subprocess
import sys

import pytest

import flowq
from flowq.core import errors

PUBLIC = [
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


def test_the_public_names_are_these():
    """A change of this list is a change of what users rely on: it goes into the changelog."""
    assert list(flowq.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_can_be_had(name):
    assert getattr(flowq, name) is not None


def test_an_unknown_name_is_said():
    with pytest.raises(AttributeError, match="module 'flowq' has no attribute 'nothing'"):
        flowq.nothing  # noqa: B018


def test_every_public_class_and_function_has_a_docstring():
    assert [name for name in PUBLIC if not inspect.getdoc(getattr(flowq, name))] == []


def test_importing_flowq_needs_neither_redis_nor_celery():
    """So that a local run does not either; nor does the pytest plugin, which every session of its users imports."""
    code = (
        "import sys, flowq, flowq.testing.plugin\n"
        "heavy = {'redis', 'celery', 'kombu', 'billiard', 'zstandard', 'typer', 'rich', 'flowq.runtime'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_drawn_error_tree_is_the_true_one():
    drawing = (inspect.getdoc(errors) or "").split("::", 1)[1]
    drawn = re.findall(r"(?:├──|└──|^ *)\s*([A-Z]\w+)", drawing, re.MULTILINE)
    classes = {name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and cls is not errors.Skip}
    own = {name for name, cls in classes.items() if cls.__module__ == errors.__name__}
    assert sorted(drawn) == sorted(own)


def test_the_drawn_error_tree_shows_who_inherits_from_whom():
    lines = (inspect.getdoc(errors) or "").split("::", 1)[1].splitlines()
    above: list[tuple[int, str]] = []
    checked = 0
    for line in lines:
        names = [(match.start(1), match.group(1)) for match in re.finditer(r"(?:├── |└── |^ *)([A-Z]\w+)", line)]
        if not names or line.startswith("``"):
            continue
        depth = names[0][0]
        while above and above[-1][0] >= depth:
            above.pop()
        for _, name in names:  # several on one line are siblings
            cls = getattr(errors, name)
            if above:
                assert cls.__bases__ == (getattr(errors, above[-1][1]),), name
                checked += 1
        above.append((depth, names[0][1]))
    assert checked == 28


def test_skip_is_no_error():
    assert not issubclass(flowq.Skip, flowq.FlowqError)


def test_every_error_that_is_raised_to_users_is_public():
    own = {
        name
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and cls.__module__ == errors.__name__ and issubclass(cls, BaseException)
    }
    assert own - set(flowq.__all__) == set()
