"""Graphs that cannot run: each problem is a typed error that names the node, the field and what to do."""

import itertools

import pytest
from pydantic import BaseModel

from flowq import (
    CycleError,
    DefinitionError,
    DuplicateDependencyError,
    DuplicateNameError,
    Flow,
    FlowConfig,
    FlowType,
    GraphError,
    InputError,
    MissingParameterError,
    SelfDependencyError,
    TypeMismatchError,
    UnknownDependencyError,
    flow,
    optional,
    task,
)


class Anything(BaseModel):
    def process(self, input_data):
        return input_data


class GivesText(BaseModel):
    class Output(BaseModel):
        value: str

    def process(self, input_data):
        return {"value": "a"}


class TakesNumber(BaseModel):
    class Input(BaseModel):
        value: int

    def process(self, input_data):
        return 1


class Opaque:
    """Nothing that pydantic knows how to check."""


@task
def number(x: int) -> int:
    return x


@task
def text(x: int) -> str:
    return str(x)


@task
def total(values: list[int]) -> int:
    return sum(values)


def leaf(name: str, processor=None) -> Flow:
    return Flow(processor or Anything(), FlowConfig(name=name))


def root(flow_type: FlowType = FlowType.PARALLEL) -> Flow:
    return Flow(None, FlowConfig(name="root", flow_type=flow_type))


def problem_of(graph, kind: type[GraphError]) -> GraphError:
    """Give the graph's one problem, which says where it is and what to do about it."""
    with pytest.raises(GraphError) as caught:
        graph.validate()
    error = caught.value
    assert type(error) is kind
    assert error.problems == (error,)
    assert error.node
    assert error.field
    assert error.remedy
    assert repr(error.node) in str(error)
    assert error.remedy in str(error)
    return error


# ── cycles ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def ring(*names: str) -> Flow:
    end = root()
    flows = {name: leaf(name) for name in names}
    for before, name in itertools.pairwise([names[-1], *names]):
        flows[name].register_to(end, required_deps=[flows[before].process_id])
    return end


@pytest.mark.parametrize("names", [("a", "b"), ("a", "b", "c"), tuple("abcdefgh")])
def test_a_cycle_is_named_with_its_path(names):
    error = problem_of(ring(*names), CycleError)
    assert isinstance(error, CycleError)
    assert error.path[0] == error.path[-1]
    assert sorted(error.path[:-1]) == sorted(names)
    assert " -> ".join(error.path) in str(error)


def test_the_path_follows_the_edges():
    error = problem_of(ring("a", "b", "c"), CycleError)
    assert isinstance(error, CycleError)
    edges = {("a", "b"), ("b", "c"), ("c", "a")}
    assert set(itertools.pairwise(error.path)) in (edges, {(after, before) for before, after in edges})


def test_a_cycle_beside_much_that_is_right():
    end = ring("a", "b")
    for i in range(50):
        leaf(f"fine{i}").register_to(end)
    error = problem_of(end, CycleError)
    assert isinstance(error, CycleError)
    assert set(error.path) == {"a", "b"}


def test_a_cycle_through_a_parent():
    """The parent waits for its child, and the child for what waits for the parent."""
    end, inner, child, after = root(), leaf("inner"), leaf("child"), leaf("after")
    inner.register_to(end)
    after.register_to(end, required_deps=[inner.process_id])
    child.register_to(inner, required_deps=[after.process_id])
    error = problem_of(end, CycleError)
    assert isinstance(error, CycleError)
    assert {"inner/child", "after"} <= set(error.path)


def test_a_cycle_through_a_gate():
    """The parent starts after a flow that starts after the parent's child: only the gate closes the ring."""
    end, inner, child, before = root(), leaf("inner"), leaf("child"), leaf("before")
    before.register_to(end, required_deps=[child.process_id])
    inner.register_to(end, required_deps=[before.process_id])
    child.register_to(inner)
    error = problem_of(end, CycleError)
    assert isinstance(error, CycleError)
    assert {"inner/child", "before"} <= set(error.path)


