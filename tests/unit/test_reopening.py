"""What a retry makes anew of an ended run, and how it is written down."""

from __future__ import annotations

from flowq.client.retrying import counters_of, entries_of, load
from flowq.core.types import FlowStatus, NodeStatus
from flowq.plan import Plan
from flowq.plan.model import Edge, Node
from flowq.runtime import machine
from flowq.runtime.events import Cancel, Claim, Complete, Extend, Fail, Ref, Skip
from flowq.runtime.machine import RunState
from flowq.runtime.reopening import blockers, reopen
from flowq.runtime.state import Record

COMPLETED, FAILED, CANCELLED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.CANCELLED
READY, PENDING, RUNNING, SKIPPED = NodeStatus.READY, NodeStatus.PENDING, NodeStatus.RUNNING, NodeStatus.SKIPPED


def node(path: str, *upstreams: int, optional: tuple[int, ...] = (), is_map: bool = False) -> Node:
    edges = sorted([*((up, True) for up in upstreams), *((up, False) for up in optional)])
    named = tuple(Edge(up, required, f"u{up}") for up, required in edges)
    return Node(path, "m:f", edges=named, over=("input", "items") if is_map else None)


def plan(*nodes: Node) -> Plan:
    return Plan(nodes, output=len(nodes) - 1)


FORK = plan(node("a"), node("b", 0), node("c", 0), node("d", 1, 2))
MAP = plan(node("map", is_map=True), node("all", 0), node("beside"))


def ended(of: Plan, *, failing: tuple[str, ...] = (), skipping: tuple[str, ...] = (), items: int = 3) -> RunState:
    """Run a plan to its end."""
    state, _ = machine.start(of)
    while ready := [ref for ref, one in state.nodes.items() if one.status is READY]:
        ref = ready[0]
        machine.apply(state, Claim(ref))
        fence = state.nodes[ref].fence
        if of.nodes[ref.node].is_map and ref.item < 0:
            machine.apply(state, Extend(ref, fence, 0, items, items))
        elif ref.key in skipping:
            machine.apply(state, Skip(ref, fence))
        elif ref.key in failing:
            machine.apply(state, Fail(ref, fence, retry=False))
        else:
            machine.apply(state, Complete(ref, fence))
    assert state.status.is_final
    return state


def statuses(state: RunState) -> dict[str, NodeStatus]:
    return {ref.key: one.status for ref, one in sorted(state.nodes.items())}


class TestReopen:
    def test_what_failed_and_all_that_follows(self) -> None:
        state = ended(FORK, failing=("1",))
        opened = reopen(state)
        assert opened == ([Ref(1), Ref(3)], [], [Ref(1)])
        assert statuses(state) == {"0": COMPLETED, "1": READY, "2": COMPLETED, "3": PENDING}
        assert (state.status, state.remaining, state.bad_sinks) == (FlowStatus.RUNNING, 2, 0)
        assert state.nodes[Ref(3)].waiting == 1

    def test_a_node_and_what_follows_it_however_it_ended(self) -> None:
        opened = reopen(ended(FORK), [Ref(0)])
        assert opened.anew == [Ref(0), Ref(1), Ref(2), Ref(3)]
        assert opened.ready == [Ref(0)]

    def test_what_waits_optionally_runs_again_too(self) -> None:
        of = plan(node("a"), node("b", optional=(0,)), node("c"))
        assert reopen(ended(of, failing=("0",))).anew == [Ref(0), Ref(1)]

    def test_nothing_to_do(self) -> None:
        state = ended(FORK)
        assert reopen(state) == ([], [], [])
        assert state.status is FlowStatus.COMPLETED

    def test_bad_items_and_their_map(self) -> None:
        state = ended(MAP, failing=("0.1",))
        opened = reopen(state)
        assert opened == ([Ref(0), Ref(0, 1), Ref(1)], [], [Ref(0, 1)])
        kept = state.nodes[Ref(0)]
        assert (kept.status, kept.settled, kept.total, kept.broken, kept.fence) == (RUNNING, 2, 3, None, 0)

    def test_one_of_several_bad_items(self) -> None:
        state = ended(MAP, failing=("0.0", "0.2"))
        reopen(state, [Ref(0, 2)])
        assert (state.nodes[Ref(0)].settled, state.nodes[Ref(0)].broken) == (2, FAILED)
        assert state.nodes[Ref(0, 0)].status is FAILED

    def test_an_item_whose_map_runs_again_goes_with_it(self) -> None:
        state = ended(MAP)
        opened = reopen(state, [Ref(0), Ref(0, 1)])
        assert opened == ([Ref(0), Ref(1)], [Ref(0, 0), Ref(0, 1), Ref(0, 2)], [Ref(0)])
        assert Ref(0, 1) not in state.nodes

    def test_a_map_that_was_not_open_begins_anew(self) -> None:
        state, _ = machine.start(MAP)
        machine.apply(state, Claim(Ref(0)))
        machine.apply(state, Extend(Ref(0), 1, 0, 2, 3))
        machine.apply(state, Cancel())
        opened = reopen(state, [Ref(0, 1)])
        assert opened.anew == [Ref(0), Ref(1)]
        assert opened.dropped == [Ref(0, 0), Ref(0, 1)]

    def test_what_was_skipped_is_asked_again_where_it_is_in_the_way(self) -> None:
        of = plan(node("a"), node("b"), node("c", 0, 1))
        assert reopen(ended(of, failing=("1",), skipping=("0",))).anew == [Ref(0), Ref(1), Ref(2)]
        beside = plan(node("a"), node("b"), node("c", 1))
        assert reopen(ended(beside, failing=("1",), skipping=("0",))).anew == [Ref(1), Ref(2)]

    def test_a_kept_sink_that_failed_still_fails_the_run(self) -> None:
        of = plan(node("a"), node("b"))
        state = ended(of, failing=("0", "1"))
        reopen(state, [Ref(0)])
        assert (state.remaining, state.bad_sinks) == (1, 1)


