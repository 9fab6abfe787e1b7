"""Stop code from inside its own process: when its time is up, or when somebody else says so.

In a main thread a signal interrupts it, even in the middle of a blocking call. In any other thread the interpreter
raises at the next bytecode; a thread that sits in one blocking call is left to its end, and its result is dropped.
An event loop in such a thread sits in one most of the time: ``wake`` ends that.
"""

from __future__ import annotations

import ctypes
import signal
import threading
import time

# The same function as the public one without its enums, which take longer than many a body.
from _signal import signal as set_handler  # type: ignore[import-not-found]
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

RING_AGAIN_S = 1.0
"""Code that swallowed the interruption is interrupted again and again."""

_ALARM = int(signal.SIGALRM)


def _nothing(*_: object) -> None:
    """Stands for what nobody has asked for."""


class TimeUp(BaseException):
    """Raised inside of code that has to stop. No Exception, so that ``except Exception`` does not swallow it."""


class Interruptible:
    """A ``with`` block that raises TimeUp in its body after ``timeout_s``, or when another thread calls ``stop``."""

    # As all begin; there is one of these for every attempt.
    stopped = False
    """Somebody called ``stop``: the body was not too slow, it is not wanted any more."""
    started = 0.0
    """On the monotonic clock; 0: the body has not begun."""
    in_main_thread = False
    """The body runs in its process's main thread."""
    wake: Callable[[], object] = staticmethod(_nothing)
    """Called after an interruption: it ends the blocking call, if the body knows how."""
    told: Callable[[float], object] = staticmethod(_nothing)
    """Called with the end of the body's time (monotonic) when it begins, and with 0 when it has ended."""
    _thread = 0
    _over = False
    _timer: threading.Timer | None = None
    _before: Any = None

    def __init__(self, timeout_s: float | None = None) -> None:
        self.timeout_s = timeout_s
        self._lock = threading.Lock()

    def __enter__(self) -> Interruptible:
        with self._lock:
            if self.stopped:
                raise TimeUp
            self._thread = threading.get_ident()
        self.started = time.monotonic()
        self.in_main_thread = threading.current_thread() is threading.main_thread()
        if self.timeout_s is not None:
            self.told(self.started + self.timeout_s)
        if self.in_main_thread:
            self._before = set_handler(_ALARM, self._ring)
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
            set_handler(_ALARM, self._before)
        elif self._timer is not None:
            self._timer.cancel()
        if self.timeout_s is not None:
            self.told(0.0)

    @property
    def overdue_s(self) -> float:
        """How many seconds the body has gone on after its time was up."""
        if self.timeout_s is None or not self.started or self._over:
            return 0.0
        return max(0.0, time.monotonic() - self.started - self.timeout_s)

    def stop(self) -> None:
        """Interrupt the body now, or before it begins; called by another thread."""
        with self._lock:
            self.stopped = True
        self._interrupt()

    def _interrupt(self) -> None:
        with self._lock:
            if self._over or not self._thread:
                return
            if self.in_main_thread:
                signal.pthread_kill(self._thread, signal.SIGALRM)
            else:
                interrupt(self._thread)
            self.wake()

    @staticmethod
    def _ring(_signal: int, frame: FrameType | None) -> None:
        # Raised while the block is being entered or left, it would leave the timer armed for whatever comes after.
        if frame is None or frame.f_code not in _EDGES:
            raise TimeUp


_EDGES = (Interruptible.__enter__.__code__, Interruptible.__exit__.__code__)


def interrupt(thread: int) -> None:
    """Have the thread raise TimeUp at its next bytecode."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeUp))
