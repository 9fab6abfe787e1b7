"""submit of many runs in one call: each is started, or not, as it would be by a call of its own."""

from __future__ import annotations

from typing import Any

import pytest

from flowq.core.errors import StoreFullError
from flowq.plan import Plan
from flowq.runtime.replies import Submitted
from flowq.runtime.rows import rows_of
from tests.conformance.scripts.desk import Desk, chain, node, plan, wakes
from tests.conformance.scripts.test_define import given

ONE = plan(node("a"))


def define(desk: Desk, of: Plan) -> Plan:
    for piece in rows_of(of).pieces(1000):
        desk.define(of.hash, *piece)
    return of


def submit(desk: Desk, of: Plan, *runs: str, **options: Any) -> Submitted:
    """Start runs, each with its name as its input."""
    named: dict[str, Any] = {"runs": runs, "values": [run.encode() for run in runs]}
    found: Submitted = desk._send("submit", **given(of, **named | options))
    return found


def stored(desk: Desk) -> dict[str, Any]:
    """Give what is kept of runs and plans, and what waits."""
    keys = sorted(key for key in desk.calls.left() if ":run:" in key or ":plan:" in key)
    lists = {key: desk.client.lrange(key, 0, -1) for key in keys if key.endswith(":todo")}
    hashes = {key: desk.client.hgetall(key) for key in keys if key not in lists}
    return lists | hashes | {"": (desk.client.smembers(desk.keys.open), desk.timers(), desk.ready())}


def test_each_is_as_if_it_were_alone(desk: Desk) -> None:
    desk.submit(chain(), "alone")
    found = submit(desk, chain(), "a", "b", "c", deadline_ms=50_000)
    assert (found.said, found.unfinished) == (["ok"] * 3, [])
    assert desk.ready() == ["alone 0", "a 0", "b 0", "c 0"]
    assert desk.client.hget(desk.keys.plan(chain().hash), "runs") == b"4"
    assert desk.client.smembers(desk.keys.open) == {b"alone", b"a", b"b", b"c"}
    assert desk.timers() == ["a deadline 0", "b deadline 0", "c deadline 0"]
    alone = desk.client.hgetall(desk.keys.run("alone"))
    for run in "abc":
        assert desk.head("input", run) == run
        assert desk.client.hgetall(desk.keys.run(run)).keys() == alone.keys() | {b"deadline"}
    desk.finish()
    assert [desk.status(run) for run in ("alone", "a", "b", "c")] == ["completed"] * 4


def test_verdicts_are_each_run_s_own(desk: Desk) -> None:
    define(desk, ONE)
    submit(desk, ONE, "same", "other", asked=["1", "1"])
    runs, asked = ["same", "a", "other", "b", "c"], ["1", "", "2", "3", ""]
    found = submit(desk, ONE, *runs, asked=asked, most_open=4)
    assert found.said == ["ok", "ok", "other", "ok", "full"]
    assert desk.ready() == ["same 0", "other 0", "a 0", "b 0"]
    assert [desk.head("asked", run) for run in ("a", "b")] == [None, "3"]
    assert desk.status("c") is None
    before = stored(desk)
    assert desk.again() == found, "repeated"
    assert submit(desk, ONE, *runs, asked=asked, most_open=4).said == found.said, "made anew"
    assert stored(desk) == before


def test_a_repeated_call_gives_the_same_though_there_is_room_by_now(desk: Desk) -> None:
    define(desk, ONE)
    found = submit(desk, ONE, "a", "b", most_open=1)
    sent = desk.last
    assert found.said == ["ok", "full"]
    desk.finish("a")
    assert desk.calls.again(sent) == found
    assert desk.status("b") is None


def test_without_their_plan_those_are_ok_that_exist(desk: Desk) -> None:
    desk.submit(ONE, "there")
    desk.client.delete(desk.keys.plan(ONE.hash))
    assert submit(desk, ONE, "a", "there", "b").said == ["plan_unknown", "ok", "plan_unknown"]
    assert desk.ready() == ["there 0"]
    assert desk.client.smembers(desk.keys.open) == {b"there"}


