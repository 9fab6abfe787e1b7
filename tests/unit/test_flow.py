"""The class form: what a flow is, before it runs."""

from typing import Any

import pytest
from pydantic import BaseModel

from flowq import (
    DefinitionError,
    Flow,
    FlowConfig,
    FlowContext,
    FlowType,
    InputError,
    Plan,
    Processable,
    Settings,
    flow,
    task,
)


class Leaf(BaseModel):
    factor: int = 1

    class Input(BaseModel):
        x: int

    def process(self, input_data):
        return input_data.x * self.factor


@task(retries=3, timeout=30)
def double(x: int) -> int:
    return 2 * x


def test_a_flow_says_who_it_is():
    made = Flow(Leaf(), FlowConfig(name="leaf"))
    assert made.name == "leaf"
    assert len(made.process_id) == 36
    assert made.process_id != Flow(Leaf(), FlowConfig(name="leaf")).process_id
    assert Flow(Leaf(), FlowConfig(name="leaf"), "my-id").process_id == "my-id"
    assert repr(made) == "<flow leaf>"
    assert isinstance(made.processor, Processable)


def test_what_the_config_leaves_open_the_task_decides():
    assert Flow(double, FlowConfig(name="a")).config == FlowConfig(name="a", retries=3, timeout=30)
    assert Flow(double, FlowConfig(name="a", retries=0)).config == FlowConfig(name="a", retries=0, timeout=30)


def test_a_plain_function_is_a_processor():
    def triple(x: int) -> int:
        return 3 * x

    made = Flow(triple, FlowConfig(name="triple"))
    assert made.graph().steps["triple"].args == {"x": ("input", "x")}


def test_children_stand_in_the_order_of_registration():
    end = Flow(None, FlowConfig(name="end"))
    flows = [Flow(Leaf(), FlowConfig(name=name)) for name in "cab"]
    for child in flows:
        child.register_to(end)
    assert end.children == flows
    assert list(end.graph().steps) == ["end", "c", "a", "b"]


def test_dependencies_by_id_and_by_flow():
    end = Flow(None, FlowConfig(name="end"))
    first, second, third = (Flow(Leaf(), FlowConfig(name=name)) for name in "abc")
    first.register_to(end)
    second.register_to(end, required_deps=[first.process_id])
    third.register_to(end, required_deps=(flow for flow in [first]), optional_deps=[second])
    deps = end.graph().steps["c"].deps
    assert [(path, dep.type.value) for path, dep in deps.items()] == [("a", "required"), ("b", "optional")]


def test_a_plan_is_compiled_once_until_something_changes():
    end = Flow(None, FlowConfig(name="end"))
    inner = Flow(None, FlowConfig(name="inner"))
    inner.register_to(end)
    Flow(Leaf(), FlowConfig(name="a")).register_to(inner)
    plan = end.plan()
    assert isinstance(plan, Plan)
    assert end.plan() is plan
    Flow(Leaf(), FlowConfig(name="b")).register_to(inner)
    assert end.plan() is not plan
    assert len(end.plan()) == 4


def test_a_subtree_can_run_by_itself():
    end, inner, leaf = (
        Flow(kind, FlowConfig(name=name)) for kind, name in ((None, "end"), (None, "in"), (Leaf(), "a"))
    )
    inner.register_to(end)
    leaf.register_to(inner)
    assert [node.path for node in end.plan()] == ["in/a", "in", "end"]
    assert [node.path for node in inner.plan()] == ["a", "in"]
    assert [node.path for node in leaf.plan()] == ["a"]


def test_depth_is_no_limit():
    """Neither building nor checking nor compiling recurses along the nesting."""
    end = Flow(None, FlowConfig(name="end"))
    parent = end
    for level in range(1500):
        child = Flow(None if level < 1499 else Leaf(), FlowConfig(name=f"n{level}"))
        child.register_to(parent)
        parent = child
    assert len(end.plan()) == 1501


