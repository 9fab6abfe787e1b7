"""Numbers calls, so that a repeated one is known for what it is."""

from __future__ import annotations

import itertools
import threading


class Callers:
    """Gives every thread that calls a number, as few of them as threads call at once, and counts the calls.

    One thread's calls come one after the other: so the last reply to each number is all that need be remembered.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._free: list[int] = []
        self._lock = threading.Lock()
        self._new = itertools.count()
        self._calls = itertools.count(1)

    def next(self) -> str:
        """Give what the calling thread's next call is called: ``<thread>.<call>``."""
        return self._next("turn")

    def next_posted(self) -> str:
        """Give what it is called if the thread makes others before it has the reply: like one of another thread."""
        return self._next("posted")

    def _next(self, name: str) -> str:
        turn = getattr(self._local, name, None)
        if turn is None:
            turn = _Turn(self)
            setattr(self._local, name, turn)
        return f"{turn.number}.{next(self._calls)}"

    def take(self) -> int:
        with self._lock:
            return self._free.pop() if self._free else next(self._new)

    def give_back(self, number: int) -> None:
        self._free.append(number)  # no lock: it may be called anywhere, also while this thread holds it


class _Turn:
    """A thread's number; free again when the thread has ended."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        self.number = callers.take()

    def __del__(self) -> None:
        self._callers.give_back(self.number)
