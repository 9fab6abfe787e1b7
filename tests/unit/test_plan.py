"""The compiler: each pass, the verifier with planted violations, and the plan as a document."""

import json
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel

from flowq import DependencyType, Flow, FlowConfig, FlowType, Plan, PlanError, RetryPolicy, flow, optional, task
from flowq.core.graph import Dependency, Graph
from flowq.plan import Edge, compile_graph
from flowq.plan.passes import from_graph, fuse_inline, name_values, number, open_gates, place
from flowq.plan.verify import verify_graph, verify_plan


class Leaf(BaseModel):
    def process(self, input_data, dependencies):
        return 1


@task
def one(x: int) -> int:
    return x


@task
def add(a: int, b: int | None = None) -> int:
    return a


@task
def many(x: int) -> list[int]:
    return [x]


@task(flow_type="inline")
def total(values: list[int]) -> int:
    return sum(values)


def leaf(name: str, parent: Flow | None = None, required=(), optional_deps=(), **config: Any) -> Flow:
    made = Flow(Leaf(), FlowConfig(name=name, **config))
    if parent is not None:
        made.register_to(parent, required_deps=required, optional_deps=optional_deps)
    return made


def gates(end: Flow) -> dict[str, dict[str, Dependency]]:
    return {path: node.deps for path, node in open_gates(from_graph(end.graph())).nodes.items()}


# ── open_gates ────────────────────────────────────────────────────────────────────────────────────────────────────────

ORDER = Dependency(DependencyType.REQUIRED, has_value=False)
OPTIONAL_ORDER = Dependency(DependencyType.OPTIONAL, has_value=False)


def test_children_wait_for_what_their_parent_waits_for():
    end = leaf("end")
    first = leaf("first", end)
    wanted = leaf("wanted", end)
    inner = leaf("inner", end, [first], [wanted])
    leaf("child", inner)
    assert gates(end)["inner/child"] == {"first": ORDER, "wanted": OPTIONAL_ORDER}


def test_a_child_that_requires_a_sibling_waits_through_it():
    end = leaf("end")
    first = leaf("first", end)
    inner = leaf("inner", end, [first])
    child = leaf("child", inner)
    leaf("second", inner, [child])
    leaf("third", inner, [], [child])
    found = gates(end)
    assert set(found["inner/child"]) == {"first"}
    assert set(found["inner/second"]) == {"inner/child"}
    assert found["inner/third"]["first"] == ORDER  # an optional sibling may end before the gate opens


def test_gates_go_through_parents_of_parents():
    end = leaf("end")
    first = leaf("first", end)
    inner = leaf("inner", end, [first])
    innermost = leaf("innermost", inner)
    leaf("deep", innermost)
    found = gates(end)
    assert found["inner/innermost/deep"] == {"first": ORDER}
    assert found["inner/innermost"]["first"] == ORDER


def test_an_edge_of_ones_own_keeps_its_value_through_the_gate():
    end = leaf("end")
    first = leaf("first", end)
    inner = leaf("inner", end, [first])
    leaf("child", inner, [], [first])
    assert gates(end)["inner/child"] == {"first": Dependency(DependencyType.REQUIRED, has_value=True)}


# ── place, name_values, fuse_inline ───────────────────────────────────────────────────────────────────────────────────


def test_parents_are_placed_as_processes():
    end = leaf("end", flow_type=FlowType.SEQUENTIAL)
    for flow_type in (FlowType.THREAD, FlowType.INLINE, FlowType.PROCESS, FlowType.PARALLEL):
        leaf(flow_type.value, end, flow_type=flow_type)
    placed = {path: node.placement for path, node in place(from_graph(end.graph())).nodes.items()}
    assert placed == {
        "end": FlowType.PROCESS,
        "thread": FlowType.THREAD,
        "inline": FlowType.INLINE,
        "process": FlowType.PROCESS,
        "parallel": FlowType.PROCESS,
    }


def test_a_gathering_parent_runs_inline():
    end = Flow(None, FlowConfig(name="end"))
    leaf("child", end)
    assert end.plan().nodes[1].placement is FlowType.INLINE


