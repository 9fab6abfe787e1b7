"""Shapes that are known to hang or misbehave as bare canvases, by the numbers of Celery's public issues.

What each must come to is what a flow means: a failure settles all that requires it, at once and with a status of its
own, the rest goes on, and every task of a canvas that succeeds has run in one attempt.
"""

from __future__ import annotations

import pytest
from celery import chain, chord, group
from celery.exceptions import CPendingDeprecationWarning

from flowq import FailureKind, Flow, FlowStatus, GraphError
from flowq.core.result import FlowResult
from tests.conformance.canvas.celery_tasks import (
    add,
    fails,
    identity,
    ignores,
    noop,
    rejects,
    sleeps,
    succeeds_after,
    xsum,
)


def statuses(result: FlowResult) -> dict[str, str]:
    return {name: str(node.status) for name, node in result.nodes.items()}


def attempts(result: FlowResult) -> set[int]:
    return {node.attempt for node in result.nodes.values()}


def test_6437_an_exception_in_a_group_of_chains(run_flow):
    """`get()` never returns when a task of a chain within a group fails before the chain's last one."""
    canvas = group(chain(add.s(1, 1), fails.s(), identity.s()), chain(add.s(2, 2), add.s(1)))
    result = run_flow(canvas)
    assert result.status is FlowStatus.FAILED
    assert result.error == "fails: ValueError: this task fails"
    assert statuses(result) == {
        "add": "completed",
        "fails": "failed",
        "identity": "upstream_failed",
        "add_2": "completed",
        "add_3": "completed",
        "group": "upstream_failed",
    }


def test_6734_a_group_of_chords_whose_bodies_are_chains(run_flow):
    """The group's result never becomes ready, though every task has run."""
    part = chord([identity.s(1), identity.s(2)], chain(xsum.s(), add.s(10)))
    result = run_flow(group(part, part))
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [13, 13])
    assert attempts(result) == {1}


@pytest.mark.parametrize(
    ("canvas", "after"),
    [
        (chain(add.s(1, 1), chord([add.s(1), fails.s()], xsum.s()), add.s(1)), {"xsum", "add_3"}),
        (chain(group(add.si(1, 1), fails.si()), noop.si(), noop.si()), {"noop", "noop_2"}),
        (chord([add.s(1, 1), fails.s()], chain(xsum.s(), add.s(1))), {"xsum", "add_2"}),
    ],
    ids=["chord in a chain", "group in a chain", "chain as body"],
)
def test_6792_errors_in_a_chord_in_a_chain(run_flow, canvas, after):
    """The chord's own error handling fails (`task_id must not be empty`), and what follows is pending for ever."""
    result = run_flow(canvas)
    assert result.status is FlowStatus.FAILED
    assert result.error == "fails: ValueError: this task fails"
    found = statuses(result)
    assert {name for name, status in found.items() if status == "upstream_failed"} == after
    assert {found[name] for name in found.keys() - after} == {"completed", "failed"}


def test_8211_a_failed_header_and_an_error_handler(run_flow):
    """The handler is called, and yet a ChordError is raised: here the one failure is that of the task."""
    result = run_flow(chord((add.s(1), fails.s(2)), xsum.s()))
    assert result.status is FlowStatus.FAILED
    assert list(result.failures) == ["fails"]
    assert statuses(result) == {"add": "completed", "fails": "failed", "xsum": "upstream_failed"}


def test_8211_the_handler_itself_is_refused_by_name():
    canvas = chord((add.s(1), fails.s(2)), xsum.s())
    with pytest.warns(CPendingDeprecationWarning):
        canvas.on_error(noop.si())
    with pytest.raises(GraphError, match="'link_error': a flow cannot express this option; remove it") as raised:
        Flow.from_canvas(canvas)
    assert raised.value.node.endswith(".xsum")


def test_3571_nested_chords_grow_exponentially(run_flow):
    """Every header task carries the whole rest of the canvas: with each level twice as much is sent."""
    depth = 12
    canvas = noop.si()
    for _ in range(depth):
        canvas = chord([noop.si(), noop.si()], canvas)
    result = run_flow(canvas)
    assert result.status is FlowStatus.COMPLETED
    assert attempts(result) == {1}
    assert sum(name.startswith("noop") for name in result.nodes) == 2 * depth + 1
    assert len(result.nodes) <= 3 * depth


