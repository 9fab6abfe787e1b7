"""What ``flowq explain`` works out of a plan: expressions, barriers, where nodes run, and how alike things are cut."""

import json
from collections.abc import Mapping, Sequence

import pytest
from celery import Celery

from flowq import Flow, FlowConfig, FlowContext, FlowType, RetryPolicy, Settings
from flowq.cli.explain import past_of, text
from flowq.cli.explanation import Explanation, barriers, explain_plan
from flowq.cli.expression import express, shape_of
from flowq.cli.output import json_text
from flowq.core.config import Dispatch
from flowq.plan import JOIN, Edge, EdgeKind, Lowering, Node, Parallel, Plan, Segment, Series, lower

INLINE = FlowType.INLINE


def plan_of(upstreams: Mapping[str, Sequence[str]], inline: Sequence[str] = (), maps: Sequence[str] = ()) -> Plan:
    index = {name: position for position, name in enumerate(upstreams)}
    return Plan(
        tuple(
            Node(
                path=name,
                processor=f"steps:{name.rstrip('0123456789')}",
                edges=tuple(Edge(position, True, "") for position in sorted(index[upstream] for upstream in before)),
                placement=INLINE if name in inline else FlowType.PROCESS,
                over=("input",) if name in maps else None,
            )
            for name, before in upstreams.items()
        )
    )


def context(queue: str = "flowq") -> FlowContext:
    return FlowContext(Settings(broker_url="memory://", state_url="redis://127.0.0.1:1/0", queue=queue))


def explained(plan: Plan, dispatch: Dispatch = "canvas", of: FlowContext | None = None) -> Explanation:
    return explain_plan("flow", plan, dispatch, of or context())


def written(facts: Explanation, plan: Plan, everything: bool = False) -> list[str]:
    return text(facts, plan, everything=everything).splitlines()


# ── expressions ───────────────────────────────────────────────────────────────────────────────────────────────────────

SIX = plan_of({name: [] for name in "abcdef"})


@pytest.mark.parametrize(
    ("region", "expression"),
    [
        (0, "a"),
        (Series((0, 1, 2)), "chain(a, b, c)"),
        (Parallel((0, 1)), "group(a, b)"),
        (Series((0, Parallel((1, 2)))), "chain(a, group(b, c))"),
        (Series((0, Parallel((1, 2)), 3)), "chain(a, chord([b, c], d))"),
        (Series((Parallel((0, 1)), 2, 3)), "chord([a, b], chain(c, d))"),
        (Series((Parallel((0, 1)), Parallel((2, 3)))), "chord([a, b], group(c, d))"),
        (Series((Parallel((0, 1)), Parallel((2, 3)), 4)), "chord([a, b], chord([c, d], e))"),
        (Series((Parallel((Series((0, 1)), 2)), 3)), "chord([chain(a, b), c], d)"),
        (
            Series((Parallel((Series((0, Parallel((1, 2)), JOIN)), 3)), 4)),
            "chord([chain(a, chord([b, c], flowq.join)), d], e)",
        ),
    ],
)
def test_a_region_is_written_as_the_canvas_that_it_becomes(region, expression: str):
    assert express(SIX, region, short=False) == [expression]


def test_alike_branches_are_written_twice_and_counted():
    plan = plan_of({"load": [], **{f"part{number}": [] for number in range(40)}, "report": []})
    fork = Series((0, Parallel(tuple(range(1, 41))), 41))
    assert express(plan, fork, short=True) == ["chain(load, chord([part0, part1, … 38 more], report))"]
    (line,) = express(plan, fork, short=False, width=10_000)
    assert line.count("part") == 40
    assert "…" not in line


def test_of_alike_steps_the_last_one_is_written_too():
    plan = plan_of({f"step{number}": [] for number in range(9)})
    assert express(plan, Series(tuple(range(9))), short=True) == ["chain(step0, step1, … 6 more, step8)"]


def test_branches_that_are_not_alike_are_all_written():
    assert express(SIX, Parallel(tuple(range(6))), short=True) == ["group(a, b, c, d, e, f)"]


def test_what_does_not_fit_in_a_line_is_indented():
    region = Series((0, Parallel((Series((1, 2)), 3)), 4))
    assert express(SIX, region, short=False, width=14) == [
        "chain(",
        "  a,",
        "  chord(",
        "    [",
        "      chain(b, c),",
        "      d,",
        "    ],",
        "    e,",
        "  ),",
        ")",
    ]