def test_values_are_named_by_flow_or_by_path_where_names_collide():
    end = leaf("end")
    inner = leaf("inner", end)
    same, other = leaf("same", end), leaf("same", inner)
    leaf("node", end, [same, other, inner])
    names = name_values(from_graph(end.graph())).nodes["node"].names
    assert names == {"same": "same", "inner/same": "inner/same", "inner": "inner"}


def fused(end: Any) -> set[str]:
    return {path for path, node in fuse_inline(place(from_graph(end.graph()))).nodes.items() if node.fused}


def test_inline_nodes_with_one_upstream_are_fused_and_stay_nodes():
    end = leaf("end", flow_type=FlowType.INLINE)
    first = leaf("first", end)
    second = leaf("second", end, [first], flow_type=FlowType.INLINE)
    leaf("source", end, flow_type=FlowType.INLINE)
    leaf("both", end, [first, second], flow_type=FlowType.INLINE)
    leaf("timed", end, [first], flow_type=FlowType.INLINE, timeout=3)
    leaf("plain", end, [first])
    assert fused(end) == {"second"}
    plan = end.plan()
    node = plan.nodes[plan.index["second"]]
    assert node.fused
    assert node.path == "second"
    assert plan.fused == {plan.index["first"]: (plan.index["second"],)}


def ahead(end: Any) -> dict[str, set[str]]:
    plan = end.plan()
    return {plan.nodes[host].path: {plan.nodes[one].path for one in found} for host, found in plan.ahead.items()}


def diamond(**options: Any) -> Any:
    """One node, two that follow from it, and one after both, with these options."""

    @flow
    def graph(x: int):
        first = one.options(name="first")(x)
        middle = [one.options(name=name)(first) for name in ("left", "right")]
        return add.options(name="last", **options)(*middle)

    return graph


def test_what_waits_for_few_short_nodes_may_be_run_ahead():
    assert ahead(diamond()) == {"first": {"left", "right"}, "left": {"last"}, "right": {"last"}}
    assert ahead(diamond(flow_type="inline")) == ahead(diamond())


@pytest.mark.parametrize(
    "options", [{"timeout": 3}, {"max_crashes": 1}, {"flow_type": "thread"}, {"queue": "other"}], ids=str
)
def test_what_needs_care_or_another_place_is_not_run_ahead(options):
    assert ahead(diamond(**options)) == {"first": {"left", "right"}}


def test_inline_nodes_are_run_ahead_wherever_their_upstreams_are():
    @flow
    def graph(x: int):
        upstreams = one.options(name="thread", flow_type="thread")(x), one.options(name="there", queue="other")(x)
        return add.options(name="last", flow_type="inline")(*upstreams)

    assert ahead(graph) == {"thread": {"last"}, "there": {"last"}}


def test_other_workers_are_left_what_many_nodes_give():
    @flow
    def graph(x: int):
        first = one.options(name="first")(x)
        fused = total.options(name="fused")([first])
        return [fused, *(one.options(name=f"after {number}")(first) for number in range(4))]

    assert ahead(graph)["first"] == {"fused"}


def test_a_wide_fan_in_and_what_follows_a_map_are_not_run_ahead():
    @flow
    def graph(x: int):
        wide = total.options(name="wide", flow_type="process")([one(x) for _ in range(17)])
        return wide, total.options(name="mapped", flow_type="process")(one.options(name="item").map([x]))

    assert not {"wide", "mapped"} & {name for found in ahead(graph).values() for name in found}


def test_nothing_is_fused_to_a_map_and_no_map_is_fused():
    @flow
    def graph(x: int):
        after = total.options(name="after")(one.options(name="plain").map([x, 2]))
        return [after, one.options(name="inline", flow_type="inline").map(many(x))]

    draft = fuse_inline(place(from_graph(graph.graph())))
    assert draft.nodes["after"].placement is draft.nodes["inline"].placement is FlowType.INLINE
    assert {path for path, node in draft.nodes.items() if node.fused} == set()


# ── number ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nodes_are_ordered_by_depth_then_path():
    end = leaf("end")
    b = leaf("b", end)
    leaf("c", end, [b])
    leaf("a", end)
    assert [node.path for node in end.plan()] == ["a", "b", "c", "end"]


