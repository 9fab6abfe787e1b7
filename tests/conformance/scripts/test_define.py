"""define and submit: plans are stored in pieces, runs start whole; deadlines, idempotence and room."""

from __future__ import annotations

from typing import Any

from flowq.core.config import RetryPolicy
from flowq.plan import Plan, lower
from flowq.runtime.rows import rows_of
from tests.conformance.scripts.desk import Desk, chain, fan_in, node, plan
from tests.property.calls import LONG_S

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


def given(of: Plan, **options: Any) -> dict[str, Any]:
    named = {"runs": ["r"], "plan": of.hash, "name": "flow", "process_id": "id", "queue": "main", "queues": ["main"]}
    return named | {"total": len(of), "retention_ms": 60_000, "values": [b"input"]} | options


def submit(desk: Desk, of: Plan, **options: Any) -> Any:
    return desk._send("submit", **given(of, **options))


class TestPieces:
    def test_a_run_starts_when_the_last_is_there(self, desk: Desk) -> None:
        of = fan_in(20)
        for piece in rows_of(of).pieces(4):
            assert submit(desk, of).said == ["plan_unknown"]
            assert desk.status() is None, "nothing is half-stored"
            assert desk.client.smembers(desk.keys.open) == set()
            desk.define(of.hash, *piece)
        assert submit(desk, of).said == ["ok"]

    def test_pieces_may_be_repeated_and_defined_by_several(self, desk: Desk) -> None:
        of = fan_in(20)
        pieces = list(rows_of(of).pieces(5))
        for piece in pieces:
            desk.define(of.hash, *piece)
            desk.again()
            desk.define(of.hash, *pieces[0])
        assert submit(desk, of).said == ["ok"]
        desk.define(of.hash, *pieces[-1])
        assert desk.client.pttl(desk.keys.plan(of.hash)) == -1, "a run uses it"

    def test_a_plan_that_nobody_runs_goes(self, desk: Desk) -> None:
        of = chain()
        for piece in rows_of(of).pieces(2):
            desk.define(of.hash, *piece)
            assert HOUR_MS - 60_000 < desk.client.pttl(desk.keys.plan(of.hash)) <= HOUR_MS

    def test_but_not_before_the_last_run_of_it_does(self, desk: Desk) -> None:
        of = chain()
        desk.submit(of, retention_ms=DAY_MS)
        desk.cancel()
        desk.define(of.hash, "x", "y")
        assert desk.client.pttl(desk.keys.plan(of.hash)) > DAY_MS - HOUR_MS

    def test_a_canvas_of_it_in_pieces(self, desk: Desk) -> None:
        of = chain()
        canvas = lower(of).digest
        for piece in rows_of(of).pieces(100):
            desk.define(of.hash, *piece)
        fields = [text for name, text in lower(of).fields.items() for text in (f"c{canvas}:{name}", text)]
        assert submit(desk, of, canvas=canvas).said == ["plan_unknown"]
        desk.define(of.hash, *fields)
        assert submit(desk, of, canvas=canvas).said == ["plan_unknown"]
        desk.define(of.hash, f"c{canvas}", "1")
        assert submit(desk, of, canvas=canvas).said == ["ok"]

    def test_many_fields_at_once(self, desk: Desk) -> None:
        fields = [text for number in range(5000) for text in (f"f{number}", "x")]
        desk.define("p", *fields)
        assert desk.client.hlen(desk.keys.plan("p")) == 5000


class TestSources:
    def test_a_run_that_begins_with_many_starts_in_several_calls(self, desk: Desk) -> None:
        of = plan(*(node(f"n{index}") for index in range(12_000)))
        for piece in rows_of(of).pieces(1000):
            desk.define(of.hash, *piece)
        with desk.counting() as counted:
            assert submit(desk, of).unfinished
        assert sum(counted.values()) < 100, counted
        assert len(desk.ready()) == 2500
        assert desk.timers() == ["r todo 0"], "the caller may die now"
        again = desk.again()
        assert (again.said, again.unfinished) == (["ok"], ["r"])
        assert len(desk.ready()) == 2500, "once"
        assert desk.advance()
        desk.sweep()
        assert len(desk.ready()) == 7500
        while desk.advance():
            pass
        assert len(desk.ready()) == 12_000
        assert (desk.advance(), desk.timers()) == (False, [])

    def test_it_is_cancelled_or_paused_before_all_are_ready(self, desk: Desk) -> None:
        of = plan(*(node(f"n{index}") for index in range(6000)))
        for run in ("cancelled", "paused"):
            for piece in rows_of(of).pieces(1000):
                desk.define(of.hash, *piece)
            submit(desk, of, runs=[run])
        desk.cancel("cancelled")
        desk.pause("paused")
        assert not desk.advance("cancelled")
        while desk.advance("paused"):
            pass
        assert desk.aside("cancelled") == []
        assert len(desk.aside("paused")) == 3500

    def test_by_queue_and_lane(self, desk: Desk) -> None:
        from flowq.core.types import FlowType

        of = plan(node("a"), node("b", queue="side"), node("c", placement=FlowType.THREAD))
        desk.submit(of)
        assert (desk.ready(), desk.ready("side"), desk.ready("main", "thread")) == (["r 0"], ["r 1"], ["r 2"])


