"""Stop code from inside its own process: when its time is up, or when somebody else says so.

In a main thread a signal interrupts it, even in the middle of a blocking call. In any other thread the interpreter
raises at the next bytecode; a thread that sits in one blocking call is left to its end, and its result is dropped.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from types import FrameType, TracebackType

RING_AGAIN_S = 1.0
"""Code that swallowed the interruption is interrupted again and again."""


class TimeUp(BaseException):
    """Raised inside of code that has to stop. No Exception, so that ``except Exception`` does not swallow it."""


class Interruptible:
    """A ``with`` block that raises TimeUp in its body after ``timeout_s``, or when another thread calls ``stop``."""

    def __init__(self, timeout_s: float | None = None) -> None:
        self.timeout_s = timeout_s
        self.stopped = False
        """Somebody called ``stop``: the body was not too slow, it is not wanted any more."""
        self.started = 0.0
        """On the monotonic clock."""
        self._thread = 0
        self._lock = threading.Lock()
        self._over = False
        self._timer: threading.Timer | None = None
        self._before: object = None
        self.in_main_thread = False
        """The body runs in its process's main thread."""

    def __enter__(self) -> Interruptible:
        self.started = time.monotonic()
        self._thread = threading.get_ident()
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        if self.in_main_thread:
            self._before = signal.signal(signal.SIGALRM, self._ring)
            if self.timeout_s is not None:
                signal.setitimer(signal.ITIMER_REAL, self.timeout_s, RING_AGAIN_S)
        elif self.timeout_s is not None:
            self._timer = threading.Timer(self.timeout_s, self._interrupt)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._over = True
        if self.in_main_thread:
            if self.timeout_s is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)  # type: ignore[arg-type]
        elif self._timer is not None:
            self._timer.cancel()

    @property
    def overdue_s(self) -> float:
        """How many seconds the body has gone on after its time was up."""
        return 0.0 if self.timeout_s is None else max(0.0, time.monotonic() - self.started - self.timeout_s)

    def stop(self) -> None:
        """Interrupt the body now; called by another thread."""
        self.stopped = True
        self._interrupt()

    def _interrupt(self) -> None:
        with self._lock:
            if self._over:
                return
            if self.in_main_thread:
                signal.pthread_kill(self._thread, signal.SIGALRM)
            else:
                interrupt(self._thread)

    @staticmethod
    def _ring(_signal: int, _frame: FrameType | None) -> None:
        raise TimeUp


def interrupt(thread: int) -> None:
    """Have the thread raise TimeUp at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeUp))