def test_a_child_that_waits_for_its_parent():
    end, inner, child = root(), leaf("inner"), leaf("child")
    inner.register_to(end)
    child.register_to(inner, required_deps=[inner.process_id])
    error = problem_of(end, CycleError)
    assert isinstance(error, CycleError)
    assert set(error.path) == {"inner", "inner/child"}


def test_a_sequence_against_a_dependency():
    end, first, second = root(FlowType.SEQUENTIAL), leaf("first"), leaf("second")
    first.register_to(end, required_deps=[second.process_id])
    second.register_to(end)
    assert isinstance(problem_of(end, CycleError), CycleError)


def test_optional_edges_close_rings_too():
    end, first, second = root(), leaf("first"), leaf("second")
    first.register_to(end, optional_deps=[second.process_id])
    second.register_to(end, optional_deps=[first.process_id])
    problem_of(end, CycleError)


# ── names and dependencies ────────────────────────────────────────────────────────────────────────────────────────────


def register(node: Flow, parent: Flow, field: str, upstream: str) -> None:
    if field == "required_deps":
        node.register_to(parent, required_deps=[upstream])
    else:
        node.register_to(parent, optional_deps=[upstream])


@pytest.mark.parametrize("field", ["required_deps", "optional_deps"])
def test_a_flow_that_depends_on_itself(field):
    end, node = root(), leaf("node")
    register(node, end, field, node.process_id)
    error = problem_of(end, SelfDependencyError)
    assert (error.node, error.field) == ("node", field)


@pytest.mark.parametrize("field", ["required_deps", "optional_deps"])
def test_a_dependency_that_is_not_there(field):
    end, node = root(), leaf("node")
    register(node, end, field, "nobody")
    error = problem_of(end, UnknownDependencyError)
    assert (error.node, error.field) == ("node", field)
    assert "'nobody'" in str(error)


def test_a_dependency_on_a_flow_of_another_graph():
    end, node, stranger = root(), leaf("node"), leaf("stranger")
    stranger.register_to(root())
    node.register_to(end, required_deps=[stranger])
    assert problem_of(end, UnknownDependencyError).node == "node"


@pytest.mark.parametrize("twice", ["required", "optional", "both"])
def test_a_dependency_that_is_named_twice(twice):
    end, node, upstream = root(), leaf("node"), leaf("upstream")
    upstream.register_to(end)
    node.register_to(
        end,
        required_deps=[upstream] * (2 if twice == "required" else twice == "both"),
        optional_deps=[upstream] * (2 if twice == "optional" else twice == "both"),
    )
    error = problem_of(end, DuplicateDependencyError)
    assert (error.node, "'upstream'" in str(error)) == ("node", True)


def test_two_children_with_one_name():
    end = root()
    for _ in range(2):
        leaf("same").register_to(end)
    assert problem_of(end, DuplicateNameError).node == "same"


def test_one_name_in_two_parents_is_none():
    end, inner = root(), leaf("inner")
    inner.register_to(end)
    for parent in (end, inner):
        leaf("same").register_to(parent)
    assert set(end.graph().steps) == {"root", "inner", "inner/same", "same"}


def test_a_child_with_the_name_of_the_root():
    end = root()
    leaf("root").register_to(end)
    assert problem_of(end, DuplicateNameError).node == "root"


def test_a_string_is_no_list_of_dependencies():
    end, node = root(), leaf("node")
    with pytest.raises(UnknownDependencyError, match="required_deps is a string; pass a list") as caught:
        node.register_to(end, required_deps="load")
    assert (caught.value.node, caught.value.field) == ("node", "required_deps")
    assert end.children == []


def test_a_flow_has_one_parent():
    node = leaf("node")
    node.register_to(root())
    with pytest.raises(DuplicateNameError, match="already a child of 'root'; make a second Flow"):
        node.register_to(root())


def test_a_flow_cannot_contain_itself():
    outer, inner = leaf("outer"), leaf("inner")
    with pytest.raises(SelfDependencyError, match="it would contain itself"):
        outer.register_to(outer)
    inner.register_to(outer)
    with pytest.raises(SelfDependencyError, match="'outer' cannot be registered to 'inner'"):
        outer.register_to(inner)
    assert inner.children == []


