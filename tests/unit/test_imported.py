"""A Celery canvas as a flow: what is read, which steps it makes, and how each of them calls its task."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery, chain, chord, group
from celery.exceptions import Ignore, MaxRetriesExceededError, Reject
from kombu.entity import Queue

from flowq import DefinitionError, Flow, FlowStatus, GraphError, InputError, Skip, UnknownProcessorError, flow, task
from flowq.core.attempt import CURRENT, AttemptInfo
from flowq.core.types import DependencyType
from flowq.runtime.imported import UNLIMITED, CeleryTask, TaskRetry

app = Celery("imported", backend="cache+memory://", set_as_current=False)


@app.task(shared=False, name="proj.tasks.add")
def add(x, y=0):
    return x + y


@app.task(shared=False, name="proj.tasks.mul")
def mul(x, y):
    return x * y


@app.task(shared=False, name="proj.tasks.xsum")
def xsum(numbers):
    return sum(numbers)


@app.task(shared=False, name="proj.tasks.echo")
def echo(*args, **kwargs):
    return [list(args), kwargs]


@app.task(shared=False, name="proj.tasks.raises", bind=True)
def raises(self, kind, **options):
    """Raise what is asked for."""
    match kind:
        case "retry":
            raise self.retry(**options)
        case "retry with eta":
            raise self.retry(eta=datetime.now(UTC) + timedelta(hours=1))
        case "ignore":
            raise Ignore("no need")
        case "reject":
            raise Reject("no")
        case _:
            raise LookupError(kind)


def steps(canvas: Any, **given: Any) -> dict[str, set[str]]:
    """Give the flow's steps, each with the steps that it waits for."""
    found = Flow.from_canvas(canvas).graph().steps
    assert {dep.type for step in found.values() for dep in step.deps.values()} <= {DependencyType.REQUIRED}
    return {path: set(step.deps) for path, step in found.items()}


def written(kind: str, *tasks: Any, **options: Any) -> dict[str, Any]:
    """Write a chain or group as Celery keeps it; calling ``chain`` would rewrite what is in it."""
    return {"task": f"celery.{kind}", "subtask_type": kind, "kwargs": {"tasks": list(tasks)}, "options": options}


def problems(canvas: Any) -> dict[tuple[str, str], str]:
    with pytest.raises(GraphError) as raised:
        Flow.from_canvas(canvas)
    return {(problem.node, problem.field): str(problem) for problem in raised.value.problems}


# ── steps ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_node_is_named_after_its_task_and_numbered():
    assert steps(add.s(1) | mul.s(2) | add.s(3)) == {"add": set(), "mul": {"add"}, "add_2": {"mul"}}


def test_a_chord_waits_for_its_header():
    canvas = chord([add.s(1), chain(add.s(2), add.s(3))], xsum.s()) | add.s(4)
    assert steps(canvas) == {
        "add": set(),
        "add_2": set(),
        "add_3": {"add_2"},
        "xsum": {"add", "add_3"},
        "add_4": {"xsum"},
    }


def test_an_immutable_signature_waits_and_takes_nothing():
    found = Flow.from_canvas(add.s(1) | add.si(2)).graph().steps["add_2"]
    assert found.deps["add"].has_value is False
    assert found.args["input_data"] == ("const", {"args": [2], "kwargs": {}})


def test_the_same_signature_twice_is_two_nodes():
    one = add.s(1)
    assert steps(chain(one, one, group(one, one))) == {
        "add": set(),
        "add_2": {"add"},
        "add_3": {"add_2"},
        "add_4": {"add_2"},
        "chain": {"add_3", "add_4"},
    }


def test_a_group_after_a_group_costs_no_edge_from_each_to_each():
    found = steps(chain(group(add.s(i) for i in range(200)), group(xsum.s() for _ in range(200))))
    assert sum(map(len, found.values())) == 200 + 200 + 200
    assert len(found["gathered"]) == 200


