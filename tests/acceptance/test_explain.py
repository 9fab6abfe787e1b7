"""``flowq explain``: what will run is told, and nothing is run."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import embedded

FLOWS = '''
from pathlib import Path
from flowq import Flow, FlowConfig, FlowType, flow, optional, task

print("printed when it is imported")

class Step:
    def process(self, input_data):
        Path("ran").touch()

def graph(name, upstreams, **config):
    """A parent of steps, which each require others."""
    root = Flow(None, FlowConfig(name=name))
    steps = {step: Flow(Step(), FlowConfig(name=step, **config)) for step in upstreams}
    for step, before in upstreams.items():
        steps[step].register_to(root, required_deps=[steps[other].process_id for other in before])
    return root

def layers(name, *widths):
    upstreams, before = {}, []
    for layer, width in enumerate(widths):
        now = [f"s{layer}_{position}" for position in range(width)]
        upstreams |= dict.fromkeys(now, before)
        before = now
    return graph(name, upstreams)

chain = graph("chain", {"load": [], "clean": ["load"], "save": ["clean"]}, timeout=30, retries=2)
fork = graph("fork", {"load": [], "clean": ["load"], "stats": ["load"], "report": ["clean", "stats"]})
parts = [f"part{number}" for number in range(40)]
wide = graph("wide", {"load": [], **dict.fromkeys(parts, ["load"]), "report": parts})
bipartite = layers("bipartite", 40, 40)
long = layers("long", *[1] * 1000)
n = graph("n", {"a": [], "b": [], "c": ["a"], "d": ["a", "b"]})
montage = graph("montage", {
    **{f"project{i}": [] for i in range(4)},
    **{f"diff{i}": [f"project{i}", f"project{i + 1}"] for i in range(3)},
    "concat": [f"diff{i}" for i in range(3)],
    "model": ["concat"],
    **{f"background{i}": [f"project{i}", "model"] for i in range(4)},
    "add": [f"background{i}" for i in range(4)],
    "shrink": ["add"],
})

@task(queue="reads")
def numbers() -> list[int]: return [1, 2, 3]
@task(flow_type=FlowType.THREAD)
def square(x: int) -> int: return x * x
@task
def total(squares: list[int]) -> int: return sum(squares)
@task
def guess() -> int: return 7
@task
def either(exact: int, rough: int | None = None) -> int: return exact
@task(flow_type=FlowType.INLINE)
def shown(x: int) -> str: return f"{x}"

@flow
def mapped() -> int:
    return total(square.map(numbers()))

@flow
def maybe() -> str:
    return shown(either(total(numbers()), optional(guess())))

@flow
def outer() -> int:
    return either(mapped(), total(numbers()))

@flow
def mistyped() -> int:
    return total(guess())
'''


@pytest.fixture(scope="module")
def flows(shared_terminal):
    shared_terminal.write("flows.py", FLOWS)
    return shared_terminal


@pytest.fixture
def explain(flows):
    """Run the command, see that nothing else has run, and give the lines it printed."""

    def run(name: str, *options: str, **environ: str) -> list[str]:
        done = flows.run("explain", f"flows:{name}", *options, **environ)
        assert done.code == 0, done.stderr
        assert not (flows.folder / "ran").exists()
        lines: list[str] = done.stdout.splitlines()
        return lines

    return run


@pytest.fixture
def facts(explain):
    def run(name: str, *options: str, **environ: str) -> Any:
        return json.loads("\n".join(explain(name, "--json", *options, **environ)))

    return run


def row(lines: list[str], node: str) -> str:
    (found,) = [line for line in lines if line.startswith(f"{node} ")]
    return re.sub(" +", " ", found)


def below(lines: list[str], title: str) -> list[str]:
    """What is indented below a line."""
    start = next(number for number, line in enumerate(lines) if line.strip() == title)
    depth = len(lines[start]) - len(lines[start].lstrip())
    found = []
    for line in lines[start + 1 :]:
        if len(line) - len(line.lstrip()) <= depth:
            break
        found.append(line.strip())
    return found


EXACT = {"resolver edges: 0", "continuations: 0", "extra barriers: none"}


def test_a_chain(explain):
    lines = explain("chain", "--dispatch", "canvas")
    assert re.fullmatch(r"chain: 4 nodes, 5 edges, plan [0-9a-f]{32}, dispatch canvas", lines[0])
    assert row(lines, "clean") == "clean flows:Step process flowq timeout 30 s, 2 retries as the task flows:Step"
    assert row(lines, "chain").endswith(" inline flowq - in the task of save")
    assert below(lines, "a run begins with") == ["chain(load, clean, save)"]
    assert set(lines) >= EXACT
    assert any(re.fullmatch(r"messages: 3, about \S+ KB in all, the largest about \S+ KB", line) for line in lines)
    assert lines[-1].startswith("critical path: no past run")


def test_pull_is_the_default_and_a_setting_says_otherwise(explain):
    lines = explain("chain")
    assert lines[0].endswith(", dispatch pull")
    assert row(lines, "clean").endswith(" in a claim of its own")
    assert row(lines, "chain").endswith(" handed to the worker that settles the last of load, clean and save")
    assert "messages: wake-ups of less than 1 KB, at any time as many at most as there are free slots" in lines
    assert not any(line.startswith(("segments", "resolver edges")) for line in lines)
    assert explain("chain", FLOWQ_DISPATCH="canvas")[0].endswith(", dispatch canvas")
    assert explain("chain", "--dispatch", "pull", FLOWQ_DISPATCH="canvas") == lines


def test_a_fork_and_its_join(explain):
    lines = explain("fork", "--dispatch", "canvas")
    assert below(lines, "a run begins with") == ["chain(load, chord([clean, stats], report))"]
    assert set(lines) >= EXACT


def test_alike_branches_are_cut_short(explain):
    lines = explain("wide", "--dispatch", "canvas")
    assert below(lines, "a run begins with") == ["chain(load, chord([part0, part1, … 38 more], report))"]
    everything = explain("wide", "--dispatch", "canvas", "--all")
    assert not any("…" in line for line in everything)
    assert {f"part{number}," for number in range(40)} <= set(below(everything, "a run begins with"))


def test_a_bipartite_graph_needs_no_resolver(explain, facts):
    lines = explain("bipartite", "--dispatch", "canvas")
    assert {"resolver edges: 0", "extra barriers: none"} <= set(lines)
    assert row(lines, "80 × s0_0 … s1_9").endswith(" as the task flows:Step")
    found = facts("bipartite", "--dispatch", "canvas")
    assert len(found["edges"]) == 1600 + 80
    assert sum(found["canvas"]["deliveries"].values()) == len(found["edges"])
    assert found["canvas"]["resolver_edges"] == 0


def test_an_n_is_irreducible(explain):
    lines = explain("n", "--dispatch", "canvas")
    assert "resolver edges: 1" in lines
    assert below(lines, "irreducible: no chain, group or chord says it without a further barrier") == ["a -> c"]
    assert {"continuations: 0", "extra barriers: none"} <= set(lines)


def test_montage_is_irreducible_in_part(facts):
    found = facts("montage", "--dispatch", "canvas")
    resolved = [edge for edge in found["edges"] if edge["delivery"] == "resolver"]
    assert 0 < len(resolved) == found["canvas"]["resolver_edges"]
    assert all(edge["why"].startswith("irreducible") for edge in resolved)
    assert found["canvas"]["deliveries"]["canvas"] > len(resolved)
    assert found["canvas"]["extra_barriers"] == []
    joined = "chord([background0, background1, background2, background3], chain(add, shrink))"
    assert any(joined in segment["expression"] for segment in found["canvas"]["segments"])


def test_the_number_of_a_maps_items_is_known_only_at_run_time(explain):
    lines = explain("mapped", "--dispatch", "canvas")
    assert row(lines, "square") == (
        "square flows:square thread, map flowq as the task flows:square, its items each as one more"
    )
    assert row(lines, "numbers").startswith("numbers flows:numbers process reads ")
    assert below(lines, "a run begins with") == ["chain(numbers, square)"]
    assert below(lines, "map: how many items it has is known only at run time") == ["square -> total"]
    assert any(line.startswith("messages: ") and line.endswith(" for every item of a map") for line in lines)
    assert row(explain("mapped"), "square").endswith(" in a claim of its own, its items each as one more")


def test_optional_edges_and_fused_nodes(explain, facts):
    assert row(explain("maybe"), "shown").endswith(" inline flowq in the claim of either")
    found = facts("maybe", "--dispatch", "canvas")
    assert {(edge["upstream"], edge["node"]) for edge in found["edges"] if not edge["required"]} == {
        ("guess", "either")
    }
    assert [segment["expression"] for segment in found["canvas"]["segments"]] == [
        "chord([guess, chain(numbers, total)], either)"
    ]
    assert {node["path"]: node["runs_with"] for node in found["nodes"]}["shown"] == ["either"]


def test_nested_flows_go_by_their_paths(facts):
    found = facts("outer", "--dispatch", "canvas")
    assert {node["path"] for node in found["nodes"]} >= {"mapped", "mapped/square", "numbers"}
    resolved = [(edge["upstream"], edge["node"]) for edge in found["edges"] if edge["delivery"] == "map"]
    assert resolved == [("mapped/square", "mapped/total")]


def test_a_long_chain_is_cut_and_no_message_is_large(explain, facts):
    found = facts("long", "--dispatch", "canvas")
    assert found["canvas"]["continuations"] == len(found["canvas"]["segments"]) - 1 > 0
    assert found["messages"]["number"] == 1000
    assert found["messages"]["largest_bytes"] < 64 * 1024
    lines = explain("long", "--dispatch", "canvas")
    assert {f"continuations: {found['canvas']['continuations']}", "resolver edges: 0"} <= set(lines)
    assert len(lines) < 40


def test_the_json_says_the_same_as_the_text(explain, facts):
    found = facts("fork", "--dispatch", "canvas")
    assert f"plan {found['plan']}" in explain("fork")[0]
    assert (found["flow"], found["dispatch"]) == ("fork", "canvas")
    segment = found["canvas"]["segments"][0]
    assert (segment["begins"], segment["heads"], segment["messages"]) == (True, ["load"], 4)
    assert (found["past_run"], found["critical_path"]) == (None, None)
    assert facts("fork")["canvas"] is None


def test_a_store_that_does_not_answer_is_told(explain):
    (line,) = [line for line in explain("fork", FLOWQ_STATE_URL="redis://127.0.0.1:1/0") if "critical path" in line]
    assert line.startswith("critical path: no past run is known: the state store did not answer: ")


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_errors_are_those_of_graph(flows, options: tuple[str, ...]):
    wrong = flows.run("explain", "flows:mistyped", *options)
    assert (wrong.code, wrong.stdout) == (1, "")
    assert wrong.stderr == flows.run("graph", "flows:mistyped").stderr
    for target in ("flows:nothing", "nothing:at_all"):
        unknown = flows.run("explain", target, *options)
        assert (unknown.code, unknown.stdout) == (2, "")
        assert unknown.stderr == flows.run("graph", target).stderr


def test_canvas_needs_what_a_celery_app_needs(flows):
    run = flows.run("explain", "flows:fork", "--dispatch", "canvas", FLOWQ_BROKER_URL="amqp://127.0.0.1")
    assert run.code == 2
    assert "UsageProblem: FLOWQ_STATE_URL" in run.stderr


# ── after a run ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def fleet(flows) -> Iterator[dict[str, str]]:
    """Workers that know the flows; gives what the environment says of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(flows.folder))
        with embedded(workers=1, include=["flows"], queues=["reads"]) as context:
            yield {"FLOWQ_BROKER_URL": context.server.url, "FLOWQ_STATE_URL": context.server.redis_url}


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_the_latest_run_shows_the_critical_path(flows, fleet, explain, facts, dispatch: str):
    run = flows.run("run", "flows:mapped", "--connect", **fleet, FLOWQ_DISPATCH=dispatch)
    assert run.stdout.strip() == "14", run.stderr
    lines = explain("mapped", **fleet)
    (title,) = [line for line in lines if line.startswith("critical path of run ")]
    assert re.search(rf" \({dispatch}\): \d+\.\d{{3}} s in 3 steps, ", title)
    table = below(lines, title)
    assert [line.split()[0] for line in table] == ["node", "numbers", "square,", "total"]
    assert re.search(r"square, square\[[012]\] last +\S+ s +\S+ s +\d+%", table[2])
    path = facts("mapped", **fleet)["critical_path"]
    assert [step["node"] for step in path["steps"]] == ["numbers", "square", "total"]
    assert sum(step["share"] for step in path["steps"]) == pytest.approx(1)
    assert path["wait_s"] + path["run_s"] == pytest.approx(path["total_s"])


def test_another_plan_has_no_past_run(fleet, explain):
    assert explain("maybe", **fleet)[-1] == "critical path: no past run"