def test_two_steps_that_were_given_one_name():
    @flow
    def twice(x: int):
        return [number.options(name="same")(x), number.options(name="same")(x)]

    error = problem_of(twice, DuplicateNameError)
    assert (error.node, error.field) == ("same", "name")


# ── types ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_mismatch_across_an_edge_in_the_function_form():
    @flow
    def graph(x: int) -> int:
        return number(text(x))

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number", "x")
    assert "upstream 'text' (returns str)" in str(error)
    assert "takes int" in str(error)


def test_a_mismatch_across_an_edge_between_functions_in_the_class_form():
    end, upstream, node = root(), Flow(text, FlowConfig(name="upstream")), Flow(number, FlowConfig(name="node"))
    upstream.register_to(end)
    node.register_to(end, required_deps=[upstream])
    error = problem_of(end, TypeMismatchError)
    assert (error.node, error.field) == ("node", "x")
    assert "upstream 'upstream' (returns str)" in str(error)


def test_a_mismatch_between_an_upstreams_field_and_a_classes_input():
    end, upstream, node = root(), leaf("upstream", GivesText()), leaf("node", TakesNumber())
    upstream.register_to(end)
    node.register_to(end, required_deps=[upstream])
    error = problem_of(end, TypeMismatchError)
    assert (error.node, error.field) == ("node", "value")
    assert "field 'value' of upstream 'upstream' (is str)" in str(error)


def test_a_mismatch_with_a_parameter_of_the_flow():
    @flow
    def graph(given: str) -> int:
        return number(given)

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number", "x")
    assert "the flow's parameter 'given'" in str(error)


@pytest.mark.parametrize("constant", ["no number", [1], {"a": 1}, None, 1.5])
def test_a_constant_of_the_wrong_type(constant):
    @flow
    def graph() -> int:
        return number(constant)

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number", "x")
    assert f"the constant {constant!r}" in str(error)


def test_a_constant_that_is_no_json():
    @flow
    def graph() -> int:
        return number(object())

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number", "x")
    assert "cannot be stored as JSON" in str(error)


def test_a_list_of_outputs_of_the_wrong_type():
    @flow
    def graph(x: int) -> int:
        return total([number(x), text(x)])

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("total", "values")
    assert "'text'" in str(error)


def test_a_list_where_none_is_taken():
    @flow
    def graph(x: int) -> int:
        return number([number(x)])

    assert problem_of(graph, TypeMismatchError).field == "x"


@pytest.mark.parametrize("over", ["known", "output", "input", "mapped"])
def test_items_of_the_wrong_type(over):
    @flow
    def graph(x: int, names: list[str]):
        texts = text.map([1, 2])
        return number.map({"known": [1, "a"], "output": text(x), "input": names, "mapped": texts}[over])

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number", "x")


def test_items_that_are_outputs_of_the_wrong_type():
    @flow
    def graph(x: int):
        return number.map([number(x), text(x), 3])

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number_2", "x")
    assert "'text'" in str(error)


@task
def raw(x: int) -> bytes:
    return bytes(x)


@pytest.mark.parametrize("where", ["a map", "a list", "a dict", "a parent"])
def test_bytes_where_only_json_can_be(where):
    @flow
    def graph(x: int):
        return raw.map([1, x]) if where == "a map" else {"a": raw(x)} if where == "a dict" else [raw(x)]

    end = root()
    Flow(raw, FlowConfig(name="raw")).register_to(end)
    problem_of(end if where == "a parent" else graph, TypeMismatchError)


def test_a_map_feeds_a_list():
    @flow
    def graph() -> int:
        return number(number.map([1, 2]))

    error = problem_of(graph, TypeMismatchError)
    assert "returns list[int]" in str(error)


def test_an_annotation_that_nothing_can_be_checked_against():
    @task
    def opaque(thing: Opaque) -> int:
        return 1

    @flow
    def graph(x: int) -> int:
        return opaque(number(x))

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("opaque", "thing")
    assert "pydantic model" in error.remedy


def test_an_after_that_is_no_step():
    @flow
    def graph(x: int) -> int:
        return number(x, after="load")

    error = problem_of(graph, TypeMismatchError)
    assert (error.node, error.field) == ("number", "after")