def test_a_link_hangs_on_what_it_is_linked_to():
    linked = add.s(1)
    linked.link(echo.s("from add") | mul.s(2))
    canvas = linked | add.s(2)
    canvas.link(echo.si("done"))
    assert steps(canvas) == {
        "add": set(),
        "echo": {"add"},
        "mul": {"echo"},
        "add_2": {"add"},
        "echo_2": {"add_2"},
    }
    assert Flow.from_canvas(canvas).graph().output == "add_2"


def test_what_is_empty_in_a_chain_is_no_step():
    canvas = written("chain", written("group"), add.s(1), written("chain"), written("group"), add.s(2))
    assert steps(canvas) == {"add": set(), "add_2": {"add"}}


def test_a_group_of_one_in_a_chain_is_its_only_member():
    canvas = written("chain", add.s(1), written("group", written("group", mul.s(2))))
    assert steps(canvas) == {"add": set(), "mul": {"add"}}
    assert steps(chord([add.s(1)], xsum.s())) == {"add": set(), "xsum": {"add"}}


def test_odd_task_names_make_node_names():
    names = ["a/b", "proj.x[1]", "dot."]
    assert set(steps(written("group", *({"task": name} for name in names)))) == {"a_b", "x_1_", "dot.", "group"}


def test_maps_are_named_after_what_they_call():
    assert steps(add.map([1, 2])) == {"add_map": set()}
    assert steps(add.chunks([(1, 2), (3, 4)], 1)) == {
        "add_starmap": set(),
        "add_starmap_2": set(),
        "chunks": {"add_starmap", "add_starmap_2"},
    }


# ── values ────────────────────────────────────────────────────────────────────────────────────────────────────────────

CANVASES = {
    "task": add.s(1, y=2),
    "chain": add.s(1) | mul.s(3) | mul.s(4),
    "immutable": add.s(1) | add.si(5, 6),
    "kwargs": add.s(1) | add.s(y=10),
    "chord": chord([add.s(1), add.s(2)], xsum.s()),
    "chord and more": chord([add.s(1), add.s(2)], xsum.s()) | add.s(1) | echo.s(),
    "group": group(add.s(1), add.s(2), chain(add.s(3), add.s(4))),
    "groups in a group": group(add.s(1), group(add.s(2), group(add.s(3), add.s(4)))),
    "group to task": group(add.s(1), add.s(2)) | xsum.s(),
    "task to group": add.s(1) | group(add.s(2), mul.s(3)),
    "group to group": chain(group(add.s(1), add.s(2)), group(xsum.s(), echo.s())),
    "group of one": group(add.s(1)),
    "a chain to a group in a group": group(add.s(1), chain(add.s(2), group(add.s(3), add.s(4)))),
    "body group": chord([add.s(1), add.s(2)], group(xsum.s(), echo.s())),
    "body chain": chord([add.s(1), add.s(2)], chain(xsum.s(), add.s(5))),
    "chord in chord": chord([chord([add.s(1), add.s(2)], xsum.s()), add.s(3)], xsum.s()),
    "chord after task": add.s(1) | chord([add.s(2), add.s(3)], xsum.s()),
    "body chord": chord([add.s(1), add.s(2)], chord([xsum.s(), xsum.s()], xsum.s())),
    "empty group": group(),
    "empty header": chord([], echo.s()),
    "map": xsum.map([[1, 2], [3]]),
    "starmap": add.starmap([(1, 2), (3, 4)]) | xsum.s(),
    "groups in a header": chord([add.s(1), chain(add.s(2), group(add.s(3), add.s(4)))], echo.s()),
}


TAKE_MORE = {"chain", "chord", "group", "groups in a group", "task to group", "group to group", "chord after task"}
"""Those that are run with a further argument for their heads."""


@pytest.mark.parametrize("name", CANVASES)
def test_the_output_is_what_celery_gives(name, flowq_local):
    """As ``apply``: only a group of one that ends in a group is what it is to ``apply_async``."""
    canvas = CANVASES[name]
    args = [20] if name in TAKE_MORE else []
    result = Flow.from_canvas(canvas).run(args=args)
    assert result.status is FlowStatus.COMPLETED, result.error
    assert result.output == canvas.apply(args=tuple(args)).get()


