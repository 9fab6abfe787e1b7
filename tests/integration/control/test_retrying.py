"""Runs that did not complete, with real workers: opened again when the cause is mended, or kept as dead letters.

What nodes did is read from the log that they write themselves.
"""

from __future__ import annotations

import threading

import pytest

from flowq import FailureKind, FlowStatus, NodeStatus, RunStatusError
from flowq.testing import wait_until
from tests.integration.gated_flows import forked, gated, mapped, poison, starts

END_S = 30


# ── retry ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_when_the_cause_is_mended_only_what_failed_and_its_downstream_run_again(context, log, go, dispatch):
    handle = forked.submit(str(go), log, dispatch=dispatch)
    failed = handle.result(END_S)
    assert failed.status is FlowStatus.FAILED
    assert failed.nodes["joins"].status is NodeStatus.UPSTREAM_FAILED
    go.touch()
    assert not handle.retry().is_final or handle.status().is_final
    result = handle.result(END_S)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, "start+start")
    assert starts(log, handle.run_id) == {"passes": 1, "passes_2": 1, "needs": 2, "joins": 1}
    assert result.nodes["needs"].attempt == 1, "attempts are counted anew"
    assert result.failures == {}
    kept = result.nodes["passes_2"]
    assert kept == failed.nodes["passes_2"]
    with pytest.raises(RunStatusError, match="no failed or cancelled node"):
        handle.retry()


def test_it_fails_again_if_it_is_not(context, log, go):
    handle = forked.submit(str(go), log)
    handle.result(END_S)
    for times in (2, 3):
        handle.retry()
        assert handle.result(END_S).status is FlowStatus.FAILED
        assert starts(log, handle.run_id)["needs"] == times
    assert handle.progress().settled == handle.progress().total == 4


def test_from_a_node(context, log, go):
    go.touch()
    handle = forked.submit(str(go), log)
    handle.result(END_S)
    handle.retry("needs")
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    assert starts(log, handle.run_id) == {"passes": 1, "passes_2": 1, "needs": 2, "joins": 2}
    with pytest.raises(KeyError, match="'nobody' names no nodes"):
        handle.retry("nobody")


def test_from_an_item(context, log, go):
    handle = mapped.submit(4, str(go), log)
    assert handle.result(END_S).status is FlowStatus.FAILED
    go.touch()
    handle.retry("picky[2]")
    assert handle.result(END_S).status is FlowStatus.FAILED, "another one has failed, too"
    handle.retry("picky[1]")
    assert handle.result(END_S).output == [0, 1, 2, 3]
    assert starts(log, handle.run_id) == {"picky[0]": 1, "picky[1]": 2, "picky[2]": 2, "picky[3]": 1, "together": 1}


def test_of_a_cancelled_run(context, log, go):
    handle = gated.submit(str(go), log)
    wait_until(lambda: starts(log, handle.run_id)["waits"], END_S)
    handle.cancel()
    go.touch()
    handle.retry()
    assert handle.result(END_S).output == "value"


def test_two_who_retry_at_once_open_it_once(context, log, go):
    handle = forked.submit(str(go), log)
    handle.result(END_S)
    go.touch()
    told: list[object] = []

    def retry() -> None:
        try:
            told.append(context.client.handle(handle.run_id).retry())
        except RunStatusError as error:
            told.append(error)

    threads = [threading.Thread(target=retry) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(not isinstance(one, RunStatusError) for one in told) == 1, told
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    assert starts(log, handle.run_id)["needs"] == 2


# ── dead letters ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("dispatch", ["pull", "canvas"])
def test_a_node_that_kills_its_process_is_a_dead_letter_until_it_is_retried(context, log, go, dispatch):
    handle = poison.submit(str(go), log, dispatch=dispatch)
    result = handle.result(END_S)
    failure = result.nodes["kills_its_process"].failure
    assert failure is not None
    assert failure.kind is FailureKind.LOST
    (letter,) = context.client.dead_letters()
    assert (letter.run_id, letter.flow, letter.node) == (handle.run_id, "poison", "kills_its_process")
    assert letter.failure == result.failures["kills_its_process"]
    assert starts(log, handle.run_id) == {"kills_its_process": 3}
    go.touch()
    context.client.handle(letter.run_id).retry(letter.node)
    assert handle.result(END_S).output == "alive"
    assert context.client.dead_letters() == []


def test_dead_letters_are_dropped_or_go_with_their_run(context, log, go):
    first, second = (poison.submit(str(go), log) for _ in range(2))
    first.result(END_S)
    second.result(END_S)
    letters = context.client.dead_letters()
    assert {letter.run_id for letter in letters} == {first.run_id, second.run_id}
    assert letters == sorted(letters, key=lambda letter: letter.at, reverse=True)
    assert context.client.drop_dead_letters([letter for letter in letters if letter.run_id == first.run_id]) == 1
    assert context.client.drop_dead_letters(letters) == 1
    assert context.client.dead_letters() == []
    assert first.status() is FlowStatus.FAILED, "its run is kept"