def test_5286_all_primitives_in_one_workflow(run_flow):
    """Nearest shape (the thread could not be consulted; celery-dyrygent names it as a reason not to use canvas)."""
    canvas = chain(
        identity.s(1),
        group(chain(add.s(1), add.s(1)), chord([add.s(2), chain(add.s(3), add.s(4))], xsum.s())),
        chord([xsum.s(), chain(xsum.s(), group(add.s(1), add.s(2)))], identity.s()),
        group(identity.s(), identity.s()),
        identity.s(),
    )
    joined = [3 + 11, [15, 16]]  # 1 → [3, 3 + 8] → 14 → [14, [15, 16]]
    result = run_flow(canvas)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [joined, joined])
    assert attempts(result) == {1}


def test_1881_a_header_that_fails_in_part(run_flow):
    """Nearest shape (the thread could not be consulted; it is cited for chords that fail in part)."""
    canvas = chord([add.s(1, 1), fails.s(), add.s(2, 2), rejects.s()], xsum.s()) | add.s(1)
    result = run_flow(canvas)
    assert result.status is FlowStatus.FAILED
    assert sorted(result.failures) == ["fails", "rejects"]
    assert statuses(result) == {
        "add": "completed",
        "fails": "failed",
        "add_2": "completed",
        "rejects": "failed",
        "xsum": "upstream_failed",
        "add_3": "upstream_failed",
    }


def test_6200_a_chain_in_a_header_that_fails_before_its_last_task(run_flow):
    """Nearest shape of its time (the thread could not be consulted): nobody tells the chord of the failure."""
    canvas = chord([chain(noop.si(), fails.si(), noop.si()), chain(noop.si(), noop.si())], noop.si())
    result = run_flow(canvas)
    assert result.status is FlowStatus.FAILED
    assert statuses(result) == {
        "fails": "failed",
        "noop": "completed",
        "noop_2": "upstream_failed",
        "noop_3": "completed",
        "noop_4": "completed",
        "noop_5": "upstream_failed",
    }


def test_6176_groups_within_chains_within_a_header(run_flow):
    """Nearest shape of its time (the thread could not be consulted): the chord counts its header's tasks wrongly."""
    canvas = chord(
        [
            add.s(1, 0),
            group(add.s(2, 0), add.s(3, 0)),
            chain(add.s(4, 0), group(add.s(0), succeeds_after.s(2))),
            chord([add.s(5, 0), add.s(6, 0)], group(xsum.s(), xsum.s())),
        ],
        identity.s(),
    )
    result = run_flow(canvas)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [1, 2, 3, [4, 4], [11, 11]])
    assert result.nodes["succeeds_after"].attempt == 3


@pytest.mark.parametrize(
    ("canvas", "output"),
    [
        (group(), []),
        (chain(), None),
        (chord([], identity.s()), []),
        (chain(add.s(1, 1), chord([], identity.s()), identity.s()), []),
    ],
    ids=["group", "chain", "header", "header in a chain"],
)
def test_what_is_empty_ends_all_the_same(run_flow, canvas, output):
    result = run_flow(canvas)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, output)


def test_a_header_task_that_there_is_nothing_to_do_for(run_flow):
    """A chord waits for ever for a task that raises Ignore: it sends no result."""
    result = run_flow(chord([add.s(1), ignores.s()], xsum.s()) | add.s(1))
    assert (result.status, result.output) == (FlowStatus.COMPLETED, None)
    assert statuses(result) == {"add": "completed", "ignores": "skipped", "xsum": "skipped", "add_2": "skipped"}


def test_a_canvas_is_completed_by_what_it_is_run_with(run_flow):
    result = run_flow(group(add.s(y=2), chain(add.s(), add.s(10))), args=[4], kwargs={"y": 3})
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [7, 17])


def test_a_task_s_time_limit_is_enforced_and_not_retried(run_flow):
    result = run_flow(chain(sleeps.s(50), noop.s()))
    assert statuses(result) == {"sleeps": "failed", "noop": "upstream_failed"}
    assert result.failures["sleeps"].kind is FailureKind.TIMEOUT
    assert result.nodes["sleeps"].attempt == 1


def test_a_map_is_one_task(run_flow):
    result = run_flow(chain(add.chunks([(1, 2), (3, 4), (5, 6)], 2), identity.s()))
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [[3, 7], [11]])
    assert list(result.nodes) == ["add_starmap", "add_starmap_2", "identity"]
