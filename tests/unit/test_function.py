"""The function form: what calling tasks in the body of a flow writes down."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from flowq import DefinitionError, DependencyData, InputError, Skip, current_attempt, flow, optional, required, task
from flowq.core.graph import Dependency
from flowq.core.types import DependencyType

REQUIRED, OPTIONAL = Dependency(DependencyType.REQUIRED), Dependency(DependencyType.OPTIONAL)


class Row(BaseModel):
    x: int


@task
def one(x: int) -> int:
    return x


@task
def add(a: int, b: int = 10) -> int:
    return a + b


@task
def maybe(a: int, b: int | None = None) -> int:
    return a


@task
def collects(deps: DependencyData, a: int = 0) -> int:
    return a


@task
def row(x: int) -> Row:
    return Row(x=x)


@task
async def waits(x: int) -> int:
    return x


def steps(body) -> dict[str, Any]:
    found: dict[str, Any] = flow(body).graph().steps
    return found


# ── what is written down ──────────────────────────────────────────────────────────────────────────────────────────────


def test_parameters_and_outputs_become_edges():
    def body(x: int) -> int:
        return add(one(x), one(x))

    found = steps(body)
    assert list(found) == ["one", "one_2", "add"]
    assert found["one"].args == {"x": ("input", "x")}
    assert found["add"].args == {"a": ("step", "one"), "b": ("step", "one_2")}
    assert found["add"].deps == {"one": REQUIRED, "one_2": REQUIRED}


def test_constants_lists_and_dicts():
    @task
    def takes(value: Any) -> Any:
        return value

    def body(x: int) -> Any:
        first = one(x)
        return takes({"a": [first, 1], "b": {"c": x}, "d": [1, 2]})

    assert steps(body)["takes"].args["value"] == (
        "dict",
        (
            ("a", ("list", (("step", "one"), ("const", 1)))),
            ("b", ("dict", (("c", ("input", "x")),))),
            ("d", ("const", [1, 2])),
        ),
    )


def test_models_are_constants():
    @task
    def takes(value: Row) -> int:
        return value.x

    assert steps(lambda: takes(Row(x=3)))["takes"].args["value"] == ("const", {"x": 3})


@pytest.mark.parametrize(
    ("call", "dependency"),
    [
        (lambda up: maybe(1, up), OPTIONAL),
        (lambda up: maybe(1, required(up)), REQUIRED),
        (lambda up: add(1, up), REQUIRED),
        (lambda up: add(1, optional(up)), OPTIONAL),
        (lambda up: add(up, 1, after=up), REQUIRED),
        (lambda up: add(1, optional(up), after=[up]), Dependency(DependencyType.REQUIRED, has_value=True)),
        (lambda up: add(1, 2, after=[up]), Dependency(DependencyType.REQUIRED, has_value=False)),
        (lambda up: add(1, 2, after=optional(up)), Dependency(DependencyType.OPTIONAL, has_value=False)),
        (lambda up: maybe(up, up), REQUIRED),
    ],
)
def test_what_an_edge_demands(call, dependency):
    def body(x: int):
        return call(one(x))

    (last,) = [step for path, step in steps(body).items() if path != "one"]
    assert last.deps == {"one": dependency}


def test_a_function_may_take_all_its_dependencies():
    def body(x: int):
        return collects(after=[one(x)], a=one(x))

    found = steps(body)["collects"]
    assert found.args == {"a": ("step", "one_2")}
    assert set(found.deps) == {"one", "one_2"}


def test_a_map_is_one_step():
    def body(items: list[int], x: int):
        return add.map(items, one(x))

    found = steps(body)["add"]
    assert (found.over, found.item_parameter) == (("input", "items"), "a")
    assert found.args == {"a": ("item",), "b": ("step", "one")}


@pytest.mark.parametrize("items", [5, "text", b"bytes", {"a": 1}, None])
def test_a_map_over_what_is_no_list(items):
    with pytest.raises(DefinitionError, match=f"takes a list of items, not {type(items).__name__}"):
        steps(lambda: one.map(items))


def test_a_map_over_any_iterable_that_is_known():
    assert steps(lambda: one.map(range(3)))["one"].over == ("const", [0, 1, 2])
    assert steps(lambda: one.map(x for x in (1, 2)))["one"].over == ("const", [1, 2])


def test_a_flow_in_a_flow():
    @flow
    def inner(x: int) -> int:
        return add(one(x), 1)

    def outer(x: int) -> int:
        return one(inner(x))

    found = steps(outer)
    assert list(found) == ["inner", "inner/one", "inner/add", "one"]
    assert [step.parent for step in found.values()] == [None, "inner", "inner", None]
    assert found["one"].args == {"x": ("step", "inner")}


def test_what_a_flow_returns():
    assert flow(lambda x: one(x)).graph().output == "one"
    assert flow(_returns_nothing).graph().output is None
    gathered = flow(_returns_a_dict).graph()
    assert gathered.output == "_returns_a_dict"
    assert gathered.steps["_returns_a_dict"].args["value"][0] == "dict"


def _returns_nothing(x: int) -> None:
    one(x)


def _returns_a_dict(x: int) -> dict[str, int]:
    return {"a": one(x), "b": one(x)}


def test_the_type_of_the_output():
    assert flow(lambda x: row(x)).graph().returns is Row
    assert flow(lambda xs: row.map(xs)).graph().returns == list[Row]
    assert flow(_returns_a_dict).graph().returns == dict[str, int]


def test_the_body_runs_once_per_build():
    calls = []

    @flow
    def graph(x: int) -> int:
        calls.append(x)
        return one(x)

    graph.validate()
    graph.plan()
    graph.graph()
    assert len(calls) == 1


def test_an_error_in_the_body_leaves_no_trace():
    @flow
    def graph(x: int) -> int:
        one(x)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            graph.validate()
    assert one(3) == 3  # not taken for a step


# ── what has no value yet ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "use",
    [
        bool,
        list,
        len,
        int,
        float,
        lambda v: v + 1,
        lambda v: 1 + v,
        lambda v: v[0],
        lambda v: v > 1,
        lambda v: v * 2,
        lambda v: v - 1,
        lambda v: 1 in v,
        lambda v: [x for x in v],  # noqa: C416
        lambda v: "yes" if v else "no",
    ],
)
@pytest.mark.parametrize("of", ["output", "parameter"])
def test_using_it_in_the_body_says_what_to_do(use, of):
    @flow
    def graph(x: int):
        return use(one(x) if of == "output" else x)

    said = "the output of 'one'" if of == "output" else "the flow's parameter 'x'"
    with pytest.raises(DefinitionError, match=f"{said} has no value while the flow is being written: pass it on"):
        graph.validate()


# ── definitions that cannot be used ───────────────────────────────────────────────────────────────────────────────────


def test_an_async_body():
    with pytest.raises(DefinitionError, match="write `def`, not `async def`"):

        @flow
        async def graph(x: int) -> int:
            return x


def test_a_parameter_that_is_taken():
    with pytest.raises(DefinitionError, match="'context' names the FlowContext; rename"):

        @flow
        def graph(context: int) -> int:
            return context


def test_a_flow_is_not_mapped():
    @flow
    def graph(x: int) -> int:
        return one(x)

    with pytest.raises(DefinitionError, match="cannot be mapped; map a @task"):
        graph.map([1])


def test_a_class_is_not_mapped():
    class Leaf(BaseModel):
        def process(self, input_data):
            return 1

    with pytest.raises(DefinitionError, match="no parameter that takes an item"):
        steps(lambda: task(Leaf()).map([1]))


# ── outside of a body ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_flow_called_outside_is_a_plain_function():
    @flow
    def inner(x: int) -> int:
        return add(x)

    @flow
    def outer(x: int) -> list[int]:
        return [inner(x), *one.map([1, 2]), optional(add(1, b=2)), required(5)]

    assert outer(5) == [15, 1, 2, 3, 5]
    assert outer.__name__ == "outer"  # type: ignore[attr-defined]


def test_current_attempt_is_for_processors():
    with pytest.raises(RuntimeError, match="no attempt is running here"):
        current_attempt()


# ── inputs ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@flow
def sums(a: int, b: int = 2, rows: list[Row] | None = None) -> int:
    return add(a, b)


@pytest.mark.parametrize(
    ("args", "kwargs", "given"),
    [
        ((1,), {}, {"a": 1, "b": 2, "rows": None}),
        ((1, 5), {}, {"a": 1, "b": 5, "rows": None}),
        ((), {"b": "7", "a": "1"}, {"a": 1, "b": 7, "rows": None}),
        ((1,), {"rows": [Row(x=1), {"x": "2"}]}, {"a": 1, "b": 2, "rows": [{"x": 1}, {"x": 2}]}),
    ],
)
def test_a_call_becomes_the_runs_input(args, kwargs, given):
    assert sums._given(args, kwargs) == given


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, r"flow 'sums' takes \(a, b, rows\): missing a required argument: 'a'"),
        ((1, 2, None, 4), {}, "too many positional arguments"),
        ((1,), {"c": 3}, "unexpected keyword argument 'c'"),
        (("many",), {}, "flow 'sums': input 'a' cannot be used"),
        ((1,), {"rows": [{"y": 1}]}, "flow 'sums': input 'rows' cannot be used"),
    ],
)
def test_a_call_that_does_not_fit(args, kwargs, message):
    with pytest.raises(InputError, match=message):
        sums.run(*args, **kwargs)


async def test_it_runs_here(flowq_local):
    @task(flow_type="inline")
    def skips(x: int) -> int:
        raise Skip

    @flow
    def graph(x: int, y: float) -> list[float | None]:
        return both(one.options(flow_type="inline")(x), y, skips(x))

    @task(flow_type="inline")
    def both(x: int, y: float, z: int | None = None) -> list[float | None]:
        return [x, y, z]

    nan = float("nan")
    result = await graph.execute(1, y=nan)
    assert repr(result.output) == "[1.0, nan, None]"
