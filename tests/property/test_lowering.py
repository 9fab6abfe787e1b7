"""Random graphs as Celery's chains, groups and chords: no barrier too many, none too few; and planted bugs in that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.plan import Plan, cutting, lower, lowering, order, regions
from flowq.plan.regions import to_json
from tests.property.calls import changed
from tests.property.choices import TIMEOUT_S, Choose, choices, examples, one_of, seeded, some_of
from tests.property.graphs import plans
from tests.property.lowered import ancestors, check, essential, graph, resolved, segments_of

pytestmark = pytest.mark.timeout(TIMEOUT_S)

SEEDS = 400


def random_dag(choose: Choose, most: int = 12) -> list[list[int]]:
    """Give upstreams without any order in them but that they come first."""
    density = one_of(choose, (2, 4, 8))
    return [[up for up in range(node) if choose(density) == 1] for node in range(1 + choose(most))]


def random_plan(choose: Choose, most: int = 12) -> Plan:
    """Give such a plan, with inline nodes and maps."""
    upstreams = random_dag(choose, most)
    rare = one_of(choose, (1, 2, 4))
    inline = [node for node in range(len(upstreams)) if choose(rare) == 1]
    maps = [node for node in range(len(upstreams)) if choose(6) == 1] if choose(3) == 1 else []
    return graph(*upstreams, inline=inline, maps=maps)


def random_series_parallel(choose: Choose) -> list[list[int]]:
    """Give upstreams that chains and groups say, and some of them twice."""
    upstreams: list[list[int]] = []
    _write(choose, upstreams, [], 3 + choose(5), choose(2) == 1)
    behind = ancestors(upstreams)
    for node, before in enumerate(upstreams):
        again = [up for up in range(node) if behind[node] >> up & 1]
        before[:] = sorted({*before, *some_of(choose, again, 2)})
    return upstreams


def _write(
    choose: Choose, upstreams: list[list[int]], before: Sequence[int], size: int, in_parallel: bool
) -> list[int]:
    """Write a part behind those that come before it; gives those that it ends with."""
    if size < 2:
        upstreams.append([*before])
        return [len(upstreams) - 1]
    left = 1 + choose(size - 1)
    ends = _write(choose, upstreams, before, left, not in_parallel)
    after = _write(choose, upstreams, before if in_parallel else ends, size - left, not in_parallel)
    return [*ends, *after] if in_parallel else after


@examples(200)
@given(choose=choices())
def test_the_cover_is_the_least_that_orders_the_same(choose: Choose) -> None:
    upstreams = random_dag(choose)
    found = order.cover(upstreams)
    assert found == essential(upstreams)
    assert ancestors(found) == ancestors(upstreams)


@examples(30)
@given(choose=choices(), block=st.sampled_from([1, 2, 5]))
def test_the_cover_of_a_graph_of_several_blocks(choose: Choose, block: int) -> None:
    upstreams = random_dag(choose)
    assert planted(order, "BLOCK = 8192", f"BLOCK = {block}").cover(upstreams) == essential(upstreams)


@examples(400)
@given(choose=choices(), chords=st.booleans())
def test_any_graph(choose: Choose, chords: bool) -> None:
    plan = graph(*random_dag(choose))
    check(plan, lower(plan, chords=chords), chords=chords)


@examples(300)
@given(choose=choices(), chords=st.booleans())
def test_with_inline_nodes_and_maps(choose: Choose, chords: bool) -> None:
    plan = random_plan(choose)
    check(plan, lower(plan, chords=chords), chords=chords)


@examples(60)
@given(plan=plans(14))
def test_what_the_compiler_gives(plan: Plan) -> None:
    check(plan, lower(plan))


@examples(150)
@given(choose=choices())
def test_what_chains_and_groups_can_say_they_say(choose: Choose) -> None:
    plan = graph(*random_series_parallel(choose))
    found = lower(plan)
    check(plan, found)
    assert resolved(found) == []


@examples(50)
@given(choose=choices())
def test_documents(choose: Choose) -> None:
    plan = random_plan(choose)
    found = lower(plan)
    assert [to_json(region) for region in segments_of(found)] == [to_json(one.region) for one in found.segments]
    again = lower(Plan.from_json(plan.document))
    assert (again.digest, again.fields) == (found.digest, found.fields)


@pytest.mark.parametrize("seeds", [range(2000), range(2000, 4000)], ids=str)
def test_many_graphs(seeds: range) -> None:
    """More of them than hypothesis tries: some need a dozen edges in the right places."""
    for seed in seeds:
        choose = seeded(seed)
        plan = random_plan(choose) if seed % 2 else graph(*random_dag(choose))
        try:
            check(plan, lower(plan))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {plan.document}") from error


class Bug(NamedTuple):
    """A piece of a module's text, and the wrong one in its place."""

    module: ModuleType
    right: str
    wrong: str