def test_the_plan_carries_what_the_run_needs():
    @flow
    def graph(x: int):
        first = one.options(name="first", timeout=5, queue="q", max_crashes=7, retries=2)(x)
        return add.options(name="last", flow_type="thread")(first, optional(one(x)))

    plan = graph.plan()
    first, last = plan.nodes[plan.index["first"]], plan.nodes[plan.index["last"]]
    assert (first.timeout_s, first.queue, first.max_crashes, first.retry.max_attempts) == (5, "q", 7, 3)
    assert first.args == (("x", ("input", "x")),)
    assert last.placement is FlowType.THREAD
    assert last.edges == (Edge(0, True, "first"), Edge(1, False, "one"))
    assert last.args == (("a", ("node", 0)), ("b", ("node", 1)))
    assert plan.output == plan.index["last"]
    assert plan.downstream[0] == ((2, True),)
    assert plan.downstream[1] == ((2, False),)
    assert plan.sinks == (2,)
    assert first.processor == f"{__name__}:one"


# ── the document ──────────────────────────────────────────────────────────────────────────────────────────────────────


@flow
def everything(x: int, items: list[int]):
    first = one.options(name="first", timeout=5.5, queue="q", max_crashes=1)(x)
    mapped = one.map(items, after=[optional(first)])
    retried = add.options(name="retried", retries=RetryPolicy(max_attempts=4, retry_on=(ValueError,)))(first, 7)
    inline = one.options(name="inline", flow_type="inline")(retried)
    return {"mapped": mapped, "nested": [inline, {"deep": first}], "constant": ["a", None, 1.5], "input": x}


def test_a_plan_comes_back_from_its_document():
    plan = everything.plan()
    again = Plan.from_json(plan.document)
    assert again == plan
    assert again.hash == plan.hash
    assert again.document == plan.document
    verify_plan(again)


def test_the_document_is_plain_json_with_a_version():
    content = json.loads(everything.plan().document)
    assert content["version"] == 1
    assert len(content["nodes"]) == len(everything.plan())
    assert len(everything.plan().hash) == 32


def test_a_plan_is_fixed():
    with pytest.raises(AttributeError):
        everything.plan().output = 3


@pytest.mark.parametrize(
    "document",
    [
        "",
        "no json",
        "[]",
        "5",
        "null",
        "{}",
        '{"version":1}',
        '{"version":1,"output":0,"nodes":[{}]}',
        '{"version":1,"output":0,"nodes":[{"path":"a","processor":"b","edges":[[1]]}]}',
        '{"version":1,"output":0,"nodes":[{"path":"a","processor":"b","placement":"moon"}]}',
        '{"version":1,"output":0,"nodes":[{"path":"a","processor":"b","retry":{"max_attempts":0}}]}',
        '{"version":1,"output":0,"nodes":[{"path":"a","processor":"b","over":[]}]}',
    ],
)
def test_what_is_no_plan(document):
    with pytest.raises(PlanError, match="this is no plan"):
        Plan.from_json(document)


def test_a_plan_of_another_version():
    document = everything.plan().document.replace('"version":1', '"version":2')
    with pytest.raises(PlanError, match=r"plan version 2 cannot be run.*same flowq release"):
        Plan.from_json(document)


# ── the verifier catches what is planted ──────────────────────────────────────────────────────────────────────────────


@flow
def small(x: int):
    first = one.options(name="first")(x)
    mapped = one.options(name="mapped").map([first])
    return add.options(name="last", flow_type="inline")(first, after=[mapped])


