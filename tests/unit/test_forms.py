"""One graph, in the class form and in the function form, is one plan, under one hash, wherever it is compiled."""

import os
import random
import subprocess
import sys

import pytest
from pydantic import BaseModel

from flowq import DependencyData, Flow, FlowConfig, FlowType, RetryPolicy, flow, optional, task


class Load(BaseModel):
    class Input(BaseModel):
        path: str

    class Output(BaseModel):
        rows: list[float]

    def process(self, input_data: Input) -> Output:
        return self.Output(rows=[1.0])


class Stats(BaseModel):
    scale: int = 1

    def process(self, input_data, dependencies: DependencyData):
        return {"mean": 1.0}


class Report(BaseModel):
    def process(self, input_data, dependencies: DependencyData):
        return dict(dependencies)


@task(retries=3, timeout=30)
def load(path: str) -> list[float]:
    return [1.0]


@task
def clean(rows: list[float]) -> list[float]:
    return rows


@task(retries=RetryPolicy(max_attempts=2, retry_on=(ValueError,)))
def stats(rows: list[float], cleaned: list[float] | None = None) -> float:
    return 1.0


@task(flow_type="thread", queue="io")
def report(rows: list[float], mean: float) -> str:
    return ""


def child(processor, parent, required=(), optional_deps=(), **config) -> Flow:
    name = config.pop("name", None) or processor.config.name
    made = Flow(processor, FlowConfig(name=name, **config))
    made.register_to(parent, required_deps=required, optional_deps=optional_deps)
    return made


# ── the same tasks ────────────────────────────────────────────────────────────────────────────────────────────────────


@flow
def etl(path: str):
    rows = load.options(name="rows")(path)
    return report(rows, stats.options(name="mean")(rows, load.options(name="again")(path)), after=[])


@flow
def etl_of_all(path: str):
    """A parent in the class form requires all its children, so this one's last step does too."""
    rows = load.options(name="rows")(path)
    mean = stats.options(name="mean")(rows)
    return report(rows, mean)


def etl_as_classes() -> Flow:
    """Write the same down: the parent's processor is the last task, with the others as its children."""
    end = Flow(report, FlowConfig(name="report"))
    rows = child(load, end, name="rows")
    child(stats, end, [rows], name="mean")
    return end


def test_tasks_as_processors():
    assert etl_of_all.plan().document == etl_as_classes().plan().document
    assert etl_of_all.plan().hash == etl_as_classes().plan().hash
    assert etl.plan().hash != etl_of_all.plan().hash


def test_parameters_that_are_named():
    @flow
    def named(path: str):
        first, second = load.options(name="first")(path), load.options(name="second")(path)
        return {"first": first, "second": second, "stats": stats(second, first)}

    end = Flow(None, FlowConfig(name="named"))
    first, second = (child(load, end, name=name) for name in ("first", "second"))
    made = Flow(stats, FlowConfig(name="stats"))
    made.register_to(end, required_deps={"rows": second}, optional_deps={"cleaned": first})
    assert named.plan().document == end.plan().document


def test_a_chain_is_the_same_plan_in_both_forms():
    @flow
    def written(path: str):
        return clean(load(path))

    end = Flow(clean, FlowConfig(name="clean"))
    child(load, end)
    assert written.plan().document == end.plan().document
    assert written.plan().hash == end.plan().hash


def test_a_gathering_parent_is_a_function_that_returns_a_dict():
    @flow
    def root(path: str):
        rows = load(path)
        return {"load": rows, "clean": clean(rows), "stats": stats(rows)}

    end = Flow(None, FlowConfig(name="root"))
    rows = child(load, end)
    child(clean, end, [rows])
    child(stats, end, [rows])
    assert root.plan().document == end.plan().document


def test_classes_in_a_function():
    @flow
    def report(path: str):
        loaded = task(Load(), name="load")(path)
        mean = task(Stats(scale=2), name="stats")(loaded)
        return task(Report(), name="report")(loaded, mean)

    end = Flow(Report(), FlowConfig(name="report"))
    loaded = child(Load(), end, name="load")
    child(Stats(scale=2), end, [loaded], name="stats")
    assert report.plan().document == end.plan().document


