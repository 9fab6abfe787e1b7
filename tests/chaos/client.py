"""A run's client: submits it whatever happens, waits for its end, and reads all of it when everything is over."""

from __future__ import annotations

import threading
import time
from typing import Any

import redis
from kombu.exceptions import KombuError

from flowq import FlowContext, FlowqError, FlowResult, FlowStatus, NodeResult, RunNotFound
from tests.chaos.designs import COMPLETED, Design
from tests.chaos.effects import digest_of
from tests.chaos.history import MS, Change, History, Output, Record

AWAY = (redis.RedisError, KombuError, OSError)
"""What says that the server cannot be reached just now."""

CHUNK_S = 20.0
"""So long it waits in one call; then it looks whether it has been let down."""

DEAF_S = 5.0
"""A client that is told of its run's end later than this, though the server was there, was not told at all."""

PAUSE_S = 0.1
"""Before it asks a server again that is away."""


class Client(threading.Thread):
    """Runs one design."""

    def __init__(self, context: FlowContext, design: Design, log: str) -> None:
        super().__init__(name=f"client of {design.run}", daemon=True)
        self.design = design
        self.errors: list[str] = []
        self.vanished: list[int] = []
        """When the run was accepted, each time that it was gone afterwards; milliseconds."""
        self.first: FlowResult | None = None
        """As the run's end was first seen."""
        self._context = context
        self._log = log
        self._over = float("inf")
        self._submitted = self._accepted = 0
        self._was_cancelled = False

    def give_up_at(self, moment: float) -> None:
        """Wait no longer than that, on the monotonic clock."""
        self._over = moment

    def run(self) -> None:
        self._submitted = time.time_ns() // MS
        handle = self._submit()
        if handle is not None and self.design.cancel_after_s is not None:
            time.sleep(self.design.cancel_after_s)
            self._cancel(handle)
        while handle is not None and self.first is None:
            handle = self._wait(handle)

    def history(self) -> History:
        """Read all that there is to read; the server is there."""
        run = self.design.run
        try:
            client: Any = self._context.client
            handle = client.handle(run)
            status = handle.status()
        except RunNotFound:
            return History(run, "", self._submitted, errors=self.errors, vanished=self.vanished)
        if not status.is_final:
            nodes = {path: _record(handle.node(path)) for path in self.design.nodes if "[" not in path}
            return History(
                run,
                status.value,
                self._submitted,
                nodes=nodes,
                events=_events(handle),
                errors=self.errors,
                vanished=self.vanished,
            )
        result: FlowResult = handle.result(CHUNK_S)
        done = [name for name, node in result.nodes.items() if node.status.value == COMPLETED]
        return History(
            run,
            status.value,
            self._submitted,
            ended=_ms(result.end_time),
            nodes={name: _record(node) for name, node in result.nodes.items()},
            outputs={name: _output(handle.output(name)) for name in done},
            events=_events(handle),
            was_cancelled=self._was_cancelled,
            first={name: _record(node) for name, node in self.first.nodes.items()} if self.first else {},
            failures={name: f"{f.kind}: {f.type}: {f.message}"[:300] for name, f in result.failures.items()},
            errors=self.errors,
            vanished=self.vanished,
        )

    def _submit(self) -> Any:
        """Submit it until somebody says that it is stored. Its id makes that one run, however often it is sent."""
        while time.monotonic() < self._over:
            try:
                flow, kwargs = self.design.flow, {"log": self._log}
                options = {"context": self._context, "dispatch": self.design.dispatch}
                handle = flow.submit_as(self.design.run, [], kwargs, **options)
                self._accepted = time.time_ns() // MS
                return handle
            except AWAY:
                time.sleep(PAUSE_S)
            except Exception as error:
                self.errors.append(f"submit: {type(error).__name__}: {error}")
                return None
        return None

    def _cancel(self, handle: Any) -> None:
        while time.monotonic() < self._over:
            try:
                self._was_cancelled = handle.cancel() is FlowStatus.CANCELLED
                return
            except AWAY:
                time.sleep(PAUSE_S)
            except FlowqError:  # it is gone; waiting for it says so
                return

    def _wait(self, handle: Any) -> Any:
        """Wait for a while; gives the handle to go on with, None to give up."""
        began = time.time_ns() // MS
        try:
            self.first = handle.result(max(0.1, min(CHUNK_S, self._over - time.monotonic())))
        except TimeoutError:
            self._was_let_down(handle, began)
            return handle if time.monotonic() < self._over else None
        except AWAY:
            time.sleep(PAUSE_S)
        except FlowqError as error:
            # Stored, and gone with the server's last moments before it was killed: whoever submitted it does so again.
            if type(error).__name__ not in ("RunNotFound", "RunLost") or len(self.vanished) > 3:
                self.errors.append(f"result: {type(error).__name__}: {error}")
                return None
            self.vanished.append(self._accepted)
            return self._submit()
        except Exception as error:
            self.errors.append(f"result: {type(error).__name__}: {error}")
            return None
        return handle

    def _was_let_down(self, handle: Any, began: int) -> None:
        """A wait that timed out, though the run had ended long before."""
        try:
            ended = _ms(handle.result(0.1).end_time)
        except (*AWAY, FlowqError):
            return
        if ended is not None and max(ended, began) < time.time_ns() // MS - DEAF_S * 1000:
            self.errors.append(f"it waited for {CHUNK_S} s, and was not told that its run had ended")


def _record(node: NodeResult) -> Record:
    return Record(node.status.value, node.attempt, _ms(node.started_at), _ms(node.ended_at))


def _ms(moment: Any) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1000)


def _events(handle: Any) -> list[Change]:
    return [Change(change.node, change.status.value, change.attempt) for change in handle.events(timeout=0.1)]


def _output(value: Any) -> Output:
    """Take apart what a node gave: a value of ours, a list of them, or a dict that a parent gathered."""
    if isinstance(value, dict) and "core" in value:
        return Output(digest_of(value), value["core"], value["attempt"], value["nonce"])
    if isinstance(value, list):
        parts = {str(index): _digest(part) for index, part in enumerate(value)}
        first = value[0] if value and isinstance(value[0], dict) else {}
        return Output(digest_of(value), first.get("core", ""), first.get("attempt", 0), first.get("nonce", ""), parts)
    parts = {name: _digest(part) for name, part in value.items()} if isinstance(value, dict) else {}
    return Output(digest_of(value), parts=parts)


def _digest(part: Any) -> str | None:
    return None if part is None else digest_of(part)
