"""The demo's flow: a survey of a tree of Python source, by default of the standard library.

::

    list_modules ──▶ measure × module ──┬──▶ aggregate ─────┐
                                        └──▶ import_graph ──┼──▶ report
    project_metadata ╌╌╌╌╌╌╌ optional ╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌┘

The report can do without the project's own metadata, and on the standard library it has to: unlike other projects,
that has no pyproject.toml.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from pathlib import Path

from flowq import FlowType, flow, task
from flowq.cli.demo.imports import graph_of
from flowq.cli.demo.measure import TOP, measure_source, top
from flowq.cli.demo.models import Count, Function, ImportGraph, Measure, Project, Survey, Totals

SKIPPED = frozenset({"site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test"})
"""Folders that are not the library: what others have installed into it, and the test suites. These are more than half
of the tree, hold files that are meant not to parse, and import everything: they would be all that the lists show."""


@task(flow_type=FlowType.THREAD)
def list_modules(root: str) -> list[str]:
    """List the modules below ``root`` by their paths; the largest first, so that none of them is left for the end."""
    found: list[tuple[int, str]] = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in SKIPPED and not name.startswith(".")]
        paths = (Path(folder, name) for name in files if name.endswith(".py"))
        found.extend((-path.stat().st_size, path.relative_to(root).as_posix()) for path in paths)
    if not found:
        raise FileNotFoundError(f"there are no Python modules below {root!r} on this machine")
    return [path for _, path in sorted(found)]


@task(timeout=60)
def measure(path: str, root: str) -> Measure:
    """Measure one module; this is where the time goes."""
    return measure_source(Path(root, path).read_bytes(), path)


@task
def aggregate(measures: list[Measure]) -> Totals:
    """Sum the measures up, and find the extremes."""
    functions = sum(one.functions for one in measures)

    def extremes(key: str, lists: Iterable[list[Function]]) -> list[Function]:
        return top([function for functions in lists for function in functions], key)

    return Totals(
        modules=len(measures),
        lines=sum(one.lines for one in measures),
        code_lines=sum(one.code_lines for one in measures),
        comment_lines=sum(one.comment_lines for one in measures),
        doc_lines=sum(one.doc_lines for one in measures),
        functions=functions,
        documented=sum(one.documented for one in measures),
        classes=sum(one.classes for one in measures),
        mean_complexity=round(sum(one.complexity for one in measures) / max(functions, 1), 2),
        bands=[sum(counts) for counts in zip(*(one.bands for one in measures), strict=True)],
        most_complex=extremes("complexity", (one.most_complex for one in measures)),
        longest=extremes("lines", (one.longest for one in measures)),
        most_nested=extremes("nesting", (one.most_nested for one in measures)),
        largest=[
            Count(module=one.module, count=one.code_lines)
            for one in sorted(measures, key=lambda one: (-one.code_lines, one.module))[:TOP]
        ],
    )


@task
def import_graph(measures: list[Measure]) -> ImportGraph:
    """Find out who imports whom."""
    return graph_of(measures)


@task(flow_type=FlowType.THREAD)
def project_metadata(root: str) -> Project:
    """Read how the tree describes itself. The standard library does not: this step fails there, and is bypassed."""
    try:
        table = tomllib.loads(Path(root, "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except FileNotFoundError:
        raise FileNotFoundError(f"{root} has no pyproject.toml, so name, version and licence are unknown") from None
    return Project(name=table["name"], version=table.get("version"), license=str(table.get("license") or "") or None)


@task(flow_type=FlowType.INLINE)
def report(
    root: str, modules: list[str], totals: Totals, imports: ImportGraph, project: Project | None = None
) -> Survey:
    """Put everything together, with or without the project's metadata."""
    return Survey(root=root, modules=modules, totals=totals, imports=imports, project=project)


@flow(description="Survey a tree of Python source")
def survey(root: str) -> Survey:
    """Survey the tree below ``root``, which all workers must see under this path."""
    modules = list_modules(root)
    measures = measure.map(modules, root)
    return report(root, modules, aggregate(measures), import_graph(measures), project_metadata(root))
