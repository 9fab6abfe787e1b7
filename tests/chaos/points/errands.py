"""What producers do while they are killed, and what must hold after that.

A run exists and ends, or there is none; whoever asks once more gets what was meant in the first place.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flowq import FlowStatus
from flowq.client import Client
from flowq.runtime.state import State
from flowq.standalone import EmbeddedContext
from flowq.testing.keyspace import runs
from tests.chaos.points import oracle
from tests.chaos.points.passing import CHILD
from tests.chaos.points.producer import PRODUCER, Producer
from tests.chaos.points.shapes import ERRANDS_ALONE, MENDED, SHAPES


class Errand(NamedTuple):
    """What a producer is to do."""

    what: str
    """``submit``, ``submit once`` (with a key), ``apply`` (a canvas, which starts its run), or what a handle does."""
    shape: str
    dispatch: str = "pull"
    is_new: bool = True
    """Nobody has ever seen the plan."""
    knows: bool = False
    """This client has submitted it before."""
    forgotten: bool = False
    """The store does not have it any more."""


ERRANDS: Mapping[str, Errand] = {
    "submit, new plan": Errand("submit", "fork-join"),
    "submit, stored plan": Errand("submit", "layered", is_new=False),
    "submit, known plan": Errand("submit", "chain", knows=True),
    "submit, forgotten plan": Errand("submit", "fork-join", knows=True, forgotten=True),
    "submit to canvas, new plan": Errand("submit", "canvas layered", "canvas"),
    "submit to canvas, known plan": Errand("submit", "canvas fork-join", "canvas", knows=True),
    "apply a canvas": Errand("apply", "canvas fork-join", "canvas"),
    "submit once": Errand("submit once", "layered"),
    "submit once to canvas": Errand("submit once", "canvas nested", "canvas"),
    "cancel": Errand("cancel", "fork-join"),
    "cancel in canvas": Errand("cancel", "canvas layered", "canvas"),
    "pause": Errand("pause", "fork-join"),
    "pause in canvas": Errand("pause", "canvas fork-join", "canvas"),
    "resume": Errand("resume", "fork-join"),
    "resume in canvas": Errand("resume", "canvas layered", "canvas"),
    "retry": Errand("retry", MENDED),
    "retry in canvas": Errand("retry", MENDED, "canvas"),
}
DRAWN = {**SHAPES, **ERRANDS_ALONE}
SUBMITS = ("submit", "submit once")
SLOW_S = 0.1


class Errands:
    """Has errands done on a fleet, and looks at what came of them."""

    def __init__(self, context: EmbeddedContext, producer: Producer, log: str, bound_s: float) -> None:
        self._context, self._producer, self._log, self._bound_s = context, producer, log, bound_s
        self._state = State.of(context)
        client: Any = context.client
        assert isinstance(client, Client)
        self._client = client
        self._settings = context.settings.model_dump(mode="json")

    def prepare(self, errand: Errand) -> dict[str, Any]:
        """Give the order for a producer, with what must be there before it is given."""
        run, takes_s = uuid.uuid4().hex, 0.0 if errand.what in (*SUBMITS, "retry") else SLOW_S
        given = {"log": self._log, "takes_s": takes_s}
        salt = run if errand.is_new else ""
        flow = DRAWN[errand.shape].make(salt)
        if errand.what not in (*SUBMITS, "apply"):
            graph, plan = flow._ready()
            handle = self._client.submit(graph, plan, given, dispatch=errand.dispatch, run=run)  # type: ignore[arg-type]
            if errand.what == "resume":
                handle.pause()
            if errand.what == "retry":
                handle.result(self._bound_s)
        elif not errand.is_new:
            flow.submit(given, context=self._context, dispatch=errand.dispatch).result(self._bound_s)
        order = {**errand._asdict(), "run": run, "given": given, "salt": salt, "settings": self._settings}
        return {**order, "others": runs(self._context)}

    def do(self, order: Mapping[str, Any]) -> int:
        """Have it done; gives the producer's exit status."""
        return self._producer.do({name: value for name, value in order.items() if name != "others"})

    def violations(self, errand: Errand, order: Mapping[str, Any], status: int, point: str = "") -> Iterator[str]:
        """Give what is wrong afterwards.

        What was told before the server was killed (at any point but the one before the call itself) may be lost with
        it; what a producer was told that was killed itself, nobody knows.
        """
        if status > 0 and errand.what != "apply":  # there it is Celery's own that gives up
            yield f"the producer failed (exit status {status})"
        after: Mapping[str, Any] = {
            "submit": self._after_submit,
            "submit once": self._after_submit_once,
            "apply": self._after_apply,
            "cancel": self._after_cancel,
            "pause": self._after_pause,
            "resume": self._after_pause,
            "retry": self._after_retry,
        }
        was_told = status == 0 and point in ("", f"{PRODUCER}:{errand.what.split()[0]}:before")
        yield from after[errand.what](errand, order, was_told)

    def _after_submit(self, errand: Errand, order: Mapping[str, Any], was_told: bool) -> Iterator[str]:
        run = order["run"]
        if self._state.client.exists(self._state.keys.run(run)):
            yield from self._ends_right(errand, run)
        elif was_told:
            yield "the producer was told that its run is stored, and it is not"
        else:
            left = [name.decode() for name in self._state.client.scan_iter(match=f"*run:{run}*")]
            if left:
                yield f"there is no run, but {left}"
        if self.do({**order, "knows": False, "forgotten": False}) != 0:
            yield "the run cannot be submitted once more"
        yield from self._ends_right(errand, run)

    def _after_apply(self, errand: Errand, order: Mapping[str, Any], was_told: bool) -> Iterator[str]:
        for run in sorted({*runs(self._context)} - {*order["others"]}):
            if self._state.client.ttl(self._state.keys.run(run)) < 0:  # it has started
                yield from self._ends_right(errand, run)
            elif was_told and not self._client.handle(run).status().is_final:
                yield f"run {run} was applied, and waits for that"

    def _after_submit_once(self, errand: Errand, order: Mapping[str, Any], was_told: bool) -> Iterator[str]:
        if self.do(order) != 0:
            yield "the run cannot be submitted once more"
        made = {*runs(self._context)} - {*order["others"]}
        if len(made) != 1:
            yield f"the same key has made the runs {made}"
        for run in made:
            yield from self._ends_right(errand, run)

    def _after_cancel(self, errand: Errand, order: Mapping[str, Any], was_told: bool) -> Iterator[str]:
        handle = self._client.handle(order["run"])
        if was_told and not handle.status().is_final:  # it may have completed before the server was back
            yield f"its producer was told that it is over, and it is {handle.status()}"
        if not handle.cancel().is_final:
            yield f"cancelled once more, it is {handle.status()}"
        ended = handle.result(self._bound_s).status
        yield from oracle.wrong_end(ended, self._events_of(handle.run_id))

    def _after_pause(self, errand: Errand, order: Mapping[str, Any], was_told: bool) -> Iterator[str]:
        handle = self._client.handle(order["run"])
        if errand.what == "pause":
            if was_told and not (handle.progress().is_paused or handle.status().is_final):
                yield "its producer was told that it is paused, and it is not"
            if not handle.pause().is_final:
                handle.resume()
        elif handle.progress().is_paused:
            if was_told:
                yield "its producer was told that it goes on, and it is paused"
            handle.resume()
        yield from self._ends_right(errand, handle.run_id)

    def _after_retry(self, errand: Errand, order: Mapping[str, Any], was_told: bool) -> Iterator[str]:
        handle = self._client.handle(order["run"])
        if was_told and handle.status() is FlowStatus.FAILED:
            yield "its producer was told that it runs again, and it is failed"
        if handle.status() is FlowStatus.FAILED:
            handle.retry()
        yield from oracle.wrong_result(DRAWN[errand.shape], handle.result(self._bound_s))
        ends = [event for event in self._events_of(handle.run_id) if event in ("failed", "completed")]
        if ends != ["failed", "completed"]:
            yield f"it has ended as {ends}"

    def _events_of(self, run: str) -> list[str]:
        return [told.status for told in self._state.told(run) if told.key == "run"]

    def _ends_right(self, errand: Errand, run: str) -> Iterator[str]:
        handle = self._client.handle(run)
        result = handle.result(self._bound_s)
        yield from oracle.violations(DRAWN[errand.shape], handle, result, self._log, self._state, CHILD)
        extra = oracle.extra_starts(DRAWN[errand.shape], run, self._log)
        if extra:
            yield f"{extra} bodies began more often than they must, though no worker was killed"
