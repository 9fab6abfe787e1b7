"""``flowq run``: a flow of the user's own, from the folder it lies in."""

import json
import signal
import socket
from pathlib import Path

import pytest

SHOP = """
import time
from pathlib import Path
from pydantic import BaseModel
from flowq import DependencyData, Flow, FlowConfig, FlowType, Skip, flow, task

print("printed when it is imported")

class Receipt(BaseModel):
    total: int
    lines: list[str]
    discount: float | None = None

@task
def prices(names: list[str]) -> list[int]:
    print("printed by a node")
    return [len(name) for name in names]

@task(queue="tills", flow_type=FlowType.THREAD)
def label(price: int) -> str:
    return f"{price} ¢"

@task
def discount(names: list[str]) -> float:
    raise LookupError("no [discount] today")

@task(flow_type=FlowType.INLINE)
def receipt(prices: list[int], lines: list[str], discount: float | None = None) -> Receipt:
    return Receipt(total=sum(prices), lines=lines, discount=discount)

@flow
def buy(names: list[str]) -> Receipt:
    found = prices(names)
    return receipt(found, label.map(found), discount(names))

@flow
def strict(names: list[str]) -> float:
    return discount(names)

@task
def nap(seconds: float) -> str:
    Path("napping").touch()
    time.sleep(seconds)
    return "up"

@flow
def rest(seconds: float = 600.0) -> str:
    return nap(seconds)

class Double:
    def process(self, input_data):
        return {"twice": input_data.number * 2}

class Join:
    async def process(self, input_data, dependencies: DependencyData):
        return await dependencies.get_all()

both = Flow(processor=Join(), config=FlowConfig(name="the-class-form"))
Flow(processor=Double(), config=FlowConfig(name="one")).register_to(both)
Flow(processor=Double(), config=FlowConfig(name="two")).register_to(both)

@flow
def mistyped(names: list[str]) -> str:
    return label(prices(names))
"""
BOUGHT = {"total": 8, "lines": ["3 ¢", "5 ¢"], "discount": None}
GIVEN = '{"names": ["tea", "bread"]}'


@pytest.fixture
def shop(terminal):
    terminal.write("shop.py", SHOP)
    return terminal


@pytest.mark.parametrize("where", [["--local"], ["--workers", "1"]], ids=["local", "embedded"])
class TestWhere:
    def test_stdout_gets_the_output_alone_and_stderr_the_rest(self, shop, where: list[str]):
        run = shop.run("run", "shop:buy", "--input", GIVEN, *where)
        assert run.code == 0, run.stderr
        assert json.loads(run.stdout) == BOUGHT
        assert "COMPLETED buy" in run.stderr
        assert "printed when it is imported" in run.stderr
        assert "failed discount: LookupError: no [discount] today" in run.stderr
        assert "bypassed discount (failed): receipt ran without it" in run.stderr

    def test_a_failing_run_names_the_node_and_gives_no_output(self, shop, where: list[str]):
        run = shop.run("run", "shop:strict", "--input", GIVEN, *where)
        assert run.code == 1
        assert run.stdout == ""
        assert "FAILED strict" in run.stderr
        assert "failed discount: LookupError: no [discount] today" in run.stderr
        assert 'shop.py", line' in run.stderr


def test_the_class_form_is_found_by_its_variable_and_by_its_name(shop):
    for name in ("both", "the-class-form"):
        run = shop.run("run", f"shop:{name}", "--local", "-i", '{"number": 21}')
        assert json.loads(run.stdout) == {"one": {"twice": 42}, "two": {"twice": 42}}, run.stderr


