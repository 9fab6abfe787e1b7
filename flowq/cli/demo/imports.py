"""Who imports whom in a tree of modules, and which of them import each other in a ring.

A module of a package counts as importing what it names, not also the packages above: ``import a.b`` is an edge to
``a.b`` alone, although Python runs ``a`` first. Names from outside the tree (C modules among them) are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from flowq.cli.demo.measure import TOP
from flowq.cli.demo.models import Count, ImportGraph, Measure

Edges = Mapping[str, frozenset[str]]
"""Per module, those that it imports."""


def graph_of(measures: Iterable[Measure]) -> ImportGraph:
    """Analyse the imports of all modules of a tree."""
    modules = {measure.module: measure for measure in measures}
    edges = {name: _resolve(name, measure.imports, modules) for name, measure in modules.items()}
    late = {name: _resolve(name, measure.late_imports, modules) - edges[name] for name, measure in modules.items()}
    components = strongly_connected(edges)
    cycles = sorted((sorted(one) for one in components if len(one) > 1), key=lambda one: (-len(one), one))
    with_late = strongly_connected({name: edges[name] | late[name] for name in edges})
    inside = [set(cycle) for cycle in cycles]
    broken = [one for one in with_late if len(one) > 1 and not any(set(one) <= cycle for cycle in inside)]
    counts = Counter(target for targets in edges.values() for target in targets)
    chain = _longest_chain(edges, components)
    return ImportGraph(
        edges=sum(map(len, edges.values())),
        late_edges=sum(map(len, late.values())),
        most_imported=[
            Count(module=name, count=count)
            for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:TOP]
        ],
        cycles=cycles,
        broken_cycles=len(broken),
        depth=len(chain),
        chain=chain,
    )


def _resolve(importer: str, names: Iterable[str], modules: Mapping[str, object]) -> frozenset[str]:
    """Give the modules of the tree that the names mean: the longest known part of each."""
    found = set()
    for name in names:
        while name and name not in modules:
            name = name.rpartition(".")[0]
        if name and name != importer:
            found.add(name)
    return frozenset(found)


def strongly_connected(edges: Edges) -> list[list[str]]:
    """Give the strongly connected components, each after all those that it leads to (Tarjan 1972, not recursive)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    path: list[str] = []
    on_path: set[str] = set()
    components: list[list[str]] = []
    for root in sorted(edges):
        if root in index:
            continue
        work = [(root, iter(sorted(edges[root])))]
        while work:
            node, targets = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                path.append(node)
                on_path.add(node)
            for target in targets:
                if target not in index:
                    work.append((target, iter(sorted(edges[target]))))
                    break
                if target in on_path:
                    low[node] = min(low[node], index[target])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    start = path.index(node)
                    components.append(path[start:])
                    on_path.difference_update(path[start:])
                    del path[start:]
    return components


def _longest_chain(edges: Edges, components: list[list[str]]) -> list[str]:
    """Give a longest line of imports between components; a ring counts once, by the module that leads on."""
    home = {name: position for position, component in enumerate(components) for name in component}
    best: list[list[str]] = []
    for position, component in enumerate(components):  # what a component leads to has come before it
        longest: list[str] = []
        entry = min(component)
        for name in sorted(component):
            for target in sorted(edges[name]):
                if home[target] != position and len(best[home[target]]) > len(longest):
                    longest, entry = best[home[target]], name
        best.append([entry, *longest])
    return max(best, key=len, default=[])
