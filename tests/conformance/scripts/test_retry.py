"""retry: an ended run is opened again, and what is left of its first life counts for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from flowq.core.config import RetryPolicy
from flowq.core.errors import RunStatusError
from flowq.core.types import NodeStatus
from flowq.plan import Plan
from tests.conformance.scripts.desk import Desk, Outcome, chain, deliveries, fan_out, map_plan, node, plan, wakes

COMPLETED, READY, CANCELLED = NodeStatus.COMPLETED, NodeStatus.READY, NodeStatus.CANCELLED
FORK = plan(node("a"), node("b", 0), node("c", 0), node("d", 1, 2))
BUDGET = 500


def run_until(desk: Desk, of: Plan, *failing: str) -> None:
    """Run all nodes; these fail."""
    desk.submit(of)
    while claims := desk.claim(process=50, token="finish"):
        for claim in claims:
            desk.settle(
                Outcome("r", claim.key, claim.fence, "failed" if claim.key in failing else "completed"), token=""
            )


def told(desk: Desk) -> dict[str, int]:
    names = ("remaining", "bad_sinks", "total", "settled", "completed", "failed", "upstream_failed", "cancelled")
    return {name: int(found) for name in names if (found := desk.head(name)) not in (None, "0")}


class TestFromNothing:
    def test_what_failed_runs_again_and_what_follows_it(self, desk: Desk) -> None:
        run_until(desk, FORK, "1")
        assert desk.status() == "failed"
        before = desk.entry("0"), desk.entry("2"), desk.value("2")
        changed = desk.retry(of=FORK)
        assert (changed.said, changed.unfinished) == ("ok", False)
        assert {wake.queue for wake in wakes(changed.messages)} <= {"main"}
        assert (desk.status(), desk.head("ended")) == ("running", None)
        assert told(desk) == {"remaining": 2, "total": 4, "settled": 2, "completed": 2}
        assert desk.client.hgetall(desk.keys.failures("r")) == {}
        (claim,) = desk.claim(process=9)
        assert (claim.key, claim.attempt, claim.crashes, claim.values) == ("1", 1, 0, [b"value"])
        desk.settle(claim)
        desk.finish()
        assert desk.status() == "completed"
        assert (desk.entry("0"), desk.entry("2"), desk.value("2")) == before
        assert told(desk) == {"total": 4, "settled": 4, "completed": 4}

    def test_all_keys_live_again_until_the_next_end(self, desk: Desk) -> None:
        run_until(desk, FORK, "1")
        desk.client.hset(desk.keys.results("r"), "digest", b"large")
        desk.client.pexpire(desk.keys.results("r"), 1000)
        assert desk.client.pttl(desk.keys.plan(FORK.hash)) > 0
        desk.retry(of=FORK)
        assert set(desk.lives_ms()) == {-1}
        assert desk.client.pttl(desk.keys.plan(FORK.hash)) == -1
        assert desk.client.pttl(desk.keys.results("r")) == -1
        assert desk.client.smembers(desk.keys.open) == {b"r"}
        desk.cancel()
        assert all(life > 0 for life in desk.lives_ms())
        assert desk.client.pttl(desk.keys.plan(FORK.hash)) > 0
        assert 0 < desk.client.pttl(desk.keys.results("r")) <= 60_000
        assert desk.client.smembers(desk.keys.open) == set()

    def test_of_a_cancelled_run(self, desk: Desk) -> None:
        desk.submit(FORK)
        desk.settle(*desk.claim())
        running, _ = desk.claim(process=2)
        desk.cancel()
        desk.retry(of=FORK)
        assert desk.renew(running.lease) == [0], "its first life is over"
        assert desk.settle(running).stale == [0]
        desk.finish()
        assert (desk.status(), desk.value("0")) == ("completed", b"value")
        assert told(desk) == {"total": 4, "settled": 4, "completed": 4}

    def test_of_one_whose_deadline_passed(self, desk: Desk) -> None:
        desk.submit(FORK, deadline_ms=50_000)
        desk.fall_due()
        assert (desk.status(), desk.head("reason")) == ("failed", "deadline")
        desk.retry(of=FORK)
        assert (desk.head("reason"), desk.timers()) == (None, [])
        desk.finish()
        assert desk.status() == "completed"

    def test_there_is_nothing_to_retry(self, desk: Desk) -> None:
        run_until(desk, FORK)
        with pytest.raises(RunStatusError, match="no failed or cancelled node"):
            desk.retry(of=FORK)

    def test_bad_items_alone_run_again(self, desk: Desk) -> None:
        of = map_plan()
        desk.submit(of)
        (claim,) = desk.claim()
        desk.extend(claim, 0, 4, total=4)
        for item in desk.claim(process=4):
            desk.settle(Outcome("r", item.key, item.fence, "failed" if item.key in ("0.1", "0.3") else "completed"))
        desk.finish()
        assert told(desk) == {
            "bad_sinks": 1,
            "total": 7,
            "settled": 7,
            "completed": 3,
            "failed": 3,
            "upstream_failed": 1,
        }
        desk.retry(of=of)
        assert told(desk) == {"remaining": 3, "total": 7, "settled": 2, "completed": 2}
        again = desk.claim(process=9)
        assert [(item.key, item.item, item.attempt) for item in again] == [("0.1", b"item 1", 1), ("0.3", b"item 3", 1)]
        desk.settle(*again)
        desk.finish()
        assert desk.status() == "completed"
        assert told(desk) == {"total": 7, "settled": 7, "completed": 7}


class TestFromANode:
    def test_it_and_its_downstream_run_again(self, desk: Desk) -> None:
        run_until(desk, FORK)
        desk.retry("1", of=FORK)
        assert desk.client.hkeys(desk.keys.values("r")) == [b"0", b"2"], "what runs again has no value"
        desk.finish()
        assert desk.status() == "completed"
        starts = [event.split()[0] for event in desk.events() if " running " in event]
        assert starts == ["0", "1", "2", "3", "run", "1", "3"]

    def test_an_item_leaves_the_others(self, desk: Desk) -> None:
        of = map_plan()
        desk.submit(of)
        desk.extend(desk.claim()[0], 0, 3, total=3)
        desk.finish()
        desk.retry("0.1", of=of)
        assert [claim.key for claim in desk.claim(process=9)] == ["0.1"]
        desk.bury(desk.calls.holder, crashed=False)
        desk.finish()
        assert desk.status() == "completed"
        assert told(desk) == {"total": 6, "settled": 6, "completed": 6}

    def test_a_map_forgets_its_items(self, desk: Desk) -> None:
        of = map_plan()
        desk.submit(of)
        desk.extend(desk.claim()[0], 0, 3, total=3)
        desk.finish()
        desk.retry("0", of=of)
        assert desk.client.hkeys(desk.keys.values("r")) == []
        assert {*desk.client.hkeys(desk.keys.nodes("r"))} == {b"0", b"1", b"2"}
        (claim,) = desk.claim(process=9)
        assert (claim.key, claim.opened) == ("0", 0)
        desk.extend(claim, 0, 1, total=1)
        desk.finish()
        assert told(desk) == {"total": 4, "settled": 4, "completed": 4}

    def test_what_could_not_start_is_refused(self, desk: Desk) -> None:
        run_until(desk, FORK, "1")
        with pytest.raises(RunStatusError, match="'b' did not complete; retry from there"):
            desk.retry("3", of=FORK)
        assert desk.status() == "failed"

    def test_what_was_cancelled_beside_it_stays_so(self, desk: Desk) -> None:
        """Else it would go on by itself, and end the run before its time."""
        of = plan(node("a"), node("b"), node("c", 0), node("d"), node("e", 1))
        desk.submit(of)
        a, b, _ = desk.claim(process=3)
        desk.settle(a)
        desk.cancel()
        desk.retry("0", of=of)
        assert [desk.node(key) for key in "0124"] == [READY, CANCELLED, NodeStatus.PENDING, CANCELLED]
        assert told(desk) == {"remaining": 2, "bad_sinks": 2, "total": 5, "settled": 3, "cancelled": 3}
        assert desk.settle(b).stale == [0], "its attempt was cancelled with the first life"
        desk.bury(desk.calls.holder)
        assert [claim.key for claim in desk.claim(process=9)] == ["0"]
        desk.bury(desk.calls.holder, crashed=False)
        desk.finish()
        assert desk.status() == "failed", "what was cancelled leads to an end"
        assert told(desk) == {"bad_sinks": 2, "total": 5, "settled": 5, "completed": 2, "cancelled": 3}


class TestFirstLife:
    """What is left of it: entries of lists, timers, messages, attempts that still run."""

    def wide(self, desk: Desk) -> tuple[Plan, list[Any]]:
        of = plan(*(node(f"n{index}", retry=RetryPolicy(max_attempts=2)) for index in range(3 * BUDGET)))
        desk.submit(of)
        return of, desk.claim(process=100)

    def test_nothing_begins_before_all_is_in_place(self, desk: Desk) -> None:
        of, _ = self.wide(desk)
        desk.cancel()
        changed = desk.retry(of=of)
        assert changed.unfinished
        assert len(desk.ready()) > 2 * BUDGET, "entries of the first life"
        assert desk.claim(process=50) == []
        assert desk.advance()
        assert desk.claim(process=50) == []
        while desk.advance():
            pass
        desk.finish()
        assert desk.status() == "completed"
        assert told(desk) == {"total": 3 * BUDGET, "settled": 3 * BUDGET, "completed": 3 * BUDGET}

    def test_nothing_is_recorded_before_all_is_in_place(self, desk: Desk) -> None:
        of, claims = self.wide(desk)
        late = claims[-20:]
        desk.fail(claims[0], retry=True)
        desk.cancel()
        desk.retry(of=of)
        assert desk.settle(*late[:5]).stale == [0, 1, 2, 3, 4]
        assert desk.renew(*(claim.lease for claim in late[5:10])) == [0, 1, 2, 3, 4]
        assert desk.vouch(desk.calls.holder) != []
        desk.fall_due()
        desk.bury(desk.calls.holder)
        while desk.advance():
            pass
        desk.finish()
        assert told(desk) == {"total": 3 * BUDGET, "settled": 3 * BUDGET, "completed": 3 * BUDGET}

    def test_a_caller_that_dies_before_it_goes_on(self, desk: Desk) -> None:
        of, _ = self.wide(desk)
        desk.cancel()
        desk.retry(of=of)
        assert desk.timers() == ["r todo 0"]
        for _ in range(3 * 3 + 1):  # two edges' worth to put a node in place, one to have it ready
            desk.sweep()
        assert desk.timers() == []
        desk.finish()
        assert desk.status() == "completed"

    def test_it_is_cancelled_before_all_is_in_place(self, desk: Desk) -> None:
        of, _ = self.wide(desk)
        desk.cancel()
        desk.retry(of=of)
        assert desk.cancel() == "cancelled"
        assert all(life > 0 for life in desk.lives_ms())
        assert not desk.advance()
        desk.retry(of=of)
        while desk.advance():
            pass
        desk.finish()
        assert desk.status() == "completed"
        assert told(desk) == {"total": 3 * BUDGET, "settled": 3 * BUDGET, "completed": 3 * BUDGET}

    def test_items_of_a_map_that_was_reopened_in_part(self, desk: Desk) -> None:
        """Their records are gone, or not yet: a second retry leaves none of them."""
        of = map_plan()
        desk.submit(of)
        desk.extend(desk.claim()[0], 0, 2 * BUDGET, total=2 * BUDGET)
        desk.finish()
        desk.retry("0", of=of)
        assert desk.client.hlen(desk.keys.nodes("r")) > BUDGET
        desk.cancel()
        desk.retry(of=of)
        while desk.advance():
            pass
        assert desk.client.hlen(desk.keys.nodes("r")) == 3
        desk.extend(desk.claim()[0], 0, 3, total=3)
        desk.finish()
        assert desk.status() == "completed"

    def test_a_call_is_bounded(self, desk: Desk) -> None:
        of, _ = self.wide(desk)
        desk.cancel()
        with desk.counting() as counted:
            desk.retry(of=of)
        staging = counted["rpush"] + counted["pexpire"]
        assert sum(counted.values()) - staging < BUDGET * 10, counted
        with desk.counting() as counted:
            desk.advance()
        assert sum(counted.values()) < BUDGET * 10, counted


class TestRepeated:
    def test_it_may_be(self, desk: Desk) -> None:
        run_until(desk, FORK, "1")
        desk.retry(of=FORK)
        sent = desk.last
        (claim,) = desk.claim()
        assert desk.calls.again(sent)[::2] == ("ok", False)
        assert desk.settle(claim).stale == []
        desk.finish()
        assert desk.calls.again(sent).said == "ok", "it was, and the run has ended since"
        assert desk.status() == "completed"

    def test_before_all_is_in_place(self, desk: Desk) -> None:
        of = fan_out(2 * BUDGET)
        desk.submit(of)
        desk.cancel()
        desk.retry(of=of)
        again = desk.again()
        assert (again.said, again.unfinished) == ("ok", True)
        while desk.advance():
            pass
        desk.finish()
        assert desk.status() == "completed"

    def test_two_clients_open_it_once(self, desk: Desk) -> None:
        run_until(desk, FORK, "1")
        ended = desk.head("ended")
        given = {"run": "r", "ended": ended, "counters": {"remaining": 2, "bad_sinks": 0}}
        for name in ("one", "other"):
            desk.client.rpush(name, "put 1 ready|0|0|0||||", "put 3 pending|0|0|0||||1", "ready 1")
        assert desk.calls.send("retry", staged="one", **given)[1].said == "ok"
        assert desk.calls.send("retry", staged="other", **given)[1].said == "changed"
        desk.finish()
        assert desk.status() == "completed"
        assert desk.calls.send("retry", staged="other", **given)[1].said == "changed", "it has ended again since"
        desk.client.delete("other")

    def test_what_was_staged_is_gone(self, desk: Desk) -> None:
        run_until(desk, FORK, "1")
        given = {"run": "r", "ended": desk.head("ended"), "counters": {"remaining": 2}}
        assert desk.calls.send("retry", staged="gone", **given)[1].said == "changed"
        assert desk.status() == "failed"
        assert desk.calls.send("retry", **given | {"run": "nobody", "staged": "gone"})[1] is None

    def test_an_open_run_is_refused(self, desk: Desk) -> None:
        desk.submit(FORK)
        with pytest.raises(RunStatusError, match="only an ended run"):
            desk.retry(of=FORK)

    def test_what_is_staged_does_not_stay(self, desk: Desk) -> None:
        """A client may die before it calls."""
        run_until(desk, FORK, "1")
        desk.calls.client.rpush(desk.keys.staged("r", "x"), "ready 0")
        desk.client.unlink(desk.keys.staged("r", "x"))
        lives = []
        send = desk._send

        def look(name: str, /, **given: Any) -> Any:
            if name == "retry":
                lives.append(desk.client.pttl(given["staged"]))
            return send(name, **given)

        desk._send = look  # type: ignore[method-assign]
        desk.retry(of=FORK)
        assert lives[0] > 0


class TestCanvas:
    def test_it_goes_on_by_pull(self, desk: Desk) -> None:
        desk.submit_canvas(chain())
        desk.answer(desk.take("0"), "failed")
        assert desk.status() == "failed"
        desk.retry(of=chain())
        assert (desk.head("canvas"), desk.watched(), desk.ready()) == (None, {}, ["r 0"])
        desk.finish()
        assert desk.status() == "completed"

    def test_messages_of_its_first_life_do_no_harm(self, desk: Desk) -> None:
        desk.submit_canvas(chain(3))
        desk.answer(desk.take("0"), "failed")
        desk.retry(of=chain(3))
        assert desk.pick("1").claims == [], "it is not ready"
        claim = desk.take("0")
        wakes(desk.answer(claim).messages)
        assert desk.ready() == ["r 0", "r 1"], "an entry that leads nowhere, and what is ready now"
        desk.finish()
        assert desk.status() == "completed"

    def test_a_message_comes_before_all_is_in_place(self, desk: Desk) -> None:
        of = plan(*(node(f"n{index}") for index in range(2 * BUDGET)))
        desk.submit_canvas(of)
        desk.cancel()
        desk.retry(of=of)
        picked = desk.pick("7")
        assert (picked.claims, picked.status) == ([], "gone")

    def test_whoever_was_told_of_the_first_end_is_not_told_again(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), parked="answer")
        first = desk.answer(desk.take("0"), "failed").messages
        assert [message.document for message in deliveries(first)] == ["answer"]
        desk.retry(of=chain())
        desk.told()  # the answer was on its way
        (claim,) = desk.claim()
        desk.settle(claim)
        (claim,) = desk.claim()
        assert [message for message in desk.settle(claim).messages if message[0] == "r"] == []
        assert desk.watched() == {}
        assert desk.sweep().messages == []


class TestLetters:
    def test_what_is_retried_is_none_any_more(self, desk: Desk) -> None:
        of = plan(node("a", max_crashes=1), node("b", max_crashes=1))
        desk.submit(of)
        desk.claim(process=2)
        desk.bury(desk.calls.holder)
        assert desk.letters() == ["r 0", "r 1"]
        desk.retry("0", of=of)
        assert desk.letters() == ["r 1"]
        desk.finish(kind="failed")
        assert desk.letters() == ["r 1"], "a failure that was reported is no letter"
        assert desk.drop("r 1", "r 9") == 1
        assert desk.again() == 1, "the same reply again"
        assert desk.letters() == []
        assert desk.drop("r 1") == 0

    def test_they_outlive_a_short_retention_of_a_long_run(self, desk: Desk) -> None:
        desk.submit(plan(node("a", max_crashes=1), node("b")), retention_ms=10)
        desk.claim()
        desk.bury(desk.calls.holder)
        assert desk.status() == "running"
        assert desk.client.pttl(desk.keys.dead) > 86_400_000

    def test_so_many_are_kept(self, desk: Desk) -> None:
        desk.client.zadd(desk.keys.dead, {f"old {number}": number for number in range(10_000)})
        desk.submit(plan(node("a", max_crashes=1)))
        desk.claim()
        desk.bury(desk.calls.holder)
        assert desk.client.zcard(desk.keys.dead) == 10_000
        assert desk.client.zrange(desk.keys.dead, 0, 0) == [b"old 1"]
