"""The names of all that flowq keeps in Redis, with their shapes (see ``lua/lib/records.lua`` for what is in them)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under one prefix. No key of a run outlives the run's retention."""

    prefix: str

    def plan(self, plan: str) -> str:
        """A hash: ``document``, per node its row, ``c…`` for its canvas, ``last``: its latest run that completed.

        Kept while runs use it, then for their retention.
        """
        return f"{self.prefix}:plan:{plan}"

    def run(self, run: str) -> str:
        """A hash: the run's head."""
        return f"{self.prefix}:run:{run}"

    def nodes(self, run: str) -> str:
        """A hash: node to record."""
        return f"{self.prefix}:run:{run}:nodes"

    def values(self, run: str) -> str:
        """A hash: node to output, ``i`` + item to input."""
        return f"{self.prefix}:run:{run}:values"

    def failures(self, run: str) -> str:
        """A hash: node to its last failure, JSON."""
        return f"{self.prefix}:run:{run}:failures"

    def events(self, run: str) -> str:
        """A stream of field ``e``: lines ``node status attempt worker``, the worker only where it is another one."""
        return f"{self.prefix}:run:{run}:events"

    def results(self, run: str) -> str:
        """A hash: digest to a large value (the results store in Redis)."""
        return f"{self.prefix}:values:{run}"

    def lane(self, queue: str, lane: str) -> str:
        """A list of ready nodes, ``run node``; the lane is ``process`` or ``thread``."""
        return f"{self.prefix}:queue:{queue}:{lane}"

    def drains(self, queue: str) -> str:
        """A sorted set: drains at work or about to start, by when they are taken for lost (ms)."""
        return f"{self.prefix}:queue:{queue}:drains"

    def idle(self, queue: str) -> str:
        """A sorted set: drains that found nothing and listen for their bell, by until when (ms)."""
        return f"{self.prefix}:queue:{queue}:idle"

    def bell(self, token: str) -> str:
        """A list: not empty, there is something for the drain to do."""
        return f"{self.prefix}:bell:{token}"

    def picks(self, queue: str) -> str:
        """A hash: when a node's own message last came (ms), and the latest due time of those that have come."""
        return f"{self.prefix}:queue:{queue}:picks"

    @property
    def workers(self) -> str:
        """A sorted set: workers by when they are taken for dead (ms)."""
        return f"{self.prefix}:workers"

    @property
    def holders(self) -> str:
        """A sorted set: processes that hold claims, by when they are taken for dead (ms)."""
        return f"{self.prefix}:holders"

    def leases(self, holder: str) -> str:
        """A sorted set: the claims of a process, ``run node fence``, by when they were made (ms).

        Below 0: the process did not name it when it last said what it holds.
        """
        return f"{self.prefix}:leases:{holder}"

    @property
    def timers(self) -> str:
        """A sorted set: ``run node attempt`` by due time (ms)."""
        return f"{self.prefix}:timers"

    def due(self, run: str) -> str:
        """A sorted set, of a run that is dispatched as a canvas: nodes by when their messages are lost (ms)."""
        return f"{self.prefix}:run:{run}:due"

    @property
    def canvas(self) -> str:
        """A sorted set: runs that are dispatched as a canvas by when the sweep is to look after them (ms)."""
        return f"{self.prefix}:canvas"

    @property
    def open(self) -> str:
        """A set: the runs that have not ended."""
        return f"{self.prefix}:open"

    @property
    def dead(self) -> str:
        """A sorted set: nodes that were given up, ``run node``, by when (ms)."""
        return f"{self.prefix}:dead"

    @property
    def epoch(self) -> str:
        """A string, new when the store has lost its data."""
        return f"{self.prefix}:epoch"

    def staged(self, run: str, call: str) -> str:
        """A list: what a retry makes anew, until it does."""
        return f"{self.prefix}:run:{run}:staged:{call}"

    @property
    def finished(self) -> str:
        """A pub/sub channel: the ids of runs as they end."""
        return f"{self.prefix}:finished"
