"""From ``MODULE:FLOW`` on the command line to the flow."""

from __future__ import annotations

import importlib
import traceback
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, NamedTuple, TypeAlias

import typer

from flowq.cli.problems import FlowNotFound, ModuleProblem, UsageProblem
from flowq.cli.signals import Terminated
from flowq.core.errors import FlowqError
from flowq.core.flow import Flow
from flowq.core.function import FunctionFlow
from flowq.core.task import Task
from flowq.plan import Plan

AnyFlow: TypeAlias = Flow | FunctionFlow[..., Any]

TargetArgument = Annotated[
    str, typer.Argument(metavar="MODULE:FLOW", help="The module, as Python imports it from here, and the flow in it.")
]


class Target(NamedTuple):
    """A flow and the module in which it was found."""

    module: str
    name: str
    flow: AnyFlow

    @property
    def include(self) -> list[str]:
        """The modules that workers need for it: this one, and those of all its processors."""
        plan: Plan = self.flow.plan()
        processors = {node.processor.partition(":")[0] for node in plan}
        return sorted({self.module} | {name for name in processors if not name.startswith("flowq.core.")})

    @property
    def queues(self) -> list[str]:
        """The queues that its nodes name."""
        plan: Plan = self.flow.plan()
        return sorted({node.queue for node in plan} - {""})


def find_flow(target: str) -> Target:
    """Import the module, from the current directory first, and give its flow.

    Raises:
        UsageProblem: the target is not written as it has to be.
        ModuleProblem: there is no such module, or importing it fails.
        FlowNotFound: the module has no such flow; the message lists those that it has.
        FlowqError: making the flows of the module raised it; whoever wrote them wants to see just that.
    """
    module_name, colon, name = target.partition(":")
    if module_name.endswith(".py") or "/" in module_name:
        dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
        raise UsageProblem(f"{module_name!r} is a file: give the module that it is, as in {dotted}:{name or 'FLOW'}")
    module = _import(module_name)
    flows = {key: value for key, value in vars(module).items() if isinstance(value, (Flow, FunctionFlow))}
    if not colon or not name:
        raise UsageProblem(f"which flow of {module_name!r}? {_listing(module_name, flows)}")
    found = flows.get(name) or next((flow for flow in flows.values() if flow.name == name), None)
    if found is not None:
        return Target(module_name, name, found)
    what = f"the module {module_name!r} has no flow {name!r}"
    if isinstance(getattr(module, name, None), Task):
        what = f"{target!r} is a task, and what runs is a flow: call the task in a function with @flow"
    raise FlowNotFound(f"{what}; {_listing(module_name, flows)}")


def _import(name: str) -> ModuleType:
    here = str(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise ModuleProblem(
                f"there is no module {name!r}, neither in {here} nor installed; run the command in the folder that"
                " holds it, or set PYTHONPATH"
            ) from error
        raise ModuleProblem(f"the module {name!r} cannot be imported: {error}; install what it needs") from error
    except (FlowqError, Terminated):
        raise
    except Exception as error:
        raise ModuleProblem(f"the module {name!r} cannot be imported:\n{_story(error)}") from error
    except SystemExit as error:
        raise ModuleProblem(
            f"the module {name!r} ends Python when it is imported (exit code {error.code}); put what it runs under"
            " `if __name__ == '__main__':`"
        ) from error


def _story(error: Exception) -> str:
    """Give the traceback without the frames that are this file's and the import system's."""
    entries = traceback.extract_tb(error.__traceback__)
    own = [entry for entry in entries if entry.filename != __file__ and "importlib" not in entry.filename]
    return "".join([*traceback.format_list(own), *traceback.format_exception_only(error)]).rstrip()


def _listing(module: str, flows: dict[str, AnyFlow]) -> str:
    if not flows:
        return "it has no flows: make one with @flow or Flow(...) at its top level"
    return "there are " + ", ".join(f"{module}:{name}" for name in flows)