# ── parameters ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_required_parameter_without_a_value():
    @flow
    def graph(x: int) -> int:
        return number()

    error = problem_of(graph, MissingParameterError)
    assert (error.node, error.field) == ("number", "x")


@pytest.mark.parametrize("call", [lambda x: number(x, 5), lambda x: number(y=x), lambda x: number(x, x=x)])
def test_calls_that_do_not_fit(call):
    @flow
    def graph(x: int):
        return call(x)

    with pytest.raises(DefinitionError, match=r"task 'number' takes \(x\)"):
        graph.validate()


def test_a_class_whose_input_nobody_gives():
    """The run's input may have it: so it is asked for when the run starts, before anything is stored."""
    end = Flow(TakesNumber(), FlowConfig(name="node"))
    end.validate()
    with pytest.raises(InputError, match="'node' needs the input field 'value', which is missing: add it"):
        end.run({})


# ── several at once ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_all_problems_are_reported_together():
    end = root()
    selfish, lost, double = leaf("selfish"), leaf("lost"), leaf("double")
    selfish.register_to(end, required_deps=[selfish])
    lost.register_to(end, required_deps=["nobody"])
    double.register_to(end, required_deps=[lost, lost])
    for _ in range(2):
        leaf("same").register_to(end)
    with pytest.raises(GraphError, match="the graph has 4 problems") as caught:
        end.validate()
    found = [(type(problem), problem.node) for problem in caught.value.problems]
    assert sorted(found, key=str) == sorted(
        [
            (SelfDependencyError, "selfish"),
            (UnknownDependencyError, "lost"),
            (DuplicateDependencyError, "double"),
            (DuplicateNameError, "same"),
        ],
        key=str,
    )
    assert all(f"  {i}. {problem}" in str(caught.value) for i, problem in enumerate(caught.value.problems, 1))


def test_problems_of_building_and_of_types_are_reported_together():
    @flow
    def graph(x: int):
        number.options(name="first")()
        number.options(name="second")(text(x))
        total.options(name="third")(number(x))
        return number.options(name="first")(x)

    with pytest.raises(GraphError) as caught:
        graph.validate()
    assert {(type(problem), problem.node) for problem in caught.value.problems} == {
        (MissingParameterError, "first"),
        (DuplicateNameError, "first"),
        (TypeMismatchError, "second"),
        (TypeMismatchError, "third"),
    }


def test_a_cycle_and_a_mismatch_together():
    end = ring("a", "b")
    upstream, node = Flow(text, FlowConfig(name="upstream")), Flow(number, FlowConfig(name="node"))
    upstream.register_to(end)
    node.register_to(end, required_deps=[upstream])
    with pytest.raises(GraphError) as caught:
        end.validate()
    assert {type(problem) for problem in caught.value.problems} == {CycleError, TypeMismatchError}


def test_an_unknown_dependency_does_not_hide_a_cycle():
    end = ring("a", "b")
    leaf("lost").register_to(end, required_deps=["nobody"])
    with pytest.raises(GraphError) as caught:
        end.validate()
    assert {type(problem) for problem in caught.value.problems} == {CycleError, UnknownDependencyError}


def test_two_rings_are_two_problems():
    end = ring("a", "b")
    flows = {name: leaf(name) for name in "cd"}
    flows["c"].register_to(end, required_deps=[flows["d"]])
    flows["d"].register_to(end, required_deps=[flows["c"]])
    with pytest.raises(GraphError) as caught:
        end.validate()
    assert sorted(sorted(set(p.path)) for p in caught.value.problems if isinstance(p, CycleError)) == [
        ["a", "b"],
        ["c", "d"],
    ]


def test_a_graph_that_was_mended_is_checked_anew():
    end, node = root(), leaf("node", TakesNumber())
    upstream = leaf("upstream", GivesText())
    upstream.register_to(end)
    end.validate()
    node.register_to(end, required_deps=[upstream])
    with pytest.raises(TypeMismatchError):
        end.validate()


def test_optional_problems_are_problems():
    @flow
    def graph(x: int) -> int:
        return number(optional(text(x)))

    problem_of(graph, TypeMismatchError)
