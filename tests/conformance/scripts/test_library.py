"""A server is given the scripts in the way that it can keep them, and a call leaves nothing to the next one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from flowq.core.errors import StateError, StoreFullError
from flowq.core.types import NodeStatus
from flowq.results.connection import Redis
from flowq.runtime.library import LIBRARY
from flowq.runtime.scripts import OutcomeEntry, Scripts
from tests.conformance.scripts.desk import Desk, chain, fan_in, node, plan
from tests.property.calls import forget, load
from tests.property.servers import reconnect

DRAIN = {"worker": "w", "token": "t", "queue": "main", "process": 1, "thread": 0, "busy": 1}


def keeps_functions(client: Any) -> bool:
    return int(client.info("server")["redis_version"].split(".")[0]) >= 7


def kept(client: Any) -> set[bytes]:
    """Give the names of flowq's libraries on a server."""
    return {library[1] for library in client.execute_command("FUNCTION", "LIST", "LIBRARYNAME", "flowq_*")}


@pytest.fixture
def own(desk: Desk) -> Iterator[Redis]:
    found = reconnect(desk.client)
    yield found
    found.close()


@pytest.fixture
def limited(desk: Desk, own: Redis) -> Iterator[Redis]:
    """A user who may do anything but call functions."""
    desk.client.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "&*", "+@all")
    if keeps_functions(desk.client):
        desk.client.execute_command("ACL", "SETUSER", "limited", "-fcall", "-function")
    own.connection_pool.connection_kwargs |= {"username": "limited", "password": "secret"}
    yield own
    desk.client.execute_command("ACL", "DELUSER", "limited")


def test_where_there_are_functions_they_are_loaded_once_and_called(desk: Desk, own: Redis) -> None:
    if not keeps_functions(desk.client):
        with pytest.raises(redis.ResponseError, match="unknown command"):
            Scripts(own, desk.calls.settings)._installed.load()
        return
    desk.client.execute_command("FUNCTION", "FLUSH")
    desk.client.script_flush()
    for _ in range(2):
        Scripts(own, desk.calls.settings).drop(letters=[])
    Scripts(own, desk.calls.settings)._installed.load()  # two who find it missing at once both load it
    assert kept(desk.client) == {LIBRARY.name.encode()}
    assert not any(desk.client.script_exists(own.register_script(LIBRARY.script("drop")).sha))


def test_who_may_not_call_functions_calls_scripts(desk: Desk, limited: Redis) -> None:
    desk.submit(chain(2))
    scripts = Scripts(limited, desk.calls.settings)
    [claim] = scripts.claim(**DRAIN).claims  # type: ignore[arg-type]
    assert claim.key == "0"
    assert scripts._installed.command("settle")[0] == "EVALSHA"
    assert scripts.cancel(run="r")[0] == "cancelled"


def test_a_server_that_takes_no_functions_is_sent_scripts(
    desk: Desk, own: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(desk.client)
    execute, refused = own.execute_command, list[str]()

    def refuses(*command: Any, **options: Any) -> Any:
        if command[0] == "FUNCTION":
            refused.append("FUNCTION")
            raise redis.ResponseError("ERR not in this plan, please upgrade")
        return execute(*command, **options)

    monkeypatch.setattr(own, "execute_command", refuses)
    scripts = Scripts(own, desk.calls.settings)
    assert [scripts.drop(letters=[]) for _ in range(3)] == [0, 0, 0]
    assert len(refused) == keeps_functions(desk.client), "it is asked but once"


def test_on_a_full_server_a_submit_that_comes_again_is_told_what_it_was_told(desk: Desk, own: Redis) -> None:
    desk.submit(chain(2))
    desk.calls._scripts._installed.client = own
    again, sent = desk.submitted, desk.last
    desk.client.config_set("maxmemory", 1)
    try:
        assert desk.calls.again(sent) == again
        with pytest.raises(StoreFullError):
            desk.submit(chain(2), "other", known=True)
        assert desk.claim()[0].key == "0", "what has begun goes on"
    finally:
        desk.client.config_set("maxmemory", 0)
    assert desk.status("other") is None


def break_off(desk: Desk) -> None:
    """Have a call end in its midst, and see that the next ones know nothing of it."""
    desk.submit(plan(node("a"), node("b")))
    first, second = desk.claim(2)
    leases = desk.leases()
    no_fence: Any = None
    broken = OutcomeEntry(second.key, b"v", "r", no_fence, "completed")
    good = OutcomeEntry(first.key, b"v", "r", first.fence, "completed")
    with pytest.raises((StateError, redis.ResponseError)):
        desk.calls.send("settle", **DRAIN, inline=False, outcomes=[good, broken])
    assert desk.calls.send("drop", letters=[])[1] == 0
    assert [desk.node(key) for key in (first.key, second.key)] == [NodeStatus.RUNNING] * 2
    assert desk.leases() == leases
    assert desk.settle(first, second).stale == []


def test_a_call_that_breaks_off_leaves_nothing_to_the_next_one(desk: Desk) -> None:
    break_off(desk)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("runs, touched, inline = {}, {}, {}", "runs, touched, inline = runs or {}, {}, {}"),
        ("  this = {\n", "  this = this or {\n"),
    ],
)
def test_that_would_be_noticed(desk: Desk, right: str, wrong: str) -> None:
    desk.calls._scripts._installed = load(desk.client, {"lib": [(right, wrong)]})
    if keeps_functions(desk.client):
        with pytest.raises(AssertionError):
            break_off(desk)
    else:
        break_off(desk)


@pytest.mark.parametrize("characters", ["0", "300"])
def test_what_is_known_of_plans_may_be_forgotten_at_any_time(desk: Desk, characters: str) -> None:
    desk.calls._scripts._installed = load(
        desk.client, {"lib": [("local CACHED = 2 ^ 20 ", f"local CACHED = {characters} ")]}
    )
    for run in ("r", "s"):
        desk.submit(fan_in(9), run, known=run == "s")
        while claims := desk.claim(3):
            desk.settle(*claims)
        assert desk.status(run) == "completed"


def test_what_is_known_of_a_plan_holds_for_its_next_run(desk: Desk) -> None:
    """The second run is of the same plan, and reads it no more where functions are kept."""
    desk.submit(fan_in(3))

    def rows_read() -> int:
        before = reads(desk.client)
        while claims := desk.claim(3):
            desk.settle(*claims)
        return reads(desk.client) - before

    first = rows_read()
    desk.submit(fan_in(3), "s", known=True)
    second = rows_read()
    assert second < first if keeps_functions(desk.client) else second == first


def reads(client: Any) -> int:
    stats = client.info("commandstats")
    return sum(stats[name]["calls"] for name in ("cmdstat_hget", "cmdstat_hmget") if name in stats)
