"""For tests of flows: pytest fixtures (``flowq.testing.plugin``), and how to wait without sleeping."""

from flowq.testing.waiting import wait_until

__all__ = ["wait_until"]