def violations() -> dict[str, tuple[Any, str]]:
    plan = small.plan()
    first, mapped, last = plan.nodes

    def with_nodes(*nodes: Any, output: int | None = 2) -> Plan:
        return Plan(nodes, output)

    return {
        "an edge forwards": (with_nodes(replace(first, edges=(Edge(2, True, "last"),)), mapped, last), "not in order"),
        "an edge to itself": (with_nodes(first, replace(mapped, edges=(Edge(1, True, "x"),)), last), "not in order"),
        "an edge out of the plan": (with_nodes(first, mapped, replace(last, edges=(Edge(9, True),))), "not in order"),
        "a negative edge": (with_nodes(first, mapped, replace(last, edges=(Edge(-1, True),))), "not in order"),
        "two edges from one": (with_nodes(first, mapped, replace(last, edges=last.edges * 2)), "not in order"),
        "edges out of order": (with_nodes(first, mapped, replace(last, edges=last.edges[::-1])), "not in order"),
        "a value nobody waits for": (
            with_nodes(first, mapped, replace(last, edges=last.edges[1:])),
            "reads what it does not wait for",
        ),
        "a value of an edge that only orders": (
            with_nodes(first, mapped, replace(last, args=(("a", ("node", 1)),))),
            "reads what it does not wait for",
        ),
        "items nobody waits for": (
            with_nodes(first, replace(mapped, edges=()), last),
            "reads what it does not wait for",
        ),
        "a placement for parents": (with_nodes(replace(first, placement=FlowType.PARALLEL), mapped, last), "placed as"),
        "a map without a parameter": (with_nodes(first, replace(mapped, item_parameter=""), last), "without a param"),
        "fused, but not inline": (with_nodes(replace(first, fused=True), mapped, last), "cannot be fused"),
        "fused, with two upstreams": (with_nodes(first, mapped, replace(last, fused=True)), "cannot be fused"),
        "fused to a map": (
            with_nodes(first, mapped, replace(last, fused=True, args=(), edges=(Edge(1, True, "mapped"),))),
            "cannot be fused to a map",
        ),
        "a fused map": (
            with_nodes(first, replace(mapped, fused=True, placement=FlowType.INLINE), last),
            "cannot be fused",
        ),
        "one path twice": (with_nodes(first, mapped, replace(last, path="first")), "one path"),
        "an output out of the plan": (with_nodes(first, mapped, last, output=3), "output"),
        "a negative output": (with_nodes(first, mapped, last, output=-1), "output"),
    }


def test_the_small_plan_itself_is_right():
    verify_plan(small.plan())
    verify_plan(Plan(small.plan().nodes, None))
    verify_plan(Plan(()))


@pytest.mark.parametrize("violation", violations())
def test_a_planted_violation_of_a_plan(violation):
    plan, message = violations()[violation]
    with pytest.raises(PlanError, match=message):
        verify_plan(plan)


def planted(change) -> Graph:
    graph: Graph = small._build()
    change(graph.steps, graph)
    return graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda steps, _: steps["last"].deps.pop("first"), "reads what it does not wait for"),
        (lambda steps, _: steps["last"].deps.update(nobody=ORDER), "waits for what is not in the graph"),
        (lambda steps, _: setattr(steps["last"], "path", "other"), "out of place"),
        (lambda steps, _: setattr(steps["first"], "parent", "last"), "out of place"),
        (lambda steps, graph: setattr(graph, "output", "nobody"), "output 'nobody' is no step"),
        (lambda steps, _: setattr(steps["mapped"], "over", ("step", "last")), "reads what it does not wait for"),
    ],
)
def test_a_planted_violation_of_a_graph(change, message):
    graph = planted(change)
    with pytest.raises(PlanError, match=message):
        verify_graph(graph)
    with pytest.raises(PlanError, match=message):
        compile_graph(graph)


def test_a_pass_that_breaks_the_plan_is_caught(monkeypatch):
    """As if fuse_inline forgot to look."""
    from flowq.plan import compiler

    def breaks(draft):
        return draft.mapped({path: replace(node, fused=True) for path, node in draft.nodes.items()})

    monkeypatch.setattr(compiler, "PASSES", (*compiler.PASSES, breaks))
    with pytest.raises(PlanError, match="cannot be fused"):
        compile_graph(small._build())


def test_passes_leave_their_input_alone():
    end = leaf("end")
    first = leaf("first", end)
    inner = leaf("inner", end, [first])
    leaf("child", inner)
    graph = end.graph()
    before = {path: dict(step.deps) for path, step in graph.steps.items()}
    first_plan = compile_graph(graph)
    draft = from_graph(graph)
    for step in (open_gates, place, name_values, fuse_inline):
        kept = repr(draft)
        after = step(draft)
        assert repr(draft) == kept
        draft = after
    assert number(draft) == first_plan == compile_graph(graph)
    assert {path: dict(step.deps) for path, step in graph.steps.items()} == before
