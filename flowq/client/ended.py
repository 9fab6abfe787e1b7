"""Reads the results of runs that have ended: of any number of them in one round trip, if they are small."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from flowq.client.reading import RunReader
from flowq.core.result import FlowResult
from flowq.core.types import FlowStatus
from flowq.plan import Plan
from flowq.results import ResultsManager
from flowq.runtime.events import Ref
from flowq.runtime.state import Glance, State


class Asked(NamedTuple):
    """A run whose result is wanted."""

    run: str
    plan: Plan | None
    """Its plan, as far as the caller knows; a run that was there before its submit may have another one."""
    returns: Any
    """The annotation to decode the output with."""

    @property
    def output(self) -> str:
        """The node whose output is the run's; empty: that is not known, or it is a map's, which is put together."""
        if self.plan is None or self.plan.output is None or self.plan.nodes[self.plan.output].is_map:
            return ""
        return Ref(self.plan.output).key


def look(state: State, asked: Sequence[Asked]) -> list[Glance | None]:
    """Look at runs, all in one round trip; None: there is no such run (any more)."""
    return state.glance([(one.run, one.output) for one in asked])


def status_of(glance: Glance) -> FlowStatus:
    return FlowStatus(glance.head["status"])


def result_from(state: State, results: ResultsManager, asked: Asked, glance: Glance) -> FlowResult:
    """Give the result of a run that has ended; what a look does not bring is read now.

    Raises:
        RunNotFound: the run is gone since.
    """
    reader = RunReader(state, results, asked.run, glance.head)
    is_as_known = asked.plan is not None and asked.plan.hash == glance.head["plan"]
    output = glance.output if is_as_known else None
    result = reader.result(asked.returns, glance.records, output)
    if glance.records is None or (output is None and reader.plan.output is not None):
        state.head(asked.run)  # what is read of a run that goes meanwhile looks like one to which nothing has happened
    return result