BUGS = {
    "an edge is left out": Bug(order, "reached |= behind[upstream]", "reached = behind[upstream] or reached"),
    "a redundant edge is kept": Bug(order, "if reached & own:", "if False:"),
    "regions with other upstreams are put in parallel": Bug(
        regions, "self.before[node] == before and self.after", "self.after"
    ),
    "regions with other downstreams are put in parallel": Bug(
        regions, "before and self.after[node] == after]", "before]"
    ),
    "a join follows one of its upstreams": Bug(
        regions, "return following if len(self.before[following]) == 1 else None", "return following"
    ),
    "a fork is followed by one of its downstreams": Bug(
        regions, "if len(self.after[node]) != 1 or not", "if not self.after[node] or not"
    ),
    "something follows what may not precede": Bug(regions, "!= 1 or not self.is_open[node]:", "!= 1:"),
    "a region is open by its first node": Bug(regions, "self.is_open[node] = self.is_open[following]", "pass"),
    "siblings follow what may not precede": Bug(
        regions, "all(self.is_open[node] and node not in followed for", "all(node not in followed for"
    ),
    "a region is followed up twice": Bug(regions, "and node not in followed for", "for"),
    "a group ends with one of its slots": Bug(
        regions, "place.among.behind if len(place.among.slots) == 1 else None", "place.among.behind"
    ),
    "something follows the items of a map": Bug(lowering, "not plan.nodes[node].is_map and node not in", "node not in"),
    "something waits for what is inline": Bug(lowering, "is_map and node not in closed", "is_map"),
    "an inline source has no message": Bug(lowering, "is FlowType.INLINE and node.edges)", "is FlowType.INLINE)"),
    "a branch with several ends is counted": Bug(
        cutting, "(_countable(branch) for branch in last.parts)", "(branch for branch in last.parts)"
    ),
    "what is cut off is lost": Bug(lowering, "(*pieces, *rest)", "pieces"),
    "a message grows too large": Bug(cutting, "MAX_MESSAGE = 55_000", "MAX_MESSAGE = 600_000"),
    "messages carry too much": Bug(cutting, "CARRIED = 5", "CARRIED = 500"),
    "a chord where there is none": Bug(cutting, "if not self._chords:", "if False:"),
    "heads are miscounted": Bug(lowering, "{index} {len(segment.heads)}", "{index} {len(segment.heads) + 1}"),
}


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_a_planted_bug(bug: Bug) -> None:
    parts = {part.__name__: part for part in (order, regions, cutting, lowering)}
    for name in ("flowq.plan.order", "flowq.plan.regions", "flowq.plan.cutting", "flowq.plan.lowering"):
        text = (bug.right, bug.wrong) if bug.module.__name__ == name else ("", "")
        parts[name] = planted(parts[name], *text, using=parts)
    found = any(
        _fails(seed, parts["flowq.plan.order"], parts["flowq.plan.lowering"]) and not _fails(seed, order, lowering)
        for seed in range(SEEDS)
    )
    assert found, f"the bug is not found in {SEEDS} examples"


def _fails(seed: int, order: ModuleType, lowering: ModuleType) -> bool:
    choose, chords = seeded(seed), seed % 4 != 3
    upstreams = random_dag(choose)
    plan = _large(seed) if seed % 50 == 0 else random_plan(choose)
    try:
        assert order.cover(upstreams) == essential(upstreams)
        check(plan, lowering.lower(plan, chords=chords), chords=chords)
    except Exception:  # in whatever way
        return True
    return False


def _large(seed: int) -> Plan:
    """Give a plan that must be cut: a chain, or a fan-out and -in."""
    if seed % 100:
        return graph([], *([node] for node in range(130)))
    return graph([], *([0] for _ in range(200)), range(1, 201))


def planted(module: ModuleType, right: str, wrong: str, *, using: dict[str, ModuleType] | None = None) -> ModuleType:
    """Give a copy of a module with a piece of its text changed, which imports other copies."""
    assert module.__file__ is not None
    source = Path(module.__file__).read_text("utf-8")
    if right:
        source = changed(source, [(right, wrong)])
    for name, other in (using or {}).items():
        source = source.replace(f"from {name} import", f"from {other.__name__} import")
    copy = ModuleType(f"{module.__name__.rpartition('.')[2]}_with_a_bug")
    sys.modules[copy.__name__] = copy  # dataclasses look their module up
    exec(compile(source, module.__file__, "exec"), vars(copy))  # noqa: S102
    return copy