@pytest.mark.parametrize("name", CANVASES)
def test_its_json_is_the_same_flow(name):
    canvas = CANVASES[name]
    again = Flow.from_canvas(json.loads(json.dumps(canvas)))
    assert again.plan() == Flow.from_canvas(canvas).plan()


def test_a_canvas_that_is_a_group_of_one_gives_what_that_gives(flowq_local):
    canvas = group(chain(add.s(1), group(add.s(2), add.s(3))))
    assert Flow.from_canvas(canvas).run().output == [3, 4]
    assert Flow.from_canvas(chord(canvas, echo.s())).run().output == [[[[3, 4]]], {}]


def test_nested_groups_keep_the_order_in_which_they_are_written(flowq_local):
    assert Flow.from_canvas(chord([group(add.s(1), add.s(2)), add.s(3)], echo.s())).run().output == [[[1, 2, 3]], {}]


def test_what_it_is_run_with_comes_first(flowq_local):
    imported = Flow.from_canvas(group(echo.s(1, b=2), echo.si(3), echo.s(4) | echo.s(5)))
    assert imported.run(args=[0], kwargs={"c": 6}).output == [
        [[0, 1], {"b": 2, "c": 6}],
        [[3], {}],
        [[[[0, 4], {"c": 6}], 5], {}],
    ]


def test_what_it_is_run_with_is_checked():
    with pytest.raises(InputError, match="args"):
        Flow.from_canvas(add.s(1)).run(args=5)


def test_options_of_an_immutable_group_do_not_let_arguments_in(flowq_local):
    sealed = group(echo.s(1), echo.s(2))
    sealed["immutable"] = True
    assert Flow.from_canvas(sealed).run(args=[0]).output == [[[1], {}], [[2], {}]]


def test_it_can_stand_in_a_flow(flowq_local):
    imported = Flow.from_canvas(chord([add.s(1), add.s(2)], xsum.s()), name="sums")

    @task
    def first() -> int:
        return 10

    @flow
    def whole() -> Any:
        return imported(args=[first()])

    result = whole.run()
    assert (result.status, result.output) == (FlowStatus.COMPLETED, 23)
    assert set(result.nodes) == {"first", "sums", "sums/add", "sums/add_2", "sums/xsum"}


def test_outside_of_a_flow_it_is_not_called():
    with pytest.raises(DefinitionError, match="an imported canvas is not called: use run, execute or submit"):
        Flow.from_canvas(add.s(1))()


# ── options ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_queues_and_time_limits():
    """A group's options are all its members', and come first; a chain's are its head's, a chord's are everybody's."""
    canvas = written(
        "chain",
        add.s(1).set(queue="fast", time_limit=60, soft_time_limit=50),
        written("group", add.s(1), add.s(2).set(queue="slow"), queue=Queue("both")),
        written("chain", xsum.s(), add.s(1), queue="head"),
        chord([add.s(1)], xsum.s()).set(queue="chord", time_limit=9),
    )
    configs = [step.config for step in Flow.from_canvas(canvas).graph().steps.values()]
    assert [config.queue for config in configs] == ["fast", "both", "both", "head", None, "chord", "chord"]
    assert [config.timeout for config in configs] == [50, None, None, None, None, 9, 9]


def test_partial_arguments_of_the_parts(flowq_local):
    parts = [
        written("chain", echo.s(1), echo.s(2)) | {"args": [0]},
        written("group", echo.s(1), echo.si(2)) | {"args": [0]},
        dict(chord([echo.s(1)], echo.s())) | {"args": [0]},
    ]
    assert Flow.from_canvas(written("group", *parts[:1], *parts[2:])).run().output == [
        [[[[0, 1], {}], 2], {}],
        [[[[[0, 1], {}]]], {}],
    ]
    assert Flow.from_canvas(parts[1]).run().output == [[[0, 1], {}], [[2], {}]]


def test_a_task_s_own_time_limits():
    @app.task(shared=False, name="proj.limited", time_limit=30)
    def limited():
        pass

    config = Flow.from_canvas(limited.s()).graph().steps["limited"].config
    assert config.timeout == 30
    assert Flow.from_canvas(limited.s().set(time_limit=7)).graph().steps["limited"].config.timeout == 7