def test_shapes_differ_by_what_the_nodes_are_and_not_by_their_names():
    plan = plan_of({"load0": [], "load1": [], "clean0": [], "clean1": [], "send0": []})
    assert shape_of(plan, Series((0, 2))) == shape_of(plan, Series((1, 3)))
    assert shape_of(plan, Series((0, 2))) != shape_of(plan, Series((0, 4)))
    assert shape_of(plan, Series((0, 2))) != shape_of(plan, Parallel((0, 2)))


# ── barriers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_barrier_that_the_plan_lacks_would_be_told():
    plan = plan_of({"a": [], "b": [], "c": ["a"], "d": ["a", "b"]})
    layered = Series((Parallel((0, 1)), Parallel((2, 3))))
    edges = {(edge.upstream, node): EdgeKind.CANVAS for node in range(4) for edge in plan.nodes[node].edges}
    lowering = Lowering((Segment(layered, (0, 1), 4, 0, 0),), frozenset(), (0,), edges)
    assert barriers(plan, lowering) == [(1, 2)]
    assert barriers(plan, lower(plan)) == []


def test_a_barrier_behind_a_join_would_be_told_too():
    plan = plan_of({"a": [], "b": ["a"], "c": ["a"], "d": [], "e": ["b", "d"]})
    region = Series((Parallel((Series((0, Parallel((1, 2)), JOIN)), 3)), 4))
    edges = {(edge.upstream, node): EdgeKind.CANVAS for node in range(5) for edge in plan.nodes[node].edges}
    assert barriers(plan, Lowering((Segment(region, (0, 3), 6, 0, 0),), frozenset(), (0,), edges)) == [(2, 4)]


def test_a_join_and_an_inline_node_are_no_barriers():
    upstreams = {"a": [], "b": ["a"], "c": ["a"], "d": [], "e": ["b", "c", "d"], "f": ["e"], "g": ["f"]}
    plan = plan_of(upstreams, inline=["f"])
    lowering = lower(plan)
    assert "flowq.join" in explained(plan).canvas.segments[0].expression  # type: ignore[union-attr]
    assert lowering.inline == {5}
    assert barriers(plan, lowering) == []


# ── where nodes run ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_inline_node_runs_with_what_it_waits_for():
    plan = plan_of({"a": [], "b": [], "one": ["a"], "both": ["one", "b"], "end": ["both"]}, inline=["one", "both"])
    places = {node.path: (node.runs, node.runs_with, node.task) for node in explained(plan).nodes}
    assert places["one"] == ("task", ("a",), None)
    assert places["both"] == ("task", ("a", "b"), None)  # `one` has no task itself
    assert places["end"] == ("own", (), "steps:end")
    pulled = {node.path: (node.runs, node.runs_with, node.task) for node in explained(plan, "pull").nodes}
    assert pulled["both"] == ("handed", ("b", "one"), None)
    assert pulled["end"] == ("own", (), None)


@pytest.mark.parametrize(
    ("upstreams", "inline", "maps", "edge", "said"),
    [
        ({"a": [], "b": [], "c": ["a"], "d": ["a", "b"]}, [], [], ("a", "c"), "irreducible: "),
        ({"a": [], "note": ["a"], "b": ["a"]}, ["note"], [], ("a", "b"), "inline: "),
        ({"a": [], "m": ["a"], "total": ["m"]}, [], ["m"], ("m", "total"), "map: "),
        ({"a": [], "m": ["a"], "note": ["m"], "total": ["note"]}, ["note"], ["m"], ("note", "total"), "map: "),
    ],
)
def test_every_resolver_edge_says_why_it_is_one(upstreams, inline, maps, edge, said: str):
    facts = explained(plan_of(upstreams, inline, maps))
    why = {(edge.upstream, edge.node): edge.why for edge in facts.edges if edge.why}
    assert list(why) == [edge]
    assert why[edge].startswith(said)
    assert facts.canvas is not None
    assert facts.canvas.resolver_edges == 1


