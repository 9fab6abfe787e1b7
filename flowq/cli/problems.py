"""What the command line finds wrong before anything runs.

::

    FlowqError
    ├── UsageProblem         exit code 2: the command cannot be carried out as it was given
    │   ├── ModuleProblem    the module is not there, or cannot be imported
    │   ├── FlowNotFound     the module has no such flow
    │   └── InputProblem     --input is no JSON object, or names what the flow does not take
    ├── FleetProblem         exit code 1: there is nothing that could run it
    └── OutOfTime            exit code 1: the run did not end in its time
"""

from __future__ import annotations

from flowq.core.errors import DefinitionError, FlowqError, GraphError, InputError


class UsageProblem(FlowqError):
    """A command that cannot be carried out as it was given."""


class ModuleProblem(UsageProblem):
    """The module is not there, or cannot be imported."""


class FlowNotFound(UsageProblem):
    """The module has no such flow."""


class InputProblem(UsageProblem):
    """What ``--input`` gives is no JSON object, or has fields that the flow does not take."""


class FleetProblem(FlowqError):
    """The server or the workers cannot be started or reached."""


class OutOfTime(FlowqError):
    """The run did not end within ``--timeout``, and was cancelled."""


def exit_code(error: FlowqError) -> int:
    """Give 2 if nothing was run because of what the caller gave, else 1."""
    return 2 if isinstance(error, (UsageProblem, InputError, GraphError, DefinitionError)) else 1
