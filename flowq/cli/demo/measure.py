"""Measures one module from its source: sizes, complexity, nesting and imports.

The syntax tree gives the structure, the tokens give the comments, which no tree has.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from flowq.cli.demo.models import Function, Measure

TOP = 10
"""How many functions a list of extremes holds: each module's as many as the tree's, which is made from them."""

BANDS = (1, 6, 11, 21, 51)
"""Where the bands of complexity begin: simple, moderate, complex, hard to test, out of hand (McCabe, the SEI)."""

_BRANCHES = (
    *(ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While),
    *(ast.ExceptHandler, ast.Assert, ast.comprehension, ast.match_case),
)
_BLOCKS = (
    *(ast.If, ast.For, ast.AsyncFor, ast.While, ast.With, ast.AsyncWith),
    *(ast.Try, ast.TryStar, ast.Match),
)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED = (*_FUNCTIONS, ast.ClassDef, ast.Module)
_NOT_ON_IMPORT = {"__name__", "TYPE_CHECKING"}
"""Names in the test of an ``if`` whose body does not run when the module is imported."""
_NO_CODE = {
    *(tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT),
    *(tokenize.DEDENT, tokenize.ENCODING, tokenize.ENDMARKER),
}


@dataclass(slots=True)
class _Scope:
    """A function as it is being measured."""

    name: str
    node: ast.FunctionDef | ast.AsyncFunctionDef
    complexity: int = 1
    nesting: int = 0


@dataclass(slots=True)
class _Findings:
    functions: list[_Scope] = field(default_factory=list)
    classes: int = 0
    documented: int = 0
    doc_lines: set[int] = field(default_factory=set)
    imports: set[str] = field(default_factory=set)
    late_imports: set[str] = field(default_factory=set)


def measure_source(source: bytes, path: str) -> Measure:
    """Measure the module that lies at ``path``, relative to the root of its tree.

    Raises:
        SyntaxError: it cannot be parsed.
    """
    module = module_name(path)
    found = _findings(ast.parse(source, filename=path), module, is_package=path.endswith("__init__.py"))
    code, comments = _lines(source)
    functions = [
        Function(
            module=module,
            name=scope.name,
            line=scope.node.lineno,
            lines=(scope.node.end_lineno or scope.node.lineno) - scope.node.lineno + 1,
            complexity=scope.complexity,
            nesting=scope.nesting,
        )
        for scope in found.functions
    ]
    return Measure(
        module=module,
        lines=source.count(b"\n") + (not source.endswith(b"\n") and bool(source)),
        code_lines=len(code - found.doc_lines),
        comment_lines=len(comments - code),
        doc_lines=len(found.doc_lines),
        functions=len(functions),
        documented=found.documented,
        classes=found.classes,
        complexity=sum(function.complexity for function in functions),
        bands=band_counts([function.complexity for function in functions]),
        most_complex=top(functions, "complexity"),
        longest=top(functions, "lines"),
        most_nested=top(functions, "nesting"),
        imports=sorted(found.imports),
        late_imports=sorted(found.late_imports - found.imports),
    )


def module_name(path: str) -> str:
    """Give the name under which a file of the tree is imported: ``json/__init__.py`` is ``json``."""
    return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def top(functions: list[Function], key: str) -> list[Function]:
    """Give the functions with the largest ``key``; among equals by name, so that every run gives the same."""
    return sorted(functions, key=lambda function: (-getattr(function, key), function.module, function.line))[:TOP]


def band_counts(complexities: list[int]) -> list[int]:
    """Count how many fall into each band."""
    ends = [*BANDS, float("inf")]
    return [sum(start <= value < end for value in complexities) for start, end in pairwise(ends)]


def _findings(tree: ast.Module, module: str, *, is_package: bool) -> _Findings:
    """Walk the tree with a stack of its own: the deepest expressions would exhaust Python's."""
    found = _Findings()
    package = module.split(".") if is_package else module.split(".")[:-1]
    stack: list[tuple[ast.AST, _Scope | None, bool, int, str]] = [(tree, None, False, 0, "")]
    while stack:
        node, scope, late, depth, prefix = stack.pop()
        if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
            name = prefix + node.name
            prefix, depth = f"{name}.", 0
            if isinstance(node, ast.ClassDef):
                scope, found.classes = None, found.classes + 1
            else:
                scope, late = _Scope(name, node), True
                found.functions.append(scope)
        if isinstance(node, _DOCUMENTED):
            _note_docstring(node, found)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            (found.late_imports if late else found.imports).update(_imported(node, package))
        elif scope is not None:
            scope.complexity += _branches(node)
            scope.nesting = max(scope.nesting, depth + isinstance(node, _BLOCKS))
        inner = depth + isinstance(node, _BLOCKS)
        late = late or (isinstance(node, ast.If) and bool(_NOT_ON_IMPORT & set(map(_name, ast.walk(node.test)))))
        # An elif is an If alone in the else of an If; it stands no deeper than the first one.
        orelse = node.orelse if isinstance(node, ast.If) else []
        chained = orelse[0] if len(orelse) == 1 and isinstance(orelse[0], ast.If) else None
        stack.extend(
            (child, scope, late, depth if child is chained else inner, prefix) for child in ast.iter_child_nodes(node)
        )
    return found


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def _branches(node: ast.AST) -> int:
    """Give how many further ways a node opens."""
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, _BRANCHES))


def _note_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, found: _Findings) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        found.doc_lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
        found.documented += isinstance(node, _FUNCTIONS)


def _imported(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """Give the absolute names of what is imported; whether the last part is a module, only the whole tree can tell."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    above = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*above, *([node.module] if node.module else [])])
    for alias in node.names:
        yield base if alias.name == "*" or not base else f"{base}.{alias.name}"


def _lines(source: bytes) -> tuple[set[int], set[int]]:
    """Give the numbers of the lines with code and of those with a comment."""
    code: set[int] = set()
    comments: set[int] = set()
    for token in tokenize.tokenize(io.BytesIO(source).readline):
        if token.type == tokenize.COMMENT:
            comments.add(token.start[0])
        elif token.type not in _NO_CODE:
            code.update(range(token.start[0], token.end[0] + 1))
    return code, comments
