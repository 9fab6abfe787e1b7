"""Where the parameters of a function come from when it is a processor in the class form."""

import pytest

from flowq import DependencyData, Flow, FlowConfig, task


@task
def source() -> int:
    return 1


@task
def other_source() -> int:
    return 2


def bound(processor, deps=(), optional=(), **kinds):
    """Give the arguments of a child with these upstreams."""
    root = Flow(None, FlowConfig(name="root"))
    flows = {name: Flow(source, FlowConfig(name=name)) for name in [*deps, *optional, *kinds.values()]}
    for flow in flows.values():
        flow.register_to(root)
    node = Flow(processor, FlowConfig(name="node"))
    node.register_to(
        root,
        required_deps={parameter: flows[name] for parameter, name in kinds.items()} or [flows[name] for name in deps],
        optional_deps=[flows[name] for name in optional],
    )
    return root.graph().steps["node"].args


def two(a: int, b: int) -> int: ...  # type: ignore[empty-body]
def with_default(a: int, b: int = 3) -> int: ...  # type: ignore[empty-body]
def all_defaults(a: int = 1, b: int = 3) -> int: ...  # type: ignore[empty-body]
def takes_dependencies(a: int, deps: DependencyData) -> int: ...  # type: ignore[empty-body]


@pytest.mark.parametrize(
    ("processor", "upstreams", "expected"),
    [
        # by name
        (two, {"deps": ["a", "b"]}, {"a": ("step", "a"), "b": ("step", "b")}),
        (two, {"deps": ["b", "a"]}, {"a": ("step", "a"), "b": ("step", "b")}),
        # the left over ones in order
        (two, {"deps": ["x", "y"]}, {"a": ("step", "x"), "b": ("step", "y")}),
        (two, {"deps": ["y", "x"]}, {"a": ("step", "y"), "b": ("step", "x")}),
        (two, {"deps": ["x", "a"]}, {"a": ("step", "a"), "b": ("step", "x")}),
        (two, {"deps": ["b", "x"]}, {"a": ("step", "x"), "b": ("step", "b")}),
        (two, {"deps": ["x"], "optional": ["y"]}, {"a": ("step", "x"), "b": ("step", "y")}),
        # by what was said
        (two, {"a": "x", "b": "y"}, {"a": ("step", "x"), "b": ("step", "y")}),
        (two, {"b": "x", "a": "y"}, {"a": ("step", "y"), "b": ("step", "x")}),
        # the rest from the input
        (two, {}, {"a": ("input", "a"), "b": ("input", "b")}),
        (two, {"deps": ["x"]}, {"a": ("step", "x"), "b": ("input", "b")}),
        (two, {"deps": ["b"]}, {"a": ("input", "a"), "b": ("step", "b")}),
        # defaults: those without come first, and the input fills them only where there is no upstream
        (with_default, {}, {"a": ("input", "a"), "b": ("input", "b")}),
        (with_default, {"deps": ["x"]}, {"a": ("step", "x")}),
        (with_default, {"deps": ["b"]}, {"a": ("input", "a"), "b": ("step", "b")}),
        (with_default, {"deps": ["x", "y"]}, {"a": ("step", "x"), "b": ("step", "y")}),
        (all_defaults, {}, {"a": ("input", "a"), "b": ("input", "b")}),
        (all_defaults, {"deps": ["x"]}, {"a": ("step", "x")}),
        # who takes the dependencies gets what is left over there
        (takes_dependencies, {"deps": ["x", "y"]}, {"a": ("input", "a")}),
        (takes_dependencies, {"deps": ["a", "y"]}, {"a": ("step", "a")}),
    ],
)
def test_sources(processor, upstreams, expected):
    assert bound(processor, **upstreams) == expected


def test_upstreams_that_nobody_reads_still_order():
    root = Flow(None, FlowConfig(name="root"))
    first, second, node = (Flow(kind, FlowConfig(name=name)) for kind, name in _three())
    for flow in (first, second):
        flow.register_to(root)
    node.register_to(root, required_deps=[first, second])
    step = root.graph().steps["node"]
    assert step.args == {"a": ("step", "first")}
    assert set(step.deps) == {"first", "second"}


def one(a: int) -> int: ...  # type: ignore[empty-body]


def _three():
    return [(source, "first"), (other_source, "second"), (one, "node")]
