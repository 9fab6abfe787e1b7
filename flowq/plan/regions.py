"""Series-parallel regions: what of a graph can be said in chains, groups and chords without a barrier it lacks.

Two rules are applied until neither fits any more. *In parallel*: regions that come after the same and before the same
become one. *In series*: a region that is all that comes before another one, which comes after nothing else, becomes one
with it. What is left is irreducible; there, whatever can still be chained or joined is taken together by ``pack``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from flowq.plan.order import invert


@dataclass(frozen=True, slots=True)
class Series:
    """One after the other: each begins when all of the one before has ended."""

    parts: tuple[Region, ...]


@dataclass(frozen=True, slots=True)
class Parallel:
    """Side by side: they begin together."""

    parts: tuple[Region, ...]


Region: TypeAlias = int | Series | Parallel
"""A node of the graph, or regions put together."""


JOIN = -1
"""Stands in a region for a task that does nothing: a chord can count a branch that ends in several tasks only if one
more follows them. What comes after waits for them anyway."""


def in_series(parts: Iterable[Region]) -> Region:
    """Put regions one after the other."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Series) else (part,)))
    return flat[0] if len(flat) == 1 else Series(flat)


def in_parallel(parts: Iterable[Region]) -> Region:
    """Put regions side by side."""
    flat = tuple(inner for part in parts for inner in (part.parts if isinstance(part, Parallel) else (part,)))
    return flat[0] if len(flat) == 1 else Parallel(flat)


def nodes_of(region: Region) -> Iterator[int]:
    """Give all nodes of a region."""
    todo = [region]
    while todo:
        part = todo.pop()
        if isinstance(part, int):
            yield part
        else:
            todo.extend(reversed(part.parts))


def heads_of(region: Region) -> Iterator[int]:
    """Give the nodes that a region begins with."""
    todo = [region]
    while todo:
        part = todo.pop()
        if isinstance(part, int):
            yield part
        else:
            todo.extend(part.parts[:1] if isinstance(part, Series) else reversed(part.parts))


def parts_of(region: Region) -> Sequence[Region]:
    """Give the regions that one is put together of; a node has none."""
    return () if isinstance(region, int) else region.parts


T = TypeVar("T")
R = TypeVar("R")


def fold(root: T, parts: Callable[[T], Iterable[T]], combine: Callable[[T, list[R]], R]) -> R:
    """Work out a value from the leaves up: of a tree of any depth, as nested as a graph may be long."""
    done: list[R] = []
    todo: list[tuple[T, int]] = [(root, -1)]
    while todo:
        part, count = todo.pop()
        if count < 0:
            inner = list(parts(part))
            todo.append((part, len(inner)))
            todo.extend((one, -1) for one in reversed(inner))
        else:
            values = done[len(done) - count :]
            del done[len(done) - count :]
            done.append(combine(part, values))
    return done[0]


def to_json(region: Region) -> Any:
    """Give a region as plain JSON: a number, or a list that begins with ``chain`` or ``group``."""

    def combine(part: Region, inner: list[Any]) -> Any:
        return part if isinstance(part, int) else ["chain" if isinstance(part, Series) else "group", *inner]

    return fold(region, parts_of, combine)


def from_json(content: Any) -> Region:
    """Read a region back."""
    if isinstance(content, int):
        return content
    kind, *parts = content
    return (Series if kind == "chain" else Parallel)(tuple(map(from_json, parts)))


def regions(upstreams: Sequence[Sequence[int]], can_precede: Callable[[int], bool]) -> list[Region]:
    """Give the maximal regions of a graph without redundant edges (see ``order.cover``).

    Args:
        upstreams: per node, what it comes after; in topological order.
        can_precede: tells of a node whether the region that it ends may be followed by another one in series.

    Each region begins at once when all that comes before it has ended. Their order is that of their first nodes.
    """
    graph = _Quotient(upstreams, can_precede)
    graph.reduce()
    return graph.pack()