def test_the_input_comes_from_a_file_or_from_stdin(shop):
    shop.write("given.json", GIVEN)
    for arguments, given in ((["-i", "@given.json"], None), (["-i", "-"], GIVEN)):
        run = shop.run("run", "shop:buy", "--local", *arguments, given=given)
        assert json.loads(run.stdout) == BOUGHT, run.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["shop:buy", "-i", "{names: 1}"], "InputProblem: --input holds no JSON"),
        (["shop:buy", "-i", "[1, 2]"], "InputProblem: --input holds list [1, 2], but an input is a JSON object"),
        (["shop:buy", "-i", "@nowhere.json"], "'nowhere.json': No such file or directory"),
        (["shop:buy", "-i", "-"], "InputProblem: stdin holds no JSON"),
        (["shop:buy", "-i", '{"name": []}'], "InputProblem: flow 'buy' takes (names): there is no 'name'"),
        (["shop:buy", "-i", '{"names": 1}'], "InputError: flow 'buy': input 'names' cannot be used"),
        (["shop:buy"], "InputError: flow 'buy' takes (names)"),
        (["shop:both"], "'one' needs the input field"),
        (["shop:sell"], "FlowNotFound: the module 'shop' has no flow 'sell'; there are shop:buy, shop:strict"),
        (["shop:prices"], "FlowNotFound: 'shop:prices' is a task"),
        (["shop"], "UsageProblem: which flow of 'shop'? there are shop:buy"),
        (["shop.py:buy"], "UsageProblem: 'shop.py' is a file: give the module that it is, as in shop:buy"),
        (["market:buy"], "ModuleProblem: there is no module 'market'"),
        (["needy:flow"], "ModuleProblem: the module 'needy' cannot be imported: No module named 'surely_not_there'"),
        (["torn:flow"], 'torn.py", line 2'),
        (["bare:flow"], "it has no flows: make one with @flow or Flow(...)"),
        (["rash:flow"], "ModuleProblem: the module 'rash' ends Python when it is imported (exit code 5)"),
        (["shop:mistyped", "-i", GIVEN], "TypeMismatchError: 'label': parameter 'price' takes int"),
        (["shop:buy", "--connect"], "UsageProblem: --local and --connect"),
        (["shop:buy", "--workers", "2"], "UsageProblem: --local and --workers"),
    ],
)
def test_what_cannot_be_run_as_asked_ends_with_2_and_one_clear_message(shop, arguments: list[str], said: str):
    shop.write("needy.py", "import surely_not_there\n")
    shop.write("torn.py", "\nx = 1 / 0\n")
    shop.write("bare.py", "x = 1\n")
    shop.write("rash.py", "raise SystemExit(5)\n")
    if arguments == ["shop:both"]:
        shop.write(
            "shop.py", SHOP.replace("class Double:", "class Double:\n    class Input(BaseModel):\n        number: int")
        )
    run = shop.run("run", *arguments, "--local")
    assert run.code == 2, run.stderr
    assert run.stdout == ""
    assert said in run.stderr
    assert "Traceback" not in run.stderr


def test_a_run_that_takes_too_long_is_cancelled(shop):
    run = shop.run("run", "shop:rest", "--local", "--timeout", "0.3")
    assert run.code == 1
    assert run.stdout == ""
    assert "OutOfTime: rest had not ended after 0.3 s, and was cancelled" in run.stderr


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds processes through /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_in_the_middle_of_a_node_it_leaves_no_process_behind(shop, number: signal.Signals, code: int):
    run = shop.start("run", "shop:rest", "--local")
    run.until((shop.folder / "napping").exists, "the node runs")
    run.process.send_signal(number)
    assert run.wait(10).code == code, run.stderr
    run.assert_nothing_left()
    assert run.stdout == ""


def test_without_redis_connect_says_where_it_looked_but_no_password(shop):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, so that nobody else listens there meanwhile
        place = f"127.0.0.1:{unused.getsockname()[1]}"
        run = shop.run("run", "shop:buy", "-i", GIVEN, "--connect", FLOWQ_BROKER_URL=f"redis://:secret@{place}/0")
    assert run.code == 1
    assert f"FleetProblem: no answer from Redis at {place}" in run.stderr
    assert "secret" not in run.stderr
