"""How long attempts take, by what their processors took before."""

from __future__ import annotations

UNKNOWN_S = 1.0
"""What nothing is known of is taken to be slow: it is stored as soon as it has ended."""


class Paces:
    """What one process expects of processors: quick to rise, slow to fall. Any number of threads may use it.

    An attempt that took long alone among others says nothing: the system may have had its process wait.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[float, float]] = {}
        """By processor: what is expected, and what the last attempt took."""
        self.lately_s = UNKNOWN_S
        """What the quickest batch of the last drain took, for each of its claims."""

    def expect(self, processor: str) -> float:
        """Give the seconds that an attempt will probably take."""
        known = self._known.get(processor)
        return UNKNOWN_S if known is None else known[0]

    def note(self, processor: str, took_s: float) -> None:
        """An attempt took so long."""
        expected, before = self._known.get(processor, (took_s, took_s))
        twice = took_s if took_s < before else before
        if twice > expected:
            expected = twice
        elif took_s < expected:
            expected = (expected + took_s) / 2
        self._known[processor] = expected, took_s
