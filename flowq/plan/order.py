"""The order that a plan's edges make: what must come before what, without the edges that say it twice."""

from __future__ import annotations

from collections.abc import Sequence

BLOCK = 8192
"""So many nodes are followed at once, one bit each: memory is a kilobyte per node, whatever the graph's size."""


def cover(upstreams: Sequence[Sequence[int]]) -> list[tuple[int, ...]]:
    """Give, per node, those of its upstreams that no other of its upstreams comes after.

    Nodes are in topological order. What is left (the transitive reduction) orders the nodes as all the edges do.
    """
    redundant: list[set[int]] = [set() for _ in upstreams]
    joins = [node for node, before in enumerate(upstreams) if len(before) > 1]
    for first in range(0, len(upstreams) if joins else 0, BLOCK):
        behind = [0] * len(upstreams)
        """Per node, the nodes of the block that lie before it, as bits."""
        for node in range(first, len(upstreams)):
            reached = own = 0
            for upstream in upstreams[node]:
                reached |= behind[upstream]
                if first <= upstream < first + BLOCK:
                    own |= 1 << (upstream - first)
            if reached & own:
                redundant[node].update(first + bit for bit in _bits(reached & own))
            behind[node] = reached | own
    return [
        tuple(upstream for upstream in before if upstream not in redundant[node])
        for node, before in enumerate(upstreams)
    ]


def invert(upstreams: Sequence[Sequence[int]]) -> list[list[int]]:
    """Give the downstream nodes of every node."""
    found: list[list[int]] = [[] for _ in upstreams]
    for node, before in enumerate(upstreams):
        for upstream in before:
            found[upstream].append(node)
    return found


def _bits(number: int) -> list[int]:
    found = []
    while number:
        lowest = number & -number
        found.append(lowest.bit_length() - 1)
        number ^= lowest
    return found
