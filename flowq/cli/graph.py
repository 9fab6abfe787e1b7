"""``flowq graph`` and ``flowq validate``: look at a flow without running it."""

from __future__ import annotations

import sys

import typer

from flowq.cli.mermaid import mermaid
from flowq.cli.output import stdout_for_result
from flowq.cli.target import TargetArgument, find_flow
from flowq.core.errors import DefinitionError, GraphError
from flowq.plan import Plan


def graph(target: TargetArgument) -> None:
    """Print a flow's graph as a Mermaid flowchart.

    Required edges are solid, optional ones dashed, those that only order say so; shapes show the placement.
    """
    with stdout_for_result() as stdout:
        try:
            flow = find_flow(target).flow
            stdout.write(mermaid(flow.graph(), flow.plan()).encode())
        except (GraphError, DefinitionError) as error:
            print(story(target, error), file=sys.stderr)
            raise typer.Exit(1) from error


def validate(target: TargetArgument) -> None:
    """Check a flow without running it: print OK and its plan, or all that is wrong with it (exit code 1)."""
    with stdout_for_result() as stdout:
        try:
            plan: Plan = find_flow(target).flow.plan()
        except (GraphError, DefinitionError) as error:
            stdout.write(f"{story(target, error)}\n".encode())
            raise typer.Exit(1) from error
        edges = sum(len(node.edges) for node in plan)
        stdout.write(f"OK: {len(plan)} nodes, {edges} edges, plan {plan.hash}\n".encode())


def story(target: str, error: GraphError | DefinitionError) -> str:
    """Give all problems, each with its node, its field and what to do about it."""
    if isinstance(error, DefinitionError):
        return f"{target} cannot be built.\n\n1. DefinitionError\n   problem: {error}"
    count = len(error.problems)
    lines = [f"{target} has {count} problem{'s' if count > 1 else ''}."]
    for number, problem in enumerate(error.problems, 1):
        what = str(problem).removesuffix(f"; {problem.remedy}")
        lines += ["", f"{number}. {type(problem).__name__}", f"   problem: {what}"]
        facts = {"node": problem.node, "field": problem.field, "remedy": problem.remedy}
        lines += [f"   {name + ':':<8} {value}" for name, value in facts.items() if value]
    return "\n".join(lines)
