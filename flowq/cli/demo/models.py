"""The values that travel through the demo's flow, all of them small: the files themselves are read where they lie."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Value(BaseModel):
    """Plain and unchangeable data."""

    model_config = ConfigDict(frozen=True)


class Function(Value):
    """One function or method."""

    module: str
    name: str
    """Qualified within its module: ``Class.method``."""
    line: int
    lines: int
    complexity: int
    """McCabe's cyclomatic complexity: the number of independent ways through it."""
    nesting: int
    """How many blocks its innermost statement is in."""


class Measure(Value):
    """What one module's source tells."""

    module: str
    lines: int
    code_lines: int
    comment_lines: int
    doc_lines: int
    functions: int
    documented: int
    """How many of the functions have a docstring."""
    classes: int
    complexity: int
    """The sum over its functions."""
    bands: list[int]
    """How many functions fall into each of ``measure.BANDS``."""
    most_complex: list[Function]
    longest: list[Function]
    most_nested: list[Function]
    imports: list[str]
    """What is imported when the module is: ``a.b`` also stands for ``from a import b``."""
    late_imports: list[str]
    """What is imported later, if at all: inside of functions, or when the module is run as a program."""


class Count(Value):
    """A module and a number."""

    module: str
    count: int


class Totals(Value):
    """All measures, summed up."""

    modules: int
    lines: int
    code_lines: int
    comment_lines: int
    doc_lines: int
    functions: int
    documented: int
    classes: int
    mean_complexity: float
    bands: list[int]
    most_complex: list[Function]
    longest: list[Function]
    most_nested: list[Function]
    largest: list[Count]
    """Modules by lines of code."""


class ImportGraph(Value):
    """Who imports whom."""

    edges: int
    late_edges: int
    """Imports inside of functions that are not also made when the module is imported."""
    most_imported: list[Count]
    cycles: list[list[str]]
    """Modules that import each other when they are imported: the strongly connected components, largest first."""
    broken_cycles: int
    """Further rings that exist only if imports inside of functions count: that is what put them there."""
    depth: int
    chain: list[str]
    """One longest line of imports, from the module that needs most to one that needs nothing."""


class Project(Value):
    """How a source tree describes itself."""

    name: str
    version: str | None = None
    license: str | None = None


class Survey(Value):
    """The report: what the flow returns."""

    root: str
    modules: list[str]
    """Their paths, in the order in which they were measured: item ``i`` of ``measure`` is ``modules[i]``."""
    totals: Totals
    imports: ImportGraph
    project: Project | None
