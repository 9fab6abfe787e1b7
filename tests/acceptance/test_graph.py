"""``flowq graph`` and ``flowq validate``: a flow is looked at, not run."""

import re

import pytest

FLOWS = """
from flowq import Flow, FlowConfig, FlowType, flow, optional, task

print("printed when it is imported")

@task(name='we"ird#<b>&;`end')
def weird() -> list[int]: return [1]
@task(queue="gpu", flow_type=FlowType.THREAD)
def square(x: int) -> int: return x * x
@task
def total(squares: list[int]) -> int: return sum(squares)
@task
def warm_up() -> None: ...
@task(flow_type=FlowType.INLINE)
def done(one: int, other: int | None = None) -> int: return one

@flow
def inner(numbers: list[int]) -> int:
    return total(square.map(numbers))

@flow
def outer() -> int:
    warm = warm_up()
    numbers = weird(after=warm)
    first = inner(numbers, after=optional(warm))
    return done(first, total(numbers))

class Nothing:
    def process(self, input_data): return None

def tree(names):
    flows = {name: Flow(processor=Nothing(), config=FlowConfig(name=name)) for name in ["top", *names]}
    for name in names:
        deps = {"b": ["a"], "c": ["a", "b"]}.get(name, [])
        flows[name].register_to(flows["top"], required_deps=[flows[dep].process_id for dep in deps])
    return flows["top"]

forwards, backwards = tree("abc"), tree("cba")

@task
def text() -> str: return ""
@flow
def mistyped() -> int:
    return done(text(), total(text()))

looped = Flow(processor=Nothing(), config=FlowConfig(name="looped"))
a, b = (Flow(processor=Nothing(), config=FlowConfig(name=name)) for name in "ab")
a.register_to(looped, required_deps=[b.process_id, "nobody"])
b.register_to(looped, required_deps=[a.process_id])

@flow
def undecided() -> int:
    return done(1) if weird() else done(2)
"""
EDGE = re.compile(r"^  (\w+) (-->|-\.->)(\|after\|)? (\w+)$")
NODE = re.compile(r'^ +(n\d+)(\[\[|\(\[|\[|\()"(.*)"(\]\]|\]\)|\]|\))$')
FRAME = re.compile(r'^ +subgraph (s\d+)\["(.*)"\]$')
CLOSING = {"[[": "]]", "([": "])", "[": "]", "(": ")"}


@pytest.fixture
def flows(terminal):
    terminal.write("flows.py", FLOWS)
    return terminal


class Chart:
    """A Mermaid flowchart, read as strictly as its grammar needs."""

    def __init__(self, text: str) -> None:
        first, comment, *lines = text.splitlines()
        assert first == "flowchart LR"
        assert re.fullmatch(r"  %% flow \S+, plan [0-9a-f]{32}", comment)
        self.nodes: dict[str, tuple[str, str, str]] = {}
        """By name: opening bracket, the whole label, the frame it is in."""
        self.edges: set[tuple[str, str, str]] = set()
        self.frames: dict[str, str] = {}
        names: dict[str, str] = {}
        inside: list[str] = []
        for line in lines:
            if found := EDGE.match(line):
                self.edges.add((names[found[1]], found[2] + (found[3] or ""), names[found[4]]))
            elif found := FRAME.match(line):
                names[found[1]] = f"all of {found[2]}"
                inside.append(found[2])
            elif line.strip() == "end":
                inside.pop()
            else:
                found = NODE.match(line)
                assert found, line
                assert found[4] == CLOSING[found[2]]
                name = found[3].split("<br/>")[0]
                assert not re.search(r'["<>`&]', name.replace("<br/>", "")), line
                names[found[1]] = name
                self.nodes[name] = (found[2], found[3], inside[-1] if inside else "")
        assert inside == []


def test_the_chart_shows_edges_maps_parents_and_placements(flows):
    run = flows.run("graph", "flows:outer")
    assert run.code == 0, run.stderr
    chart = Chart(run.stdout)
    weird = "we#34;ird#35;#60;b#62;#38;#59;#96;end"
    assert chart.edges == {
        ("warm_up", "-->|after|", weird),
        ("warm_up", "-.->|after|", "all of inner"),
        (weird, "-->", "square"),
        ("square", "-->", "total"),  # the one of the inner flow; the other has the same name
        ("total", "-->", "inner"),
        (weird, "-->", "total"),
        ("inner", "-->", "done"),
        ("total", "-.->", "done"),
    }
    shapes = {name: node[0] for name, node in chart.nodes.items()}
    assert shapes == {"warm_up": "[", weird: "[", "square": "[[", "total": "[", "inner": "([", "done": "(["}
    assert chart.nodes["square"][1].endswith(f"<br/><i>thread</i><br/><i>map over {weird}</i><br/><i>queue gpu</i>")
    assert chart.nodes["square"][2] == "inner"
    assert chart.nodes["done"][2] == ""


def test_the_same_graph_gives_the_same_text_however_it_was_written(flows):
    runs = [
        flows.run("graph", f"flows:{name}", PYTHONHASHSEED=seed).stdout
        for name, seed in (("forwards", "1"), ("forwards", "2"), ("backwards", "3"))
    ]
    assert Chart(runs[0]).edges >= {("a", "-->", "b"), ("b", "-->", "c"), ("c", "-->", "top")}
    assert runs[0] == runs[1] == runs[2]


def test_validate_says_ok_and_the_plan(flows):
    run = flows.run("validate", "flows:outer")
    assert run.code == 0, run.stderr
    assert re.fullmatch(r"OK: 7 nodes, 9 edges, plan [0-9a-f]{32}\n", run.stdout)
    assert run.stdout.split()[-1] in flows.run("graph", "flows:outer").stdout


@pytest.mark.parametrize("command", ["validate", "graph"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "mistyped",
            [
                "flows:mistyped has 2 problems.",
                "1. TypeMismatchError",
                "node:    done",
                "field:   one",
                "2. TypeMismatchError",
                "node:    total",
                "field:   squares",
                "remedy:  change one of the two annotations",
            ],
        ),
        (
            "looped",
            [
                "flows:looped has 2 problems.",
                "UnknownDependencyError",
                "'a' depends on 'nobody'",
                "field:   required_deps",
                "remedy:  register that flow",
                "CycleError",
                "dependencies form a cycle: ",
                "remedy:  remove one of these dependencies",
            ],
        ),
        (
            "undecided",
            ["flows:undecided cannot be built.", "DefinitionError", "has no value while the flow is being written"],
        ),
    ],
)
def test_a_graph_that_cannot_run_gets_all_its_problems_told(flows, command: str, name: str, said: list[str]):
    run = flows.run(command, f"flows:{name}")
    assert run.code == 1
    told, other = (run.stdout, run.stderr) if command == "validate" else (run.stderr, run.stdout)
    for part in said:
        assert part in told
    assert "flows:" not in other
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("command", ["validate", "graph"])
def test_an_unknown_flow_is_a_usage_error(flows, command: str):
    run = flows.run(command, "flows:nothing")
    assert run.code == 2
    assert "FlowNotFound: the module 'flows' has no flow 'nothing'; there are flows:inner, flows:outer" in run.stderr
    assert run.stdout == ""