def test_one_that_stands_there_twice_is_started_once(desk: Desk) -> None:
    define(desk, ONE)
    found = submit(desk, ONE, "a", "a", "a", asked=["1", "1", "2"], most_open=1)
    assert found.said == ["ok", "ok", "other"]
    assert desk.ready() == ["a 0"]
    assert desk.client.hget(desk.keys.plan(ONE.hash), "runs") == b"1"


def test_so_many_wake_ups_are_due_as_there_are_free_slots(desk: Desk) -> None:
    define(desk, ONE)
    desk.register(slots=4, worker="another")
    found = submit(desk, ONE, *(str(number) for number in range(10)))
    assert {wake.token for wake in wakes(found.messages)} == desk.drains()
    assert len(found.messages) == len(desk.drains()) == 6
    assert desk.again() == found, "nobody has sent them, as the first reply was lost"


def test_what_they_begin_with_may_be_left_to_further_calls(desk: Desk) -> None:
    of, runs = define(desk, plan(*(node(f"n{index}") for index in range(1000)))), ["a", "b", "c", "d"]
    found = submit(desk, of, *runs)
    assert (found.said, found.unfinished) == (["ok"] * 4, ["c", "d"])
    assert desk.timers() == ["c todo 0", "d todo 0"], "the caller may die now"
    assert len(desk.ready()) == 2500
    before = stored(desk)
    assert desk.again() == found
    assert submit(desk, of, *runs).unfinished == ["c", "d"]
    assert stored(desk) == before
    for run in ("c", "d"):
        while desk.advance(run):
            pass
    assert desk.timers() == []
    assert desk.ready() == [f"{run} {index}" for run in runs for index in range(1000)]


def test_one_more_costs_a_few_commands(desk: Desk) -> None:
    define(desk, ONE)
    desk.register(slots=0)
    costs = []
    for count in (1, 11):
        with desk.counting() as counted:
            submit(desk, ONE, *(f"{count}.{number}" for number in range(count)))
        costs.append(sum(counted.values()))
    assert costs[1] - costs[0] <= 2 * 10, costs


def test_many_more_than_one_command_takes(desk: Desk) -> None:
    define(desk, ONE)
    runs = [str(number) for number in range(3000)]
    found = submit(desk, ONE, *runs)
    assert found.said == ["ok"] * 3000
    for run in found.unfinished:
        desk.advance(run)
    assert desk.ready() == [f"{run} 0" for run in runs]
    assert desk.client.scard(desk.keys.open) == 3000


def test_empty_ones_have_ended(desk: Desk) -> None:
    define(desk, plan())
    found = submit(desk, plan(), "a", "b", "c", most_open=1, deadline_ms=50_000)
    assert (found.said, found.unfinished) == (["ok"] * 3, [])
    assert [desk.status(run) for run in "abc"] == ["completed"] * 3
    assert desk.client.scard(desk.keys.open) == 0
    assert desk.client.hget(desk.keys.plan(plan().hash), "runs") == b"0"
    assert all(life > 0 for run in "abc" for life in desk.lives_ms(run))
    assert desk.timers() == []


@pytest.mark.parametrize("is_first", [False, True])
def test_a_server_without_memory_stores_none_of_them(desk: Desk, is_first: bool) -> None:
    desk.submit(ONE, "there")
    if is_first:
        desk.client.delete(desk.keys.epoch)
    before, keys = stored(desk), desk.calls.left().keys()
    desk.client.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreFullError):
            submit(desk, ONE, "there", "a", "b")
    finally:
        desk.client.config_set("maxmemory", 0)
    assert (stored(desk), desk.calls.left().keys()) == (before, keys)
    assert submit(desk, ONE, "there", "a", "b").said == ["ok"] * 3
