"""The example flows that deployments include, on the smallest of real files."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowq import embedded

ROOT = Path(__file__).parents[2]
SALES = "customer,amount\nann,3\nbob,4\nann,5\ncid,1000\ndan,4\n"


@pytest.fixture(scope="module")
def fleet() -> Iterator[dict[str, str]]:
    """Workers that are there already; gives what the environment says of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        with embedded(workers=1, include=["workers.flows", "flowq.cli.demo.flows"]) as context:
            yield {"FLOWQ_BROKER_URL": context.server.url, "FLOWQ_STATE_URL": context.server.redis_url}
            assert all(worker.alive for worker in context.workers.processes)


@pytest.fixture(params=["--local", "--connect"])
def run(request: pytest.FixtureRequest, terminal):
    """Run one of the examples: in this process, and on the workers."""
    where = str(request.param)
    environ = {"PYTHONPATH": str(ROOT)}
    if where == "--connect":
        environ |= request.getfixturevalue("fleet")

    def run_example(name: str, sales: str) -> dict[str, object]:
        given = json.dumps({"path": str(terminal.write("sales.csv", sales))})
        done = terminal.run("run", f"workers.flows:{name}", where, "-i", given, **environ)
        assert done.code == 0, done.stderr
        found: dict[str, object] = json.loads(done.stdout)
        return found

    return run_example


def test_the_class_form(run):
    assert run("report", SALES) == {
        "text": "sales.csv: 4 sales, 4.00 on average",
        "count": 4,
        "outliers": 1,
    }


def test_the_class_form_without_what_it_can_do_without(run):
    assert run("report", "customer,amount\nann,3\nbob,4\n") == {
        "text": "sales.csv: 2 sales, 3.50 on average (not cleaned: failed)",
        "count": 2,
        "outliers": None,
    }


def test_the_function_form(run, terminal):
    totals = terminal.folder / "sales.totals.csv"
    assert run("etl", SALES) == {
        "sales": 5,
        "best_customer": "cid",
        "totals_path": str(totals),
        "description": {"mean": 203.2, "median": 4.0},
    }
    assert totals.read_text().splitlines() == ["customer,total", "cid,1000.0", "ann,8.0", "bob,4.0", "dan,4.0"]


def test_the_function_form_without_what_it_can_do_without(run):
    assert run("etl", "customer,amount\n")["description"] is None