class TestDeadline:
    def test_a_run_that_is_late_fails(self, desk: Desk) -> None:
        desk.submit(chain(), deadline_ms=50_000)
        (claim,) = desk.claim()
        assert desk.timers() == ["r deadline 0"]
        assert 0 < desk.sweep().next_due_ms <= 50_000
        desk.fall_due()
        assert (desk.status(), desk.head("reason"), desk.head("deadline")) == ("failed", "deadline", None)
        assert desk.renew(claim.lease) == [0]
        assert desk.settle(claim).stale == [0]
        assert all(life > 0 for life in desk.lives_ms())
        assert desk.events()[-1] == "run failed 0 "
        desk.again()
        desk.sweep()
        assert desk.timers() == []

    def test_one_that_is_not_leaves_no_timer(self, desk: Desk) -> None:
        desk.submit(plan(node("a")), deadline_ms=50_000)
        desk.finish()
        assert (desk.status(), desk.timers(), desk.head("deadline")) == ("completed", [], None)

    def test_it_costs_the_same_for_any_flow(self, desk: Desk) -> None:
        costs = []
        for width in (10, 5000):
            desk.submit(plan(*(node(f"n{index}") for index in range(width))), deadline_ms=50_000)
            desk.make_due(desk.keys.timers, *desk.timers())
            with desk.counting() as counted:
                desk.sweep()
            costs.append(sum(counted.values()) - counted.get("zrange", 0))
            assert desk.status() == "failed"
            desk.forget()
        assert abs(costs[0] - costs[1]) < 10, costs

    def test_of_a_canvas_that_is_held(self, desk: Desk) -> None:
        """Its plan is told of its end, and so of its beginning: else another run of it would lose its plan."""
        desk.submit_canvas(chain(), "other", retention_ms=60_000)
        desk.submit_canvas(chain(), "r", known=True, held=True, deadline_ms=50_000)
        desk.fall_due()
        assert desk.status("r") == "failed"
        assert desk.client.hget(desk.keys.plan(chain().hash), "runs") == b"1"
        assert desk.client.pttl(desk.keys.plan(chain().hash)) == -1
        assert desk.client.smembers(desk.keys.open) == {b"other"}
        assert desk.pick("0", "r").claims == []


class TestIdempotence:
    def test_the_same_is_the_same_run(self, desk: Desk) -> None:
        of = chain()
        desk.submit(of, asked=["one"])
        before = desk.client.hgetall(desk.keys.run("r"))
        assert submit(desk, of, asked=["one"]).said == ["ok"]
        assert desk.ready() == ["r 0"]
        desk.finish()
        assert submit(desk, of, asked=["one"]).said == ["ok"], "also when it has ended"
        assert desk.head("submitted") == before[b"submitted"].decode()

    def test_another_input_is_told(self, desk: Desk) -> None:
        desk.submit(chain(), asked=["one"])
        found = submit(desk, chain(), asked=["other"])
        assert (found.said, found.messages) == (["other"], [])
        assert desk.head("asked") == "one"

    def test_it_needs_no_plan_and_no_room(self, desk: Desk) -> None:
        desk.submit(chain(), asked=["one"])
        desk.client.delete(desk.keys.plan(chain().hash))
        assert submit(desk, chain(), asked=["one"], most_open=1).said == ["ok"]


class TestRoom:
    def test_so_many_may_be_open(self, desk: Desk) -> None:
        of = plan(node("a"))
        desk.submit(of, "one", most_open=2)
        assert submit(desk, of, runs=["two"], most_open=2).said == ["ok"]
        found = submit(desk, of, runs=["three"], most_open=2)
        assert (found.said, found.messages, desk.status("three")) == (["full"], [], None)
        assert desk.client.hget(desk.keys.plan(of.hash), "runs") == b"2"
        assert desk.again().said == ["full"]
        desk.settle(*desk.claim())
        assert submit(desk, of, runs=["three"], most_open=2).said == ["ok"]

    def test_held_canvases_do_not_count_until_they_start(self, desk: Desk) -> None:
        desk.submit_canvas(chain(), held=True)
        assert desk.client.scard(desk.keys.open) == 0
        desk.pick("0")
        assert desk.client.smembers(desk.keys.open) == {b"r"}
        desk.cancel()
        assert desk.client.scard(desk.keys.open) == 0

    def test_an_empty_run_is_never_open(self, desk: Desk) -> None:
        desk.submit(plan())
        assert (desk.status(), desk.client.scard(desk.keys.open)) == ("completed", 0)


def test_the_epoch_is_made_once(desk: Desk) -> None:
    desk.submit(chain())
    epoch = desk.submitted.epoch
    assert epoch
    assert submit(desk, chain(), runs=["s"]).epoch == epoch
    desk.register(slots=1)
    assert desk.client.get(desk.keys.epoch).decode() == epoch
    desk.client.delete(desk.keys.epoch)
    assert submit(desk, chain(), runs=["t"]).epoch != epoch
    assert 0 < desk.client.pttl(desk.keys.epoch) <= 30 * DAY_MS


def test_a_retry_wait_is_not_taken_for_a_deadline(desk: Desk) -> None:
    desk.submit(plan(node("a", retry=RetryPolicy(max_attempts=2))), deadline_ms=int(LONG_S * 1000))
    desk.fail(*desk.claim(), retry=True)
    assert sorted(desk.timers()) == ["r 0 1", "r deadline 0"]
    desk.make_due(desk.keys.timers, "r 0 1")
    desk.sweep()
    assert (desk.ready(), desk.timers()) == (["r 0"], ["r deadline 0"])
