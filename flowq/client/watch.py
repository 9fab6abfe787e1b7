"""Waits for the ends of runs: one subscription for all handles of a process, whatever their number."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import redis

from flowq.core.errors import StoreUnavailableError
from flowq.runtime.state import State

logger = logging.getLogger("flowq.client")

LISTEN_S = 5.0
"""How long one read blocks; the connection's health is checked as often."""


class Watch:
    """A thread that listens for runs that end, from the first wait on.

    A notification can be lost with its connection. So whoever waits looks at the run's state after it is subscribed,
    and again each time the subscription had to be made anew.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._subscribed = threading.Event()
        self._closed = False

    @property
    def is_listening(self) -> bool:
        """Whether the subscription stands: ``on_change`` returns at once."""
        return self._pid == os.getpid() and self._subscribed.is_set()

    def on_change(self, run: str, call: Callable[[], None], within_s: float = LISTEN_S) -> Callable[[], None]:
        """Have ``call`` called whenever the run may have ended; gives what takes that back.

        Returns when the subscription stands, or after ``within_s``; called from any thread, ``call`` runs in the
        watch's.
        """
        if self._pid != os.getpid():  # the thread stayed with the process that forked this one
            self._begin()
        with self._lock:
            self._waiting.setdefault(run, []).append(call)
            if self._thread is None:
                self._thread = threading.Thread(target=self._main, name="flowq-watch", daemon=True)
                self._thread.start()
        self._subscribed.wait(timeout=min(LISTEN_S, within_s))

        def take_back() -> None:
            with self._lock:
                calls = self._waiting.get(run, [])
                if call in calls:
                    calls.remove(call)
                if not calls:
                    self._waiting.pop(run, None)

        return take_back

    def close(self) -> None:
        self._closed = True
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            with contextlib.suppress(StoreUnavailableError):  # then the read has ended
                self._state.client.publish(self._state.keys.finished, "")  # ends the read
            thread.join(timeout=LISTEN_S)

    def _main(self) -> None:
        while not self._closed:
            try:
                self._listen()
            except redis.RedisError as error:
                logger.warning("the subscription to ending runs is lost (%s); it is made anew", error)
                time.sleep(0.2)  # a server that is away is not to be hammered
            finally:
                self._subscribed.clear()

    def _listen(self) -> None:
        channel = self._state.client.pubsub(ignore_subscribe_messages=False)
        try:
            channel.subscribe(self._state.keys.finished)
            while not self._closed:
                message: Any = channel.get_message(timeout=LISTEN_S)
                if message is None:
                    channel.ping()
                elif message["type"] == "subscribe":
                    self._subscribed.set()
                    self._notify(None)
                elif message["type"] == "message":
                    self._notify(message["data"].decode())
        finally:
            channel.close()

    def _notify(self, run: str | None) -> None:
        with self._lock:
            if run is None:
                calls = [call for waiting in self._waiting.values() for call in waiting]
            else:
                calls = list(self._waiting.get(run, ()))
        for call in calls:
            call()