def test_a_task_of_its_own_goes_to_the_queue_that_celery_would_send_it_to():
    app = Celery("own", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_routes = {"steps:b": {"queue": "routed"}}
    plan = Plan(
        tuple(Node(path=name, processor=f"steps:{name}", queue="named" if name == "c" else "") for name in "abc")
    )
    canvas = explained(plan, "canvas", FlowContext(celery_app=app))
    assert [node.queue for node in canvas.nodes] == ["celery", "routed", "named"]
    assert [node.queue for node in explained(plan, "pull", context(queue="mine")).nodes] == ["mine", "mine", "named"]


def test_without_a_result_backend_nothing_follows_a_group():
    app = Celery("own", broker="memory://", set_as_current=False)
    plan = plan_of({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]})
    facts = explained(plan, "canvas", FlowContext(celery_app=app))
    assert facts.canvas is not None
    assert [segment.expression for segment in facts.canvas.segments] == ["chain(a, group(b, c))", "d"]
    lines = written(facts, plan)
    assert lines[lines.index("continuations: 2") + 1].endswith(", or for want of a result backend")


# ── text ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_are_told_where_there_are_any():
    nodes = [("none", None, 1), ("time", 30.0, 1), ("one", None, 2), ("two", 0.5, 3), ("ever", None, 2**31 - 1)]
    plan = Plan(
        tuple(
            Node(path=path, processor="steps:x", timeout_s=timeout_s, retry=RetryPolicy(max_attempts=attempts))
            for path, timeout_s, attempts in nodes
        )
    )
    lines = {line.split()[0]: line for line in written(explained(plan, "pull"), plan) if "steps:x" in line}
    assert "  timeout 30 s  " in lines["time"]
    assert "  1 retry  " in lines["one"]
    assert "  timeout 0.5 s, 2 retries  " in lines["two"]
    assert "  any number of retries  " in lines["ever"]
    assert "  -  " in lines["none"]


def test_many_alike_nodes_share_a_line_unless_all_are_asked_for():
    plan = plan_of({"load": [], **{f"part{number}": ["load"] for number in range(100)}})
    facts = explained(plan, "pull")
    short = [line for line in written(facts, plan) if "steps:" in line]
    assert [line.split("  ")[0] for line in short] == ["load", "100 × part0 … part99"]
    assert len([line for line in written(facts, plan, everything=True) if "steps:" in line]) == 101


def test_a_list_of_different_things_is_cut_and_says_so():
    plan = Plan(tuple(Node(path=f"n{number}", processor=f"steps:{number}") for number in range(100)))
    lines = written(explained(plan, "canvas"), plan)
    assert "… 41 more (--all shows everything)" in lines
    assert "    … 81 more (--all shows everything)" in lines  # segments
    assert not any("…" in line for line in written(explained(plan, "canvas"), plan, everything=True))


def test_a_flow_without_nodes_can_be_explained():
    plan = Plan(())
    assert written(explained(plan), plan)[0].startswith("flow: 0 nodes, 0 edges, ")


def test_a_canvas_nested_a_thousand_deep_can_be_explained():
    upstreams: dict[str, list[str]] = {"a0": [], "b0": []}
    for number in range(1, 1000):  # each level joins all that is before it with one more branch
        upstreams[f"a{number}"] = [f"a{number - 1}", f"b{number - 1}"]
        upstreams[f"b{number}"] = []
    plan = plan_of(upstreams)
    facts = explained(plan)
    assert "resolver edges: 0" in written(facts, plan)
    assert json.loads(json_text(facts))["messages"]["number"] >= 2000


# ── past runs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_without_an_address_no_store_is_asked(monkeypatch: pytest.MonkeyPatch):
    for name in ("FLOWQ_BROKER_URL", "FLOWQ_STATE_URL"):
        monkeypatch.delenv(name, raising=False)
    assert past_of(Settings(), SIX)["past"].startswith("no past run: neither FLOWQ_STATE_URL nor")


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "unix:///nowhere/redis.sock", "amqp://127.0.0.1"])
def test_a_store_that_does_not_answer_is_no_error(url: str):
    past = past_of(Settings(broker_url=url), SIX)
    assert past["past"].startswith("no past run is known: ")
    assert "critical_path" not in past


def test_the_class_form_is_explained_too():
    root = Flow(None, FlowConfig(name="root"), context=context())
    facts = explained(root.plan())
    assert [node.runs for node in facts.nodes] == ["own"]