class _Quotient:
    """The graph of regions; a region goes by the number of one of its nodes."""

    def __init__(self, upstreams: Sequence[Sequence[int]], can_precede: Callable[[int], bool]) -> None:
        self.region: dict[int, Region] = {node: node for node in range(len(upstreams))}
        self.before = {node: set(found) for node, found in enumerate(upstreams)}
        self.after = {node: set(found) for node, found in enumerate(invert(upstreams))}
        self.is_open = {node: can_precede(node) for node in self.region}

    def reduce(self) -> None:
        """Apply both rules until neither fits any more; after the first round, only where something has changed."""
        changed = set(self.region)
        while changed:
            touched = self._put_in_parallel(changed)
            near = {upstream for node in changed | touched if node in self.region for upstream in self.before[node]}
            touched |= self._put_in_series(changed | touched | near)
            changed = touched & self.region.keys()

    def _put_in_parallel(self, candidates: set[int]) -> set[int]:
        touched: set[int] = set()
        seen: set[tuple[frozenset[int], frozenset[int]]] = set()
        for node in sorted(candidates):
            if node not in self.region or not (self.before[node] or self.after[node]):
                continue
            neighbours = frozenset(self.before[node]), frozenset(self.after[node])
            if neighbours in seen:
                continue
            seen.add(neighbours)
            kept, *others = sorted(self._alike(*neighbours))
            if others:
                self.region[kept] = in_parallel(self.region[other] for other in (kept, *others))
                self.is_open[kept] = all(self.is_open[other] for other in (kept, *others))
                for other in others:
                    self._drop(other)
                touched |= {kept, *self.before[kept], *self.after[kept]}
        return touched

    def _alike(self, before: frozenset[int], after: frozenset[int]) -> list[int]:
        """Give all regions with these neighbours: they are among those of any neighbour."""
        among = min((*(self.after[node] for node in before), *(self.before[node] for node in after)), key=len)
        return [node for node in among if self.before[node] == before and self.after[node] == after]

    def _put_in_series(self, candidates: set[int]) -> set[int]:
        touched: set[int] = set()
        for node in sorted(candidates):
            if node not in self.region:
                continue
            parts = [self.region[node]]
            while (following := self._following(node)) is not None:
                parts.append(self.region[following])
                self._take_place(node, following)
            if len(parts) > 1:
                self.region[node] = in_series(parts)
                touched |= {node, *self.before[node], *self.after[node]}
        return touched

    def _following(self, node: int) -> int | None:
        """Give the region that can be put in series with this one, if there is one."""
        if len(self.after[node]) != 1 or not self.is_open[node]:
            return None
        (following,) = self.after[node]
        return following if len(self.before[following]) == 1 else None

    def _take_place(self, node: int, following: int) -> None:
        self.is_open[node] = self.is_open[following]
        self.after[node] = self.after.pop(following)
        for downstream in self.after[node]:
            self.before[downstream].remove(following)
            self.before[downstream].add(node)
        del self.before[following], self.region[following]

    def _drop(self, node: int) -> None:
        for upstream in self.before.pop(node):
            self.after[upstream].remove(node)
        for downstream in self.after.pop(node):
            self.before[downstream].remove(node)
        del self.region[node]

    def pack(self) -> list[Region]:
        """Take together what the irreducible rest allows.

        Regions that come after the same ones are siblings: they begin together, so that a chord may join some of them,
        or a group may put all of them behind the one that they come after. Each region can be followed up once; what
        saves most edges goes first.
        """
        families: dict[frozenset[int], _Siblings] = {}
        home: dict[int, _Slot] = {}
        wanted: Counter[int] = Counter()
        for node, before in self.before.items():
            family = families.setdefault(frozenset(before), _Siblings(frozenset(before)))
            home[node] = slot = _Slot(node, family)
            family.slots[slot] = None
        for family in families.values():
            wanted.update(family.after)

        def order(family: _Siblings) -> tuple[int, int, int]:
            contention = sum(wanted[node] for node in family.after)
            return -len(family.after) * len(family.slots), contention, min(slot.node for slot in family.slots)

        followed: set[int] = set()
        for family in sorted((family for family in families.values() if family.after), key=order):
            is_open = all(self.is_open[node] and node not in followed for node in family.after)
            if is_open and _attach(family, home):
                followed |= family.after
        free = [slot for family in families.values() if family.behind is None for slot in family.slots]
        built = [fold(slot, _Slot.parts, self._build) for slot in free]
        return sorted(built, key=lambda region: next(nodes_of(region)))

    def _build(self, slot: _Slot, parts: list[Region]) -> Region:
        begin = in_parallel(parts[: len(slot.inner)]) if slot.inner else self.region[slot.node]
        return begin if slot.then is None else in_series([begin, in_parallel(parts[len(slot.inner) :])])


@dataclass(eq=False, slots=True)
class _Slot:
    """A region, or several side by side (``inner``), and the siblings that were put behind."""

    node: int
    among: _Siblings
    inner: tuple[_Slot, ...] = ()
    then: _Siblings | None = None

    def parts(self) -> Iterable[_Slot]:
        return (*self.inner, *(self.then.slots if self.then else ()))


@dataclass(eq=False, slots=True)
class _Siblings:
    """All regions that come after the same ones."""

    after: frozenset[int]
    slots: dict[_Slot, None] = field(default_factory=dict)
    behind: _Slot | None = None


def _attach(family: _Siblings, home: dict[int, _Slot]) -> bool:
    """Put siblings behind those that they come after, if these end slots that begin together."""
    ways = [{slot.among: slot for slot in _slots_ended_by(home[node])} for node in sorted(family.after)]
    among = next((among for among in ways[0] if all(among in way for way in ways)), None)
    if among is None:
        return False
    slots = [way[among] for way in ways]
    slot = slots[0]
    if len(slots) > 1:
        slot = _Slot(slot.node, among, inner=tuple(slots))
        for inner in slots:
            del among.slots[inner]
        among.slots[slot] = None
    slot.then = family
    family.behind = slot
    return True


def _slots_ended_by(slot: _Slot) -> Iterator[_Slot]:
    """Give the slots that end with a region, from its own one outwards."""
    place: _Slot | None = slot
    while place is not None:
        yield place
        place = place.among.behind if len(place.among.slots) == 1 else None
