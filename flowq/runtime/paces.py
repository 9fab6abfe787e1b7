"""How long attempts take, by what their processors took before."""

from __future__ import annotations

UNKNOWN_S = 1.0
"""What nothing is known of is taken to be slow: it is stored as soon as it has ended."""


class Paces:
    """What one process expects of processors: quick to rise, slow to fall. Any number of threads may use it."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}

    def expect(self, processor: str) -> float:
        """Give the seconds that an attempt will probably take."""
        return self._known.get(processor, UNKNOWN_S)

    def note(self, processor: str, took_s: float) -> None:
        """An attempt took so long."""
        known = self._known.get(processor, took_s)
        self._known[processor] = took_s if took_s > known else (known + took_s) / 2
