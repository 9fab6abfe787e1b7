"""Submits that are repeated, raced or refused: one run for one key, and nothing half-stored."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from flowq import FlowContext, FlowStatus, IdempotencyError, OverloadedError
from flowq.core.config import Settings
from flowq.runtime.state import State
from tests.integration.gated_flows import SHORT, forked, gated, starts

END_S = 30


SUBMITTER = """
import sys
from tests.integration.gated_flows import gated
print(gated.submit(sys.argv[1], sys.argv[2], idempotency_key="key").run_id)
"""


def test_the_same_key_is_one_run_from_threads_and_processes(context, log, go):
    env = {f"FLOWQ_{name.upper()}": str(value) for name, value in SHORT.items()}
    env |= {"FLOWQ_BROKER_URL": context.server.url, "FLOWQ_STATE_URL": context.server.redis_url}
    command = [sys.executable, "-c", SUBMITTER, str(go), log]
    root = Path(__file__).parents[2]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | env) for _ in range(3)
    ]
    found: set[str] = set()
    submit = lambda: found.add(gated.submit(str(go), log, idempotency_key="key", context=context).run_id)  # noqa: E731
    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found |= {process.communicate(timeout=END_S)[0].strip() for process in processes}
    (run,) = found
    go.touch()
    handle = context.client.handle(run)
    assert handle.result(END_S).status is FlowStatus.COMPLETED
    assert gated.submit(str(go), log, idempotency_key="key").run_id == run, "also when it has ended"
    assert starts(log, run) == {"waits": 1, "passes": 1}
    with pytest.raises(IdempotencyError, match=f"see run {run}"):
        gated.submit(str(go), log + "x", idempotency_key="key")
    assert gated.submit(str(go), log, idempotency_key="another").run_id != run
    assert forked.submit(str(go), log, idempotency_key="key").run_id != run, "of another flow"
    context.client.handle(run).result(END_S)


def test_submit_waits_for_room_and_then_says_that_there_is_none(context, log, go, tmp_path):
    given: dict[str, Any] = {"broker_url": context.server.url, "state_url": context.server.redis_url, **SHORT}
    narrow = FlowContext(Settings(**given, max_open_runs=2, submit_wait_s=0.3))
    patient = FlowContext(Settings(**given, max_open_runs=2, submit_wait_s=END_S))
    open_runs = [gated.submit(str(go), log, context=narrow) for _ in range(2)]
    ids = {run.run_id.encode() for run in open_runs}
    before = set(State.of(context).client.keys())
    with pytest.raises(OverloadedError, match="2 runs are open"):
        gated.submit(str(go), "x" * 100_000 + os.urandom(60_000).hex(), context=narrow)
    left = {key for key in set(State.of(context).client.keys()) - before if b":run:" in key or b":values:" in key}
    left = {key for key in left if not any(run in key for run in ids)}  # these go on meanwhile
    assert left == set(), "nothing is half-stored"
    submitted: list[Any] = []
    thread = threading.Thread(target=lambda: submitted.append(gated.submit(str(go), log, context=patient)))
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    open_runs[0].cancel()
    thread.join(END_S)
    go.touch()
    assert submitted[0].result(END_S).status is FlowStatus.COMPLETED
    assert open_runs[1].result(END_S).status is FlowStatus.COMPLETED
    narrow.close()
    patient.close()
