"""``flowq explain``: say what will run, without running anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from flowq.cli.graph import story
from flowq.cli.output import json_text, stdout_for_result
from flowq.cli.problems import UsageProblem
from flowq.cli.target import TargetArgument, find_flow
from flowq.core.config import Dispatch, Settings
from flowq.core.context import FlowContext
from flowq.core.errors import DefinitionError, GraphError, StateError
from flowq.plan import Plan

if TYPE_CHECKING:
    from flowq.cli.explanation import CanvasFacts, Explanation, MessageFacts, NodeFacts, SegmentFacts
    from flowq.client.critical_path import CriticalPath, PathStep

NODES = 60
"""Of more nodes, those that are alike share a line."""

LINES = 20
"""Any other list is cut after so many lines."""

T = TypeVar("T")


def explain(
    target: TargetArgument,
    dispatch: Annotated[
        Dispatch | None, typer.Option(help="How nodes would reach the workers; default: as FLOWQ_DISPATCH says.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Shorten nothing: a line for every node, edge, segment and step.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON; docs/explain.md has the keys.")] = (
        False
    ),
) -> None:
    """Say what will run when a flow is submitted, without running anything and without Redis.

    How every node comes to run; as a canvas: the chains, groups and chords, and the edges that they cannot express; the
    messages and their sizes; and the critical path of the latest run that completed, if FLOWQ_STATE_URL or
    FLOWQ_BROKER_URL names a state store that answers within a second.
    """
    with stdout_for_result() as stdout:
        try:
            flow = find_flow(target).flow
            plan: Plan = flow.plan()
        except (GraphError, DefinitionError) as error:
            print(story(target, error), file=sys.stderr)
            raise typer.Exit(1) from error
        # Late: this asks Celery, and the other commands that only look at a graph need none.
        from flowq.cli.explanation import explain_plan

        settings = flow.context.settings
        dispatch = dispatch or settings.dispatch
        if dispatch == "canvas":
            _check_app(flow.context)
        facts = explain_plan(flow.name, plan, dispatch, flow.context).model_copy(update=past_of(settings, plan))
        stdout.write(json_text(facts) if as_json else text(facts, plan, everything=everything).encode())


def _check_app(context: FlowContext) -> None:
    """Raise UsageProblem if no Celery app can be made of the settings."""
    try:
        _ = context.celery_app
    except ValueError as error:
        raise UsageProblem(str(error)) from error


def past_of(settings: Settings, plan: Plan) -> dict[str, Any]:
    """Give the fields of an explanation that say what the latest run showed."""
    if not settings.model_fields_set & {"state_url", "broker_url"}:
        return {"past": "no past run: neither FLOWQ_STATE_URL nor FLOWQ_BROKER_URL says where to look for one"}
    from flowq.client.critical_path import last_run

    try:
        found = last_run(settings, plan)
    except (StateError, ValueError) as error:  # or the broker is no Redis, and nothing says where the runs are
        return {"past": f"no past run is known: {error}"}
    if found is None:
        return {}
    return {"past_run": found.run_id, "past": f"run {found.run_id} ({found.dispatch})", "critical_path": found.path}


def text(facts: Explanation, plan: Plan, *, everything: bool) -> str:
    """Give the explanation as people read it."""
    head = f"{facts.flow}: {_count(len(facts.nodes), 'node')}, {_count(len(facts.edges), 'edge')}"
    lines = [f"{head}, plan {facts.plan}, dispatch {facts.dispatch}", "", *_nodes(facts.nodes, everything)]
    if facts.canvas is not None:
        lines += ["", *_canvas(facts, facts.canvas, plan, everything)]
    lines += ["", f"messages: {_messages(facts.messages)}"]
    path = facts.critical_path
    lines += ["", *(_path(facts.past, path, everything) if path else [f"critical path: {facts.past}"])]
    return "".join(f"{line}\n" for line in lines)


def _nodes(nodes: Sequence[NodeFacts], everything: bool) -> Iterator[str]:
    groups = _alike(nodes, _kind) if len(nodes) > NODES and not everything else [[node] for node in nodes]
    rows = [["node", "processor", "placement", "queue", "limits", "runs"]]
    for group in groups:
        node = group[0]
        path = node.path if len(group) == 1 else f"{len(group):,} × {node.path} … {group[-1].path}"
        placement = f"{node.placement}, map" if node.is_map else node.placement
        rows.append([path, node.processor, placement, node.queue, _limits(node), _runs(node, len(group) > 1)])
    yield from _cut(_table(rows), NODES + 1, everything)


def _kind(node: NodeFacts) -> Hashable:
    return node.model_copy(update={"path": "", "runs_with": ()})


def _limits(node: NodeFacts) -> str:
    found = [] if node.timeout_s is None else [f"timeout {node.timeout_s:g} s"]
    if node.retries != 0:
        found.append("any number of retries" if node.retries is None else _count(node.retries, "retry", "retries"))
    return ", ".join(found) or "-"


def _runs(node: NodeFacts, is_group: bool) -> str:
    if node.runs == "own":
        items = ", its items each as one more" if node.is_map else ""
        return f"as the task {node.task}{items}" if node.task else f"in a claim of its own{items}"
    place = {"claim": "in the claim of", "task": "in the task of", "handed": "handed to the worker that settles"}
    return f"{place[node.runs]} {'its last upstream' if is_group else _last_of(node.runs_with)}"


def _last_of(names: Sequence[str]) -> str:
    """Name the nodes of which the one that ends last is meant."""
    if len(names) == 1:
        return names[0]
    shown = [*names[:2], f"{len(names) - 2:,} more"] if len(names) > 3 else names
    return f"the last of {', '.join(shown[:-1])} and {shown[-1]}"


def _canvas(facts: Explanation, canvas: CanvasFacts, plan: Plan, everything: bool) -> Iterator[str]:
    yield f"segments: {len(canvas.segments)}"
    yield from _segments("a run begins with", [one for one in canvas.segments if one.begins], plan, everything)
    later = [one for one in canvas.segments if not one.begins]
    yield from _segments("published when the last upstream is settled", later, plan, everything)
    by = canvas.deliveries
    yield f"edges: {by['canvas']} delivered by Celery, {by['inline']} inline, {by['implied']} implied by others"
    yield f"resolver edges: {canvas.resolver_edges}"
    resolved = sorted((edge for edge in facts.edges if edge.why), key=lambda edge: edge.why or "")
    for why, edges in groupby(resolved, key=lambda edge: edge.why):
        yield f"  {why}"
        yield from _cut([f"    {edge.upstream} -> {edge.node}" for edge in edges], LINES, everything, "    ")
    yield f"continuations: {canvas.continuations}"
    if canvas.continuations:
        yield "  cut for the size of messages" + ("" if canvas.has_chords else ", or for want of a result backend")
        cut = [edge for edge in facts.edges if edge.delivery == "continuation"] if everything else []
        yield from (f"    {edge.upstream} -> {edge.node}" for edge in cut)
    yield f"extra barriers: {len(canvas.extra_barriers) or 'none'}"
    yield from (f"    {before} -> {node}" for before, node in canvas.extra_barriers)


def _segments(title: str, segments: list[SegmentFacts], plan: Plan, everything: bool) -> Iterator[str]:
    if not segments:
        return
    from flowq.cli.expression import express, shape_of

    yield f"  {title}"
    lines = []
    for group in (
        [[one] for one in segments] if everything else _alike(segments, lambda one: shape_of(plan, one.region))
    ):
        written = express(plan, group[0].region, short=not everything)
        more = [f"… {len(group) - 1:,} more like this"] if len(group) > 1 else []
        lines.append("\n".join(f"    {line}" for line in [*written, *more]))
    yield from _cut(lines, LINES, everything, "    ")


def _messages(messages: MessageFacts) -> str:
    if messages.number is None or messages.bytes is None:
        return "wake-ups of less than 1 KB, at any time as many at most as there are free slots"
    said = (
        f"{messages.number:,}, about {_size(messages.bytes)} in all, the largest about {_size(messages.largest_bytes)}"
    )
    if messages.map_item_bytes is not None:
        said += f"; one more of about {_size(messages.map_item_bytes)} for every item of a map"
    return said


def _path(past: str, path: CriticalPath, everything: bool) -> Iterator[str]:
    yield (
        f"critical path of {past}: {path.total_s:.3f} s in {_count(len(path.steps), 'step')},"
        f" {path.run_s:.3f} s of it running, {path.wait_s:.3f} s waiting"
    )
    longest = sorted(path.steps, key=lambda step: step.share, reverse=True)
    kept = path.steps if everything else [step for step in path.steps if step in longest[:LINES]]
    yield from (f"  {line}" for line in _table([["node", "waited", "ran", "share"], *map(_step, kept)]))
    left = len(path.steps) - len(kept)
    if left:
        share = sum(step.share for step in path.steps) - sum(step.share for step in kept)
        yield f"  … {left:,} more, {share:.0%} together"


def _step(step: PathStep) -> list[str]:
    again = f" (attempt {step.attempt})" if step.attempt > 1 else ""
    item = f", {step.last_item} last" if step.last_item else ""
    return [f"{step.node}{again}{item}", f"{step.wait_s:.3f} s", f"{step.run_s:.3f} s", f"{step.share:.0%}"]


def _alike(things: Iterable[T], kind: Callable[[T], Hashable]) -> list[list[T]]:
    groups: dict[Hashable, list[T]] = {}
    for thing in things:
        groups.setdefault(kind(thing), []).append(thing)
    return list(groups.values())


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Align columns; those in which no row says anything are left out."""
    columns = [column for column in zip(*rows, strict=True) if any(cell != "-" for cell in column[1:])]
    widths = [max(map(len, column)) for column in columns]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]


def _cut(lines: Sequence[str], most: int, everything: bool, indent: str = "") -> Iterator[str]:
    kept = lines if everything or len(lines) <= most else lines[: most - 1]
    yield from kept
    if len(kept) < len(lines):
        yield f"{indent}… {len(lines) - len(kept):,} more (--all shows everything)"


def _count(number: int, one: str, several: str = "") -> str:
    return f"{number:,} {one if number == 1 else several or f'{one}s'}"


def _size(number: int) -> str:
    if number < 1024 * 1024:
        return f"{number / 1024:.1f} KB"
    return f"{number / 1024 / 1024:.1f} MB"
