"""What random examples do not come to: a server that has lost its last seconds, and one that was silent."""

from __future__ import annotations

from typing import Any

from flowq.plan import Plan
from flowq.plan.model import Node
from flowq.runtime.rows import rows_of
from flowq.runtime.scripts import OutcomeEntry
from tests.property.calls import LONG_S, Calls

ONE = Plan((Node("a", "m:f", max_crashes=2),), output=0)


def check_fences(calls: Calls) -> None:
    """A fence is never given out twice, even if the claim that it was given with is forgotten."""
    _start(calls)
    saved = {key: calls.client.dump(key) for key in calls.left()}
    (first,) = _claim(calls)
    for key in calls.left():
        calls.client.unlink(key)
    for key, data in saved.items():
        calls.client.restore(key, 0, data)
    (second,) = _claim(calls)
    assert second.fence > first.fence
    told = OutcomeEntry("0", b"late", "r", first.fence, "completed")
    _, settled = calls.send("settle", worker="w", inline=False, outcomes=[told])
    assert settled.stale == [0], "who holds the claim is not asked"


def check_silence(calls: Calls, silence_s: float = 2 * LONG_S) -> None:
    """After a silence, whoever lives has time to say so; then who does not is dead."""
    _start(calls)
    assert len(_claim(calls)) == 1
    calls.send("sweep", worker="w", every_ms=2000)
    holders, now = calls.keys.holders, calls.client.time()[0] * 1000
    calls.client.zadd(holders, {calls.holder: now - 1})  # it could not renew while the server was away
    calls.client.set(f"{calls.settings.prefix}:swept", f"{int(now - silence_s * 1000)} 2000")
    calls.client.delete(f"{calls.settings.prefix}:sweep")
    calls.send("sweep", worker="w", every_ms=2000)
    assert calls.client.hget(calls.keys.nodes("r"), "0").startswith(b"running"), "it may live"
    assert now < calls.client.zscore(holders, calls.holder) <= now + LONG_S * 1000
    calls.client.zadd(holders, {calls.holder: 1})
    calls.client.delete(f"{calls.settings.prefix}:sweep")
    calls.send("sweep", worker="w", every_ms=2000)
    assert calls.client.hget(calls.keys.nodes("r"), "0").startswith(b"ready|1|1"), "it has had its time"


def _start(calls: Calls) -> None:
    calls.send("register", worker="w", queues=["main"], slots=1)
    for piece in rows_of(ONE).pieces(100):
        calls.send("define", plan=ONE.hash, values=piece)
    named = dict.fromkeys(("name", "process_id"), "flow")
    calls.send(
        "submit",
        runs=["r"],
        plan=ONE.hash,
        queue="main",
        queues=["main"],
        retention_ms=9999,
        total=1,
        values=[b""],
        **named,
    )


def _claim(calls: Calls) -> Any:
    return calls.send("claim", worker="w", token="t", queue="main", process=1, thread=0, busy=0)[1].claims