def test_flows_in_a_function():
    single = Flow(Load(), FlowConfig(name="load", retries=2, timeout=5))

    @flow
    def report(path: str):
        return Flow(Report(), FlowConfig(name="report"))(single(path))

    end = Flow(Report(), FlowConfig(name="report"))
    child(Load(), end, name="load", retries=2, timeout=5)
    assert report.plan().document == end.plan().document


def test_nested_flows_in_both_forms():
    @flow
    def inner(rows):
        return {"left": clean.options(name="left")(rows), "right": clean.options(name="right")(rows)}

    @flow
    def outer(path: str):
        rows = load(path)
        return {"load": rows, "inner": inner(rows, after=[rows])}

    end, group = Flow(None, FlowConfig(name="outer")), Flow(None, FlowConfig(name="inner"))
    rows = child(load, end)
    group.register_to(end, required_deps=[rows])
    for name in ("left", "right"):
        child(clean, group, [rows], name=name)
    assert [node.path for node in outer.plan()] == [node.path for node in end.plan()]
    assert outer.plan().index == end.plan().index
    for mine, theirs in zip(outer.plan(), end.plan(), strict=True):
        assert (mine.processor, mine.args, [(e.upstream, e.required) for e in mine.edges]) == (
            theirs.processor,
            theirs.args,
            [(e.upstream, e.required) for e in theirs.edges],
        )


def test_optional_in_both_forms():
    @flow
    def end(path: str):
        rows = load(path)
        cleaned = optional(clean(rows))
        return stats.options(name="end")(rows, cleaned)

    parent = Flow(stats, FlowConfig(name="end"))
    rows = child(load, parent)
    child_ = Flow(clean, FlowConfig(name="clean"))
    child_.register_to(parent, required_deps=[rows], optional=True)
    assert end.plan().document == parent.plan().document


# ── the order and the process do not matter ───────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_registration_does_not_matter(seed):
    """But for a sequence, where it is the meaning."""

    def made(order: list[int]) -> Flow:
        end = Flow(Report(), FlowConfig(name="end"))
        flows = [Flow(Stats(scale=i), FlowConfig(name=f"n{i}"), process_id=f"p{i}") for i in range(12)]
        for i in order:
            flows[i].register_to(end, required_deps=[f"p{j}" for j in range(i) if (i * j) % 3 == 1])
        return end

    shuffled = list(range(12))
    random.Random(seed).shuffle(shuffled)
    assert made(shuffled).plan().hash == made(list(range(12))).plan().hash


def test_a_sequence_is_its_order():
    def made(order: list[int]) -> Flow:
        end = Flow(Report(), FlowConfig(name="end", flow_type=FlowType.SEQUENTIAL))
        for i in order:
            Flow(Stats(scale=i), FlowConfig(name=f"n{i}")).register_to(end)
        return end

    assert made([0, 1, 2]).plan().hash != made([2, 1, 0]).plan().hash


def test_process_ids_are_not_part_of_the_plan():
    assert etl_as_classes().plan().hash == etl_as_classes().plan().hash


@pytest.mark.parametrize(
    "change",
    [
        {"retries": 9},
        {"timeout": 9},
        {"flow_type": "inline"},
        {"queue": "other"},
        {"max_crashes": 9},
        {"name": "other"},
    ],
)
def test_what_changes_the_run_changes_the_hash(change):
    @flow
    def changed(path: str):
        return clean(load.options(**change)(path))

    @flow
    def unchanged(path: str):
        return clean(load(path))

    assert changed.plan().hash != unchanged.plan().hash


HASHES = """
from tests.unit import test_forms
print(test_forms.etl.plan().hash, test_forms.etl_as_classes().plan().hash)
"""


def test_the_hash_is_the_same_in_every_process():
    seed = "1" if hash("a") % 2 else "2"  # this process has a random one of its own
    env = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", HASHES], capture_output=True, text=True, check=True, env=env)
    assert run.stdout.split() == [etl.plan().hash, etl_as_classes().plan().hash]
