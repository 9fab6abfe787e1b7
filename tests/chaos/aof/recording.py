"""Several runs at once on a server that keeps an append-only file, and what was seen of them meanwhile."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flowq import FlowHandle, FlowStatus
from flowq.runtime.replies import Claimed
from flowq.runtime.scripts import Scripts
from flowq.standalone import EmbeddedServer
from flowq.testing import wait_until
from tests.chaos.aof.log import Log
from tests.chaos.replies.fleet import Fleet
from tests.chaos.replies.flows import CASES, Case
from tests.property.calls import Changes, load

PREFIX = "aof"

LEASE: dict[str, Any] = {"lease_s": 15.0, "renew_s": 5.0, "sweep_s": 0.05, "prefix": PREFIX}
"""As in production: nobody loses a claim while it is recorded, but for the process that dies on purpose."""

CANVASES = ("a chain", "layers, placed everywhere", "maps", "optional failures")
"""Cases that are also dispatched as canvases."""

CANCELLED = ("layers", "maps")
"""Cases of which one run more is cancelled in the middle."""


@dataclass
class Recording:
    """What the runs were, and the file that tells of them."""

    runs: dict[str, Case]
    cancelled: set[str]
    claims: list[Claimed]
    """All that were ever given."""
    holder: str
    """The process that got most of them."""
    log: Log
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)
    """Where the nodes note that they ran."""


def record(server: EmbeddedServer, changes: Changes | None = None) -> Recording:
    """Let runs of all kinds end, side by side; ``changes`` as for planted bugs."""
    folder = tempfile.TemporaryDirectory(prefix="flowq-aof-")
    notes = str(Path(folder.name) / "effects")
    claims: list[Claimed] = []
    runs: dict[str, Case] = {}
    cancelled: set[str] = set()
    with Fleet(server.redis_url, slots=4, settings=LEASE) as fleet:
        state = fleet.worker.state
        if changes is not None:
            state.scripts._installed = load(state.client, changes)
        for name in ("claim", "settle", "pick"):
            _note_claims(state.scripts, name, claims)
        handles: list[FlowHandle] = []

        def submit(name: str, **how: Any) -> FlowHandle:
            handle: FlowHandle = CASES[name].submit(notes, fleet.context, **how)
            runs[handle.run_id] = CASES[name]
            handles.append(handle)
            return handle

        stopper = threading.Thread(target=_die_with_claims, args=(fleet, claims), daemon=True)
        for name in CASES:
            submit(name)
        stopper.start()
        for name in CANVASES:
            submit(name, dispatch="canvas")
        for name in CANCELLED:
            handle = submit(name)
            wait_until(lambda handle=handle: handle.progress().settled >= 3, 20)  # type: ignore[misc]
            if handle.cancel() is FlowStatus.CANCELLED:
                cancelled.add(handle.run_id)
        for handle in handles:
            handle.result(60)
        stopper.join(20)
        assert fleet.failures == []
        return Recording(runs, cancelled, claims, state.scripts.holder, Log(server), folder)


def _note_claims(scripts: Scripts, name: str, claims: list[Claimed]) -> None:
    called: Callable[..., Any] = getattr(scripts, name)

    def noting(**given: Any) -> Any:
        reply = called(**given)
        claims.extend(reply.claims)
        return reply

    setattr(scripts, name, noting)


def _die_with_claims(fleet: Fleet, claims: list[Claimed]) -> None:
    """Be a process that takes a few nodes and dies; its parent reports it."""
    state, queue = fleet.worker.state, fleet.worker.settings.queue
    dying = Scripts(state.client, fleet.worker.settings)
    dying._installed = state.scripts._installed
    taken: list[Claimed] = []

    def take() -> bool:
        found = dying.claim(worker="dying", token="dying", queue=queue, process=1, thread=0, busy=1).claims
        taken.extend(found)
        return len(taken) >= 3

    with contextlib.suppress(AssertionError):  # the others were quicker
        wait_until(take, 5)
    claims.extend(taken)
    fleet.worker.send(state.scripts.bury(holders=[dying.holder], tokens=[f"{queue} dying"], crashed=True))
