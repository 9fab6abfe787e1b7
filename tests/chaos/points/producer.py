"""A process that forks producers, each of which does one errand: so that one may be killed in the middle of it.

It reads errands as lines of JSON, and answers each with the exit status of who did it (minus the signal that ended it).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from typing import Any, Self

from flowq import Flow, FlowContext, Settings
from flowq.runtime.state import State
from tests.chaos.points import hooks
from tests.chaos.points.passing import play
from tests.chaos.points.shapes import ERRANDS_ALONE, SHAPES

PRODUCER = "producer"
WAIT_S = 20.0


class Producer:
    """The test's side. A context manager."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", __name__]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *error: object) -> None:
        with self._process:  # closes its input, which ends it, and waits for that
            pass

    def do(self, errand: Mapping[str, Any]) -> int:
        """Have an errand done; gives the exit status, minus a signal."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(errand) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def main() -> None:
    hooks.install()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _be_producer(json.loads(line))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


def _be_producer(errand: Mapping[str, Any]) -> None:
    status = 1
    try:
        play("preparing")
        _do(errand, FlowContext(Settings(**errand["settings"])))
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _do(errand: Mapping[str, Any], context: FlowContext) -> None:
    what, run = errand["what"], errand["run"]
    client: Any = context.client
    if what in ("cancel", "pause", "resume", "retry"):
        act = getattr(client.handle(run), what)
    else:
        flow: Any = {**SHAPES, **ERRANDS_ALONE}[errand["shape"]].make(errand["salt"])
        assert isinstance(flow, Flow)
        graph, plan = flow._ready()
        given = errand["given"]
        if what == "apply":

            def act() -> None:
                flow.canvas(given, context=context).apply_async()
        else:
            if errand["knows"]:  # what this client has submitted before
                first = client.submit(graph, plan, given, dispatch=errand["dispatch"])
                first.result(WAIT_S)
            if errand["forgotten"]:
                state = State.of(context)
                state.client.delete(state.keys.plan(plan.hash))

            name = {"idempotency_key": run} if what == "submit once" else {"run": run}

            def act() -> None:
                client.submit(graph, plan, given, dispatch=errand["dispatch"], **name)

    play(PRODUCER)
    act()
    play("preparing")


if __name__ == "__main__":
    main()