@pytest.mark.parametrize(
    ("options", "attempts", "waits"),
    [
        ({}, 4, [180, 180]),
        ({"max_retries": 1, "default_retry_delay": 5}, 2, [5, 5]),
        ({"max_retries": None}, UNLIMITED, [180, 180]),
        ({"autoretry_for": (OSError,), "retry_kwargs": {"max_retries": 7, "countdown": 2}}, 8, [2, 2]),
        ({"autoretry_for": (OSError,), "retry_backoff": 4, "retry_jitter": False}, 4, [4, 8, 16]),
        (
            {"autoretry_for": (OSError,), "retry_backoff": True, "retry_backoff_max": 3, "retry_jitter": False},
            4,
            [1, 2, 3, 3],
        ),
        ({"autoretry_for": (OSError,), "retry_backoff": 4}, 4, [2, 4, 8]),  # in the middle of what jitter draws from
    ],
)
def test_retries(options, attempts, waits):
    @app.task(shared=False, name="proj.retried", **options)
    def retried():
        pass

    policy = Flow.from_canvas(retried.s()).graph().steps["retried"].config.retry_policy
    del app.tasks["proj.retried"]
    assert policy.max_attempts == attempts
    assert [policy.delay(number, 0.5) for number in range(1, len(waits) + 1)] == waits
    assert policy.covers(TaskRetry("again"))
    assert not policy.covers(OSError())


def test_a_task_that_is_not_known_here_has_celery_s_defaults():
    policy = Flow.from_canvas({"task": "elsewhere.work"}).graph().steps["work"].config.retry_policy
    assert (policy.max_attempts, policy.delay_s) == (4, 180)


def test_bookkeeping_and_stamps_mean_nothing_to_a_flow():
    canvas = chain(add.s(1), group(add.s(1), add.s(2)), xsum.s())
    before = steps(canvas)
    canvas.stamp(customer="c1")
    canvas.freeze()
    assert steps(canvas) == before


# ── what a flow cannot express ────────────────────────────────────────────────────────────────────────────────────────


def test_all_problems_are_reported_at_once():
    canvas = chord(
        [add.s(1).set(countdown=3, priority=5), mul.s(object(), 2), echo.s({1: 2}), add.s(1).set(countdown=9)],
        xsum.s().set(expires=60, queue="not a queue"),
    ) | echo.s(float("nan"), since=datetime.now(UTC)).set(link_error=[echo.s()])
    found = problems(canvas)
    assert set(found) == {
        ("proj.tasks.add", "countdown"),
        ("proj.tasks.add", "priority"),
        ("proj.tasks.mul", "args"),
        ("proj.tasks.echo", "args"),
        ("proj.tasks.echo", "kwargs"),
        ("proj.tasks.echo", "link_error"),
        ("proj.tasks.xsum", "expires"),
        ("proj.tasks.xsum", "queue"),
    }
    assert found["proj.tasks.add", "countdown"] == (
        "task 'proj.tasks.add', 'countdown': a flow cannot express this option; remove it, and submit the flow when it"
        " may start"
    )
    assert "(object) is no JSON; pass plain data" in found["proj.tasks.mul", "args"]


@pytest.mark.parametrize(
    ("canvas", "field"),
    [
        ({"task": "proj.x", "subtask_type": "spiral", "kwargs": {}}, "subtask_type"),
        (chord([add.s(1)]), "body"),
        (group(add.s(1)).set(link=[add.s(2)]), "link"),
        (add.s(1).set(headers={"a": 1}), "headers"),
        (add.s(1).set(invented=1), "invented"),
        (chain(add.s(1), add.s(2)).set(eta=datetime.now(UTC)), "eta"),
        (add.s(1).set(time_limit=-1), "timeout"),
    ],
)
def test_what_cannot_be_expressed(canvas, field):
    ((_, found),) = problems(canvas)
    assert found == field


