"""Where attempts run, and what stops them."""

from flowq.execution.limits import Interruptible, TimeUp
from flowq.execution.pool import ProcessPoolManager
from flowq.execution.process import ProcessDied

__all__ = ["Interruptible", "ProcessDied", "ProcessPoolManager", "TimeUp"]