class TestBlockers:
    def test_a_required_upstream_that_did_not_complete(self) -> None:
        assert blockers(ended(FORK, failing=("1",)), [Ref(3)]) == [Ref(1)]
        assert blockers(ended(FORK, failing=("1",)), [Ref(1)]) == []
        assert blockers(ended(FORK, failing=("1",)), [Ref(2)]) == [Ref(1)], "of what follows it"

    def test_not_an_optional_one(self) -> None:
        of = plan(node("a"), node("b", optional=(0,)))
        assert blockers(ended(of, failing=("0",)), [Ref(1)]) == []


def records_of(state: RunState) -> dict[Ref, Record]:
    """Write a run down as the scripts do: what its end cancelled is left as it stood."""
    found = {}
    for ref, one in state.nodes.items():
        more = f"{one.total},{one.opened},{one.settled},{one.broken or ''}" if one.total >= 0 else one.reason or ""
        if one.status is not CANCELLED:
            found[ref] = Record(one.status, one.attempt, one.crashes, 0, None, None, "w", more)
        elif one.attempt:
            found[ref] = Record(RUNNING, one.attempt, one.crashes, 7, None, None, "w", more if one.total >= 0 else "")
    return found


def cut_short() -> RunState:
    """A map whose items are all open, one of them at its end; a node that has not begun."""
    state, _ = machine.start(MAP)
    machine.apply(state, Claim(Ref(0)))
    machine.apply(state, Extend(Ref(0), 1, 0, 3, 3))
    machine.apply(state, Claim(Ref(0, 0)))
    machine.apply(state, Complete(Ref(0, 0), state.nodes[Ref(0, 0)].fence))
    machine.apply(state, Cancel())
    return state


class TestRecords:
    def test_a_run_is_read_as_it_ended(self) -> None:
        for state in (ended(FORK, failing=("1",)), ended(MAP, failing=("0.1",)), cut_short()):
            found = load(state.plan, state.status, records_of(state))
            assert statuses(found) == statuses(state)

    def test_what_is_put_comes_first_and_what_is_ready_last(self) -> None:
        before = ended(MAP)
        records = records_of(before)
        state = load(MAP, before.status, records)
        entries = entries_of(state, records, reopen(state, [Ref(0)]))
        assert entries == [
            "put 0 ready|0|0|0||||",
            "put 1 pending|0|0|0||||1",
            *("drop 0.0", "drop 0.1", "drop 0.2"),
            "ready 0",
        ]

    def test_a_map_that_is_kept_open(self) -> None:
        before = ended(MAP, failing=("0.1",))
        records = records_of(before)
        state = load(MAP, before.status, records)
        entries = entries_of(state, records, reopen(state))
        assert entries[:2] == ["put 0 running|1|0|0|||w|3,3,2,", "put 0.1 ready|0|0|0||||"]

    def test_what_the_end_cancelled_and_nobody_retries_is_written_down(self) -> None:
        before = cut_short()
        records = records_of(before)
        state = load(MAP, before.status, records)
        entries = entries_of(state, records, reopen(state, [Ref(2)]))
        heads = [entry.split("|")[0] for entry in entries]
        assert heads == ["put 0 cancelled", "put 1 cancelled", "put 2 ready", "ready 2"]
        assert entries[0].endswith("|3,3,1,cancelled")

    def test_items_that_an_earlier_retry_has_left_behind_are_dropped(self) -> None:
        before = ended(MAP)
        records = records_of(before) | {Ref(0): Record(READY)}  # its items are still there
        state = load(MAP, FlowStatus.CANCELLED, records)
        entries = entries_of(state, records, reopen(state))
        assert [entry for entry in entries if entry.startswith("drop")] == ["drop 0.0", "drop 0.1", "drop 0.2"]


class TestCounters:
    def counted(self, state: RunState, *roots: Ref) -> dict[str, int]:
        reopen(state, roots)
        return {name: count for name, count in counters_of(state).items() if count}

    def test_nodes(self) -> None:
        counted = self.counted(ended(FORK, failing=("1",)))
        assert counted == {"remaining": 2, "total": 4, "settled": 2, "completed": 2}

    def test_items(self) -> None:
        counted = self.counted(ended(MAP, failing=("0.1",)))
        assert counted == {"remaining": 2, "total": 6, "settled": 3, "completed": 3}

    def test_items_of_a_map_that_begins_anew_are_not_known_yet(self) -> None:
        counted = self.counted(ended(MAP), Ref(0))
        assert counted == {"remaining": 2, "total": 3, "settled": 1, "completed": 1}

    def test_items_that_were_taken_along_count_nowhere(self) -> None:
        counted = self.counted(cut_short(), Ref(2))
        assert counted == {"remaining": 1, "bad_sinks": 1, "total": 4, "settled": 3, "completed": 1, "cancelled": 2}
