"""A call that is repeated gives its reply again, as long as anybody may repeat it; one that comes too late, nothing."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from flowq.core.types import NodeStatus
from flowq.runtime.scripts import Scripts
from tests.conformance.scripts.desk import Desk, node, plan

DRAIN = {"worker": "w", "token": "t", "queue": "main", "process": 1, "thread": 0, "busy": 0}


class Caller:
    """One thread that calls, whose every call can be repeated."""

    def __init__(self, desk: Desk) -> None:
        self.scripts = Scripts(desk.client, desk.calls.settings)
        self._next = self.scripts._callers.next

    def call(self, name: str, **given: Any) -> tuple[str, Any]:
        number = self._next()
        return number, self.again(number, name, **given)

    def again(self, number: str, name: str, **given: Any) -> Any:
        self.scripts._callers.next = lambda: number  # type: ignore[method-assign]
        return getattr(self.scripts, name)(**given)


@pytest.fixture
def caller(desk: Desk) -> Caller:
    desk.submit(plan(node("a"), node("b"), node("c")))
    return Caller(desk)


def test_a_call_whose_reply_was_lost_is_given_it_again_and_changes_nothing(desk: Desk, caller: Caller) -> None:
    number, first = caller.call("claim", **DRAIN)
    assert caller.again(number, "claim", **DRAIN) == first
    assert [desk.node(key) for key in "012"] == [NodeStatus.RUNNING, None, None]


def test_a_repetition_that_comes_after_the_next_call_claims_nothing(desk: Desk, caller: Caller) -> None:
    number, _ = caller.call("claim", **DRAIN)
    caller.call("claim", **DRAIN)
    with pytest.raises(TypeError):  # its reply is nothing; nobody is there to read it
        caller.again(number, "claim", **DRAIN)
    assert desk.node("2") is None, "it is as it was"


def test_claims_that_were_lost_meanwhile_are_not_given_again(desk: Desk, caller: Caller) -> None:
    number, first = caller.call("claim", **DRAIN)
    desk.calls.send("bury", holders=[caller.scripts.holder], tokens=[], crashed=False)
    assert len(first.claims) == 1
    assert caller.again(number, "claim", **DRAIN).claims == []


def test_two_threads_do_not_share_their_last_reply(desk: Desk, caller: Caller) -> None:
    other = Caller(desk)
    other.scripts.holder = caller.scripts.holder
    other._next = lambda: "1.1"
    number, first = caller.call("claim", **DRAIN)
    other.call("claim", **DRAIN)
    assert caller.again(number, "claim", **DRAIN) == first


def test_one_reply_is_kept_for_each_thread_and_not_for_ever(desk: Desk, caller: Caller) -> None:
    for _ in range(3):
        caller.call("claim", **DRAIN)
    key = f"{desk.calls.settings.prefix}:said:{caller.scripts.holder}.0"
    assert desk.client.keys(f"{desk.calls.settings.prefix}:said:{caller.scripts.holder}*") == [key.encode()]
    assert 30_000 < desk.client.pttl(key) <= 60_000


def test_a_forked_process_is_another_caller(desk: Desk, caller: Caller) -> None:
    """Its calls are numbered from the same number on, and must not be taken for repetitions."""
    scripts: Any = Scripts(desk.client, desk.calls.settings)
    scripts.claim(**DRAIN)
    fork = multiprocessing.get_context("fork")
    keys: Any = fork.SimpleQueue()
    child = fork.Process(target=lambda: keys.put(scripts.claim(**DRAIN).claims[0].key))
    child.start()
    assert keys.get() == "1"
    child.join()
    assert len(scripts.claim(**DRAIN).claims) == 1
