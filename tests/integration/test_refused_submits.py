"""Submits with large inputs that are refused, repeated or raced: nothing is left behind, and no run misses its input.

There are no workers: what is looked at is what lies in the results store.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowContext, IdempotencyError, OverloadedError, StoreFullError
from flowq.core.config import Settings
from flowq.results.codec import decode
from flowq.runtime.state import State
from flowq.standalone import EmbeddedServer
from tests.integration.gated_flows import forked, gated

LARGE, OTHER = (secrets.token_hex(40_000) for _ in range(2))
HOW = ["key", "run", "plain"]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as started:
        yield started


@pytest.fixture(params=["redis", "file", "sqlite"])
def results_url(request, server, tmp_path) -> str:
    return server.redis_url if request.param == "redis" else f"{request.param}://{tmp_path}/values"


@pytest.fixture
def open_context(server, results_url) -> Iterator[Callable[..., FlowContext]]:
    """Opens the contexts of producers."""
    opened = []

    def open_one(**settings: Any) -> FlowContext:
        given = {"submit_wait_s": 0.05, "broker_url": server.url, "state_url": server.redis_url}
        opened.append(FlowContext(Settings(results_url=results_url, **given | settings)))
        return opened[-1]

    yield open_one
    for context in opened:
        context.close()
    State.of(open_one()).client.flushall()
    opened[-1].close()


def submit(context: FlowContext, text: str, how: str = "key", flow: Any = gated) -> str:
    """Submit a run of a large input; gives its id."""
    if how == "run":
        return str(flow.submit_as("named", [text, "log"], {}, context=context).run_id)
    options = {"idempotency_key": "key"} if how == "key" else {}
    return str(flow.submit(text, "log", context=context, **options).run_id)


def kept(context: FlowContext) -> int:
    """Count all that is left in the results store, empty folders included."""
    url = str(context.settings.results_url)
    if url.startswith("file"):
        found = Path(url.removeprefix("file://")).rglob("*")
        return sum(1 for path in found if path.is_file() or not any(path.iterdir()))
    if url.startswith("sqlite"):
        return len(context.results.store._run("SELECT digest FROM results"))
    client = State.of(context).client
    return sum(client.hlen(key) for key in client.scan_iter(f"{context.settings.prefix}:values:*"))


def text_of(context: FlowContext, run: str) -> str:
    """Give the input of a run, as a worker would read it."""
    return str(decode(context.results.unpack(run, State.of(context).run_input(run)))["path"])


def meanwhile(context: FlowContext, do: Callable[[], object]) -> None:
    """Have something happen in a submit of this context, when it has put its input, and before it starts its run."""
    put = context.results.store.put

    def put_first(*given: Any) -> None:
        put(*given)
        do()

    context.results.store.put = put_first


@pytest.mark.parametrize("how", HOW)
def test_without_room_nothing_is_left(open_context, how):
    blocked = open_context(max_open_runs=1)
    forked.submit("", "", context=blocked)
    with pytest.raises(OverloadedError):
        submit(blocked, LARGE, how)
    assert kept(blocked) == 0
    roomy = open_context()
    assert text_of(roomy, submit(roomy, LARGE, how)) == LARGE
    assert kept(roomy) == 1


@pytest.mark.parametrize("how", ["key", "run"])
def test_a_repeated_submit_stores_nothing_and_leaves_the_run_its_input(open_context, how):
    first, again = open_context(), open_context()
    run = submit(first, LARGE, how)
    puts: list[object] = []
    for context in (first, again):
        meanwhile(context, lambda: puts.append(None))
        assert submit(context, LARGE, how) == run
    assert puts == []
    assert kept(first) == 1
    assert text_of(first, run) == LARGE


def test_a_key_that_was_used_for_another_input_stores_nothing(open_context):
    context = open_context()
    run = submit(context, LARGE)
    with pytest.raises(IdempotencyError, match=f"see run {run}"):
        submit(context, OTHER)
    assert kept(context) == 1
    assert text_of(context, run) == LARGE


@pytest.mark.parametrize("how", ["key", "run"])
def test_who_loses_the_race_for_a_run_takes_its_own_input_back(open_context, how):
    winner, loser = open_context(), open_context()
    meanwhile(loser, lambda: submit(winner, LARGE, how))
    run = submit(loser, LARGE, how)
    assert kept(winner) == 1
    assert text_of(winner, run) == LARGE


def test_so_does_who_loses_it_with_another_input(open_context):
    winner, loser = open_context(), open_context()
    meanwhile(loser, lambda: submit(winner, LARGE))
    with pytest.raises(IdempotencyError) as told:
        submit(loser, OTHER)
    (run,) = [key.decode().split(":")[2] for key in State.of(winner).client.keys("flowq:run:*") if key.count(b":") == 2]
    assert run in str(told.value)
    assert kept(winner) == 1
    assert text_of(winner, run) == LARGE


def test_who_is_told_that_there_is_no_room_leaves_it_to_who_is_about_to_begin(open_context):
    """Both have put the same input, and only the first is refused."""
    blocked, patient = open_context(max_open_runs=1), open_context()
    blocker = forked.submit("", "", context=blocked)

    def refused() -> None:
        with pytest.raises(OverloadedError):
            submit(blocked, LARGE)

    meanwhile(patient, refused)
    run = submit(patient, LARGE)
    assert kept(patient) == 1
    assert text_of(patient, run) == LARGE
    blocker.cancel()


@pytest.mark.parametrize("how", HOW)
def test_a_run_that_was_stored_though_it_was_refused_keeps_its_input(open_context, monkeypatch, how):
    """The reply is lost, and when the call is repeated, there is no memory left."""
    context = open_context()
    scripts = State.of(context).scripts
    stored = scripts.submit
    runs: list[str] = []

    def refused_afterwards(**given: Any) -> Any:
        submitted = stored(**given)
        if submitted.said != ["ok"]:
            return submitted
        runs.extend(given["runs"])
        raise StoreFullError("full")

    monkeypatch.setattr(scripts, "submit", refused_afterwards)
    with pytest.raises(StoreFullError):
        submit(context, LARGE, how)
    assert text_of(context, runs[0]) == LARGE


def test_what_became_of_the_submit_is_told_though_the_input_cannot_be_taken_back(open_context, monkeypatch, caplog):
    blocked = open_context(max_open_runs=1)
    forked.submit("", "", context=blocked)

    def remove(*given: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(blocked.results.store, "remove", remove)
    with pytest.raises(OverloadedError):
        submit(blocked, LARGE)
    assert "may stay in the results store: the disk is gone" in caplog.text
