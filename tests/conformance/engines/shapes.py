"""Graphs in the shapes that published workflows have, made by a generator: name to the names of its upstreams.

The shapes follow what is known of the WfCommons collection (https://wfcommons.org): chains, fork-joins, BLAST's wide
bipartite stages, Montage's blocks that no nesting of series and parallel can express, and layered graphs in general.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Mapping
from graphlib import TopologicalSorter
from typing import TypeAlias

Shape: TypeAlias = dict[str, list[str]]


def chain(length: int) -> Shape:
    """One after the other."""
    return {f"n{i}": [f"n{i - 1}"] if i else [] for i in range(length)}


def fork_join(width: int) -> Shape:
    """One, many, one."""
    middle = [f"part{i}" for i in range(width)]
    return {"split": [], **{name: ["split"] for name in middle}, "merge": middle}


def blast(width: int = 40, joins: int = 2) -> Shape:
    """A split, wide searches, and several joins that each need all of them."""
    searches = [f"search{i}" for i in range(width)]
    return {
        "split": [],
        **{name: ["split"] for name in searches},
        **{f"join{i}": searches for i in range(joins)},
    }


def montage(tiles: int = 12) -> Shape:
    """Overlaps between neighbouring tiles, one background model of all of them, one correction per tile.

    A correction needs the model and its own tile's projection: an irreducible block.
    """
    shape: Shape = {f"project{i}": [] for i in range(tiles)}
    for i in range(tiles - 1):
        shape[f"diff{i}"] = [f"project{i}", f"project{i + 1}"]
    shape["concat"] = [f"diff{i}" for i in range(tiles - 1)]
    shape["model"] = ["concat"]
    for i in range(tiles):
        shape[f"background{i}"] = [f"project{i}", "model"]
    shape["table"] = [f"background{i}" for i in range(tiles)]
    shape["mosaic"] = ["table", *(f"background{i}" for i in range(tiles))]
    shape["shrink"] = ["mosaic"]
    return shape


def wide(width: int = 1100) -> Shape:
    """Over 2,000 nodes, with one that waits for 1,100."""
    shape: Shape = {"root": []}
    for i in range(width):
        shape[f"first{i}"] = ["root"]
        shape[f"second{i}"] = [f"first{i}"]
    shape["all"] = [f"second{i}" for i in range(width)]
    return shape


def layered(layers: int, width: int, seed: int, edges: int = 3) -> Shape:
    """Give a random graph: nodes of a layer take from up to ``edges`` nodes of earlier ones, mostly of the last."""
    choose = random.Random(seed)
    shape: Shape = {}
    before: list[list[str]] = []
    for layer in range(layers):
        names = [f"l{layer}n{i}" for i in range(choose.randint(1, width))]
        for name in names:
            upstreams: set[str] = set()
            if before:
                upstreams.add(choose.choice(before[-1]))  # so that the depth is what was asked for
                earlier = [other for names_before in before for other in names_before]
                upstreams |= set(choose.sample(earlier, min(choose.randint(0, edges - 1), len(earlier))))
            shape[name] = sorted(upstreams)
        before.append(names)
    return shape


SHAPES: Mapping[str, Callable[[], Shape]] = {
    "chain of 5": lambda: chain(5),
    "chain of 25": lambda: chain(25),
    "fork-join of 10": lambda: fork_join(10),
    "BLAST, 40 x 2": blast,
    "Montage": montage,
    "layered, 25 deep": lambda: layered(25, 8, seed=1),
    "layered, seed 2": lambda: layered(6, 12, seed=2, edges=5),
    "layered, seed 3": lambda: layered(12, 5, seed=3),
    "2,202 nodes, one waits for 1,100": wide,
}


def digest(name: str, upstreams: Mapping[str, str]) -> str:
    """What a node returns: it depends on its name and on all that its upstreams returned."""
    text = "\n".join([name, *(f"{upstream}={upstreams[upstream]}" for upstream in sorted(upstreams))])
    return hashlib.sha256(text.encode()).hexdigest()


def evaluate(shape: Shape) -> dict[str, str]:
    """Evaluate a graph one node after the other, without any engine."""
    found: dict[str, str] = {}
    for name in TopologicalSorter(shape).static_order():
        found[name] = digest(name, {upstream: found[upstream] for upstream in shape[name]})
    return found