def test_a_flow_is_not_called():
    with pytest.raises(DefinitionError, match="'leaf' is not called: use run, execute or submit"):
        Flow(Leaf(), FlowConfig(name="leaf"))()


def test_a_flow_with_children_cannot_be_placed_in_a_function():
    end = Flow(None, FlowConfig(name="end"))
    Flow(Leaf(), FlowConfig(name="leaf")).register_to(end)

    @flow
    def graph(x: int):
        return end(x)

    with pytest.raises(DefinitionError, match="'end' has children"):
        graph.validate()


@pytest.mark.parametrize("given", [[1], "text", 5, object()])
def test_an_input_that_is_no_mapping(given):
    with pytest.raises(InputError, match="a mapping or a model"):
        Flow(Leaf(), FlowConfig(name="leaf")).run(given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "'leaf' needs the input field 'x', which is missing: add it to the input"),
        (None, "'leaf' needs the input field 'x'"),
        ({"x": "many"}, "input field 'x' does not fit 'leaf'"),
        (Leaf(), "'leaf' needs the input field 'x'"),
    ],
)
def test_an_input_that_does_not_fit(given, message):
    with pytest.raises(InputError, match=message):
        Flow(Leaf(), FlowConfig(name="leaf")).run(given)


def test_all_that_is_wrong_with_an_input_is_said_at_once():
    end = Flow(None, FlowConfig(name="end"))
    Flow(Leaf(), FlowConfig(name="leaf")).register_to(end)
    Flow(double, FlowConfig(name="double")).register_to(end)

    @task
    def needs(y: int, z: str) -> int:
        return y

    Flow(needs, FlowConfig(name="needs")).register_to(end)
    with pytest.raises(InputError) as caught:
        end.run({"x": "many", "z": 5})
    assert all(f"'{name}'" in str(caught.value) for name in "xyz")


async def test_run_is_for_code_without_a_loop():
    with pytest.raises(RuntimeError, match=r"use `await flow.execute"):
        Flow(Leaf(), FlowConfig(name="leaf")).run({"x": 1})


async def test_it_runs_here(flowq_local):
    result = await Flow(Leaf(factor=3), FlowConfig(name="leaf", flow_type=FlowType.INLINE)).execute({"x": 2})
    assert result.output == 6
    assert (result.name, result.nodes["leaf"].worker) == ("leaf", "local")
    assert result.start_time <= result.nodes["leaf"].started_at <= result.end_time  # type: ignore[operator]


async def test_many_runs_at_once(flowq_local):
    import asyncio

    made = Flow(Leaf(factor=3), FlowConfig(name="leaf", flow_type=FlowType.INLINE))
    results = await asyncio.gather(*(made.execute({"x": x}) for x in range(50)))
    assert [result.output for result in results] == [3 * x for x in range(50)]
    assert len({result.run_id for result in results}) == 50


# ── the context ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def no_default():
    before = FlowContext.set_instance(None)
    yield
    FlowContext.set_instance(before)


def test_the_default_context_is_made_from_the_environment(no_default, monkeypatch):
    monkeypatch.setenv("FLOWQ_QUEUE", "mine")
    context = FlowContext.get_instance()
    assert context.settings.queue == "mine"
    assert FlowContext.get_instance() is context


def test_a_flows_own_context_wins_over_the_default(no_default):
    own, default = FlowContext(Settings(queue="own")), FlowContext(Settings(queue="default"))
    FlowContext.set_instance(default)
    assert Flow(Leaf(), FlowConfig(name="a"), context=own).context is own
    assert Flow(Leaf(), FlowConfig(name="a")).context is default


def test_services_are_made_once_and_closed():
    closed: list[Any] = []

    class Service:
        def close(self) -> None:
            closed.append(self)

    context = FlowContext()
    context.replace("client", Service())
    context.replace("engine", object())
    first = context.client
    assert context.client is first
    context.close()
    assert closed == [first]


def test_making_a_context_opens_nothing():
    context = FlowContext(Settings(broker_url="redis://127.0.0.1:1/0"))
    context.close()
