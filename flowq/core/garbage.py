"""What makes many objects at once, none of them garbage, need not be searched for garbage meanwhile."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Inside:
    """How many threads are inside of ``left_alone``: the first one turns collection off, and the last one on again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._was_on = False

    def enter(self) -> None:
        with self._lock:
            if not self._count:
                self._was_on = gc.isenabled()
                gc.disable()
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count = max(0, self._count - 1)  # 0: it was entered before a fork
            if not self._count and self._was_on:
                gc.enable()

    def begin_anew(self) -> None:
        """In a forked child there is nobody inside: threads stay with the process that forked."""
        self._lock = threading.Lock()
        if self._count and self._was_on:
            gc.enable()
        self._count = 0


_inside = _Inside()
os.register_at_fork(after_in_child=_inside.begin_anew)


@contextmanager
def left_alone() -> Iterator[None]:
    """Have nothing searched for cycles of garbage: of a million new objects, that takes longer than making them."""
    _inside.enter()
    try:
        yield
    finally:
        _inside.leave()