@pytest.mark.parametrize("canvas", [None, "add", add, [add.s(1)], {}, {"task": None}, chord([add.s(1)], {"a": 1})])
def test_what_is_no_canvas(canvas):
    with pytest.raises(DefinitionError, match=r"is no Celery signature: pass task\.s"):
        Flow.from_canvas(canvas)


# ── one call ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def attempt():
    """Stand in an attempt, as a processor does; gives a way to begin the next one."""

    def begin(number):
        CURRENT.set(AttemptInfo("run", "node", number))

    token = CURRENT.set(AttemptInfo("run", "node", 1))
    yield begin
    CURRENT.reset(token)


def call(task_: Any, *args: Any, **kwargs: Any) -> Any:
    return CeleryTask(task=task_.name).process({"args": list(args), "kwargs": kwargs})


def test_a_bound_task_knows_its_request(attempt):
    @app.task(shared=False, bind=True, name="proj.bound")
    def bound(self, x):
        return x, self.name, self.request.id, self.request.retries, self.request.called_directly

    attempt(3)
    assert call(bound, 1) == (1, "proj.bound", "run:node", 2, False)


def test_a_task_s_hooks_run(attempt):
    seen = []

    class Hooked(app.Task):  # type: ignore[name-defined, misc]
        def __call__(self, *args, **kwargs):
            seen.append("call")
            return super().__call__(*args, **kwargs)

        def on_success(self, retval, *_):
            seen.append(retval)

    @app.task(shared=False, base=Hooked, name="proj.hooked")
    def hooked():
        return 5

    assert call(hooked) == 5
    assert seen == ["call", 5]


def test_a_retry_asks_for_another_attempt_after_its_countdown(attempt):
    with pytest.raises(TaskRetry) as raised:
        call(raises, "retry", countdown=7)
    assert raised.value.retry_after_s == 7
    with pytest.raises(TaskRetry) as raised:
        call(raises, "retry with eta")
    assert raised.value.retry_after_s == pytest.approx(3600, abs=60)


def test_retries_are_used_up(attempt):
    attempt(4)
    with pytest.raises(MaxRetriesExceededError):
        call(raises, "retry")
    attempt(2)
    with pytest.raises(KeyError):
        call(raises, "retry", exc=KeyError("why"), max_retries=0)


def test_autoretry_is_a_retry(attempt):
    @app.task(shared=False, autoretry_for=(OSError,), max_retries=1, retry_kwargs={"countdown": 2}, name="proj.auto")
    def auto(kind):
        raise kind()

    with pytest.raises(TaskRetry) as raised:
        call(auto, OSError)
    assert raised.value.retry_after_s == 2
    assert isinstance(raised.value.__cause__, OSError)
    with pytest.raises(KeyError):
        call(auto, KeyError)
    attempt(2)
    with pytest.raises(OSError, match=r"^$"):
        call(auto, OSError)


def test_a_retry_with_other_arguments_cannot_be_expressed(attempt):
    with pytest.raises(DefinitionError, match=r"'proj\.tasks\.raises' retries with other arguments"):
        call(raises, "retry", kwargs={"countdown": 5})


def test_ignore_reject_and_failures(attempt):
    with pytest.raises(Skip, match="no need"):
        call(raises, "ignore")
    with pytest.raises(Reject):
        call(raises, "reject")
    with pytest.raises(LookupError, match=r"^other$"):
        call(raises, "other")


def test_a_task_that_nobody_knows(attempt):
    with pytest.raises(UnknownProcessorError, match=r"knows the task 'proj\.none'.*FLOWQ_INCLUDE"):
        CeleryTask(task="proj.none").process({"args": [], "kwargs": {}})
    unknown = {"task": {"task": "proj.none"}, "it": [1]}
    with pytest.raises(UnknownProcessorError, match=r"knows the task 'proj\.none'"):
        CeleryTask(task="celery.map").process({"args": [], "kwargs": unknown})


def test_a_failure_keeps_its_traceback(flowq_local):
    result = Flow.from_canvas(raises.s("other")).run()
    assert result.failures["raises"].type == "LookupError"
    assert "raise LookupError(kind)" in (result.traceback or "")
