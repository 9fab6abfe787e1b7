"""Plans as Celery's chains, groups and chords: known shapes, and what they cost."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest

from flowq.plan import EdgeKind, Lowering, Plan, lower, region_from_json
from flowq.plan.cutting import MAX_NESTED, Cutter
from flowq.plan.order import cover, invert
from flowq.plan.regions import JOIN, Parallel, Series, nodes_of, regions, to_json
from tests.property.lowered import ancestors, check, graph, resolved, segments_of, show, upstreams_of


def lowered(plan: Plan) -> Lowering:
    found = lower(plan)
    check(plan, found)
    return found


def shown(*upstreams: Sequence[int], inline: Sequence[int] = (), maps: Sequence[int] = ()) -> list[str]:
    """Lower a plan, and write its segments down."""
    return [show(region) for region in segments_of(lowered(graph(*upstreams, inline=inline, maps=maps)))]


def whole(*upstreams: Sequence[int]) -> list[str]:
    """Write a graph's regions down, before anything is cut."""
    return [show(region) for region in regions(cover(upstreams), lambda node: True)]


class Growing:
    """Upstreams written down step by step."""

    def __init__(self) -> None:
        self.upstreams: list[list[int]] = []

    def add(self, *before: int) -> int:
        self.upstreams.append(sorted(set(before)))
        return len(self.upstreams) - 1

    def many(self, count: int, *before: int) -> list[int]:
        return [self.add(*before) for _ in range(count)]

    def chain(self, length: int, *before: int) -> int:
        last = before
        for _ in range(length):
            last = (self.add(*last),)
        return last[0]

    @property
    def plan(self) -> Plan:
        return graph(*self.upstreams)


def chain(length: int) -> Plan:
    growing = Growing()
    growing.chain(length)
    return growing.plan


def left_deep(leaves: int) -> Plan:
    """A sum from left to right: each sum takes the last one and a leaf."""
    growing = Growing()
    first, *others = growing.many(leaves)
    for leaf in others:
        first = growing.add(first, leaf)
    return growing.plan


def ladder(rungs: int) -> Plan:
    growing = Growing()
    left, right = growing.add(), growing.add()
    for _ in range(rungs):
        left, right = growing.add(left), growing.add(left, right)
    return growing.plan


def nested(depth: int) -> Plan:
    """Fork-joins in fork-joins, as deep as the plan is long."""
    growing = Growing()
    last = growing.add()
    sides = []
    for _ in range(depth):
        last, side = growing.many(2, last)
        sides.append(side)
    for side in reversed(sides):
        last = growing.add(last, side)
    return growing.plan


def layers(count: int, width: int) -> Plan:
    growing = Growing()
    layer: list[int] = []
    for _ in range(count):
        layer = growing.many(width, *layer)
    return growing.plan


class TestCover:
    def test_what_is_said_twice_is_left_out(self) -> None:
        assert cover([[], [0], [0, 1], [0, 1, 2]]) == [(), (0,), (1,), (2,)]

    def test_of_a_graph_of_several_blocks(self) -> None:
        long = [[*range(max(0, index - 2), index)] for index in range(20_000)]
        assert cover(long) == [(), *((index,) for index in range(19_999))]

    def test_without_edges(self) -> None:
        assert cover([]) == []
        assert cover([[], []]) == [(), ()]

    def test_invert(self) -> None:
        assert invert([[], [0], [0, 1]]) == [[1, 2], [2], []]


class TestRegions:
    @pytest.mark.parametrize(
        ("upstreams", "expected"),
        [
            ([[], [0], [1]], ["0 > 1 > 2"]),
            ([[], [0], [0], [1, 2]], ["0 > (1 | 2) > 3"]),
            ([[], [], [0, 1], [0, 1]], ["(0 | 1) > (2 | 3)"]),
            ([[], [0], [0], [1], [2], [3, 4]], ["0 > (1 > 3 | 2 > 4) > 5"]),
            ([[], []], ["0", "1"]),
        ],
    )
    def test_series_and_parallel(self, upstreams: list[list[int]], expected: list[str]) -> None:
        assert whole(*upstreams) == expected

    def test_what_may_not_precede_ends_its_region(self) -> None:
        assert [show(region) for region in regions([[], [0], [1]], lambda node: node != 1)] == ["0 > 1", "2"]

    def test_the_order_is_that_of_their_first_nodes(self) -> None:
        found = regions(cover([[], [], [0, 1], [1]]), lambda node: True)
        firsts = [next(nodes_of(region)) for region in found]
        assert firsts == sorted(firsts)

    def test_an_irreducible_rest_is_packed(self) -> None:
        assert whole([], [], [0], [0, 1]) == ["(0 | 1) > 3", "2"]


class TestShapes:
    def test_chain(self) -> None:
        assert shown([], [0], [1], [2]) == ["0 > 1 > 2 > 3"]

    def test_fork_join(self) -> None:
        assert shown([], [0], [0], [0], [1, 2, 3]) == ["0 > (1 | 2 | 3) > 4"]

    def test_fork_joins_in_fork_joins(self) -> None:
        found = shown([], [0], [0], [1], [1], [3, 4], [2, 5])
        assert found == ["0 > (1 > (3 | 4) > 5 | 2) > 6"]

    def test_a_branch_that_ends_in_several_is_counted_by_one_more(self) -> None:
        (region,) = segments_of(lowered(graph([], [0], [0], [1], [1], [2, 3, 4])))
        assert show(region) == "0 > (1 > (3 | 4) > J | 2) > 5"
        assert list(nodes_of(region)).count(JOIN) == 1

    def test_40_by_2_bipartite(self) -> None:
        found = lowered(graph(*([] for _ in range(40)), range(40), range(40)))
        assert resolved(found) == []
        assert [show(region) for region in segments_of(found)] == [f"({' | '.join(map(str, range(40)))}) > (40 | 41)"]

    def test_epigenomics(self) -> None:
        growing = Growing()
        merged = []
        for width in (4, 3, 5):
            split = growing.add()
            merged.append(growing.add(*(growing.chain(4, split) for _ in range(width))))
        tail = growing.chain(3, *merged)
        found = lowered(growing.plan)
        assert resolved(found) == []
        regions_found = segments_of(found)
        assert sum(len([node for node in nodes_of(region) if node != JOIN]) for region in regions_found) == tail + 1

    def test_reduction_tree(self) -> None:
        growing = Growing()
        level = growing.many(16)
        while len(level) > 1:
            level = [growing.add(*pair) for pair in zip(level[::2], level[1::2], strict=True)]
        found = lowered(growing.plan)
        assert resolved(found) == []
        assert shown([], [], [], [], [0, 1], [2, 3], [4, 5]) == ["((0 | 1) > 4 | (2 | 3) > 5) > 6"]

    def test_n(self) -> None:
        """The smallest graph that no chain, group or chord says: here 2 waits for 0 alone."""
        found = lowered(graph([], [], [0], [0, 1]))
        assert [show(region) for region in segments_of(found)] == ["(0 | 1) > 3", "2"]
        assert resolved(found) == [(0, 2)]
        assert found.edges == {
            (0, 2): EdgeKind.RESOLVER,
            (0, 3): EdgeKind.CANVAS,
            (1, 3): EdgeKind.CANVAS,
        }

    def test_montage(self) -> None:
        growing = Growing()
        projects = growing.many(6)
        diffs = [growing.add(*pair) for pair in itertools.pairwise(projects)]
        diffs += [growing.add(projects[0], projects[3]), growing.add(projects[2], projects[5])]
        model = growing.chain(2, *diffs)
        backgrounds = [growing.add(model, project) for project in projects]
        last = growing.chain(4, growing.add(*backgrounds), *backgrounds)
        found = lowered(growing.plan)
        assert all(
            found.edges[project, back] is EdgeKind.IMPLIED for project, back in zip(projects, backgrounds, strict=True)
        )
        concat = diffs[-1] + 1
        assert {node for _, node in resolved(found)} <= {*diffs, concat}, "from there on, Celery says it all"
        assert last == len(growing.plan) - 1
        assert found.edges[backgrounds[0], backgrounds[-1] + 1] is EdgeKind.CANVAS

    def test_a_parent_that_comes_after_its_whole_subtree(self) -> None:
        """As the class form writes it: every parent waits for all its children, and these for what it waits for."""
        assert shown([], [0], [0, 1], [0, 1, 2], [0, 1, 2, 3]) == ["0 > 1 > 2 > 3 > 4"]
        found = lowered(graph([], [0], [0], [0, 1, 2], [0, 3]))
        assert [show(region) for region in segments_of(found)] == ["0 > (1 | 2) > 3 > 4"]
        assert found.edges[0, 3] is found.edges[0, 4] is EdgeKind.IMPLIED

    def test_without_nodes(self) -> None:
        assert shown() == []
        assert lower(Plan(())).starts == []


class TestMaps:
    def test_what_follows_a_map_is_released(self) -> None:
        found = lowered(graph([], [0], [1], [2], maps=[1]))
        assert [show(region) for region in segments_of(found)] == ["0 > 1", "2 > 3"]
        assert found.edges == {(0, 1): EdgeKind.CANVAS, (1, 2): EdgeKind.MAP, (2, 3): EdgeKind.CANVAS}
        assert found.fields["2"] == "1 1"

    def test_a_map_beside_others(self) -> None:
        assert shown([], [0], [0], [1, 2], maps=[1]) == ["0 > (1 | 2)", "3"]

    def test_maps_in_a_row(self) -> None:
        assert shown([], [0], [1], maps=[0, 1, 2]) == ["0", "1", "2"]


class TestInline:
    def test_it_has_no_message(self) -> None:
        found = lowered(graph([], [0], [1], inline=[1]))
        assert [show(region) for region in segments_of(found)] == ["0 > 2"]
        assert found.fields["1"] == "i"
        assert found.edges == {(0, 1): EdgeKind.INLINE, (1, 2): EdgeKind.CANVAS}

    def test_a_source_has_one_all_the_same(self) -> None:
        assert shown([], [0], inline=[0]) == ["0 > 1"]

    def test_what_stands_beside_it_is_not_kept_waiting(self) -> None:
        found = lowered(graph([], [0], [0], [1, 2], inline=[1]))
        assert [show(region) for region in segments_of(found)] == ["0", "2", "3"]
        assert found.edges[0, 2] is EdgeKind.RESOLVER

    def test_that_joins(self) -> None:
        assert shown([], [0], [0], [1, 2], [3], inline=[3]) == ["0 > (1 | 2) > 4"]

    def test_after_a_map(self) -> None:
        assert shown([], [0], [1], maps=[0], inline=[1]) == ["0", "2"]

    def test_several_that_the_same_follow(self) -> None:
        assert shown([], [0], [0], [1, 2], inline=[1, 2]) == ["0 > 3"]

    def test_only_inline_nodes_follow(self) -> None:
        assert shown([], [0], [0], [1, 2], inline=[1, 2, 3]) == ["0"]


class TestDocuments:
    PLAN = graph([], [0], [0], [1], [2, 3], [0], [5], maps=[5], inline=[3])

    def test_a_region_is_read_back(self) -> None:
        region = Series((0, Parallel((1, Series((2, Parallel((3, 4)), JOIN)))), 5))
        written = json.dumps(to_json(region))
        assert written == '["chain", 0, ["group", 1, ["chain", 2, ["group", 3, 4], -1]], 5]'
        assert region_from_json(json.loads(written)) == region

    def test_segments_are_read_back(self) -> None:
        found = lower(self.PLAN)
        assert segments_of(found) == [segment.region for segment in found.segments]
        assert found.starts == [found.segments[index].region for index in found.sources]

    def test_the_same_plan_has_the_same_digest_everywhere(self) -> None:
        digest = lower(self.PLAN).digest
        assert lower(Plan.from_json(self.PLAN.document)).digest == digest
        assert lower(self.PLAN, chords=False).digest != digest
        assert lower(graph([], [0])).digest != lower(graph([], [])).digest


class TestWithoutChords:
    def test_nothing_follows_a_group(self) -> None:
        plan = graph([], [0], [0], [1, 2], [3])
        found = lower(plan, chords=False)
        check(plan, found, chords=False)
        assert [show(region) for region in segments_of(found)] == ["0 > (1 | 2)", "3 > 4"]
        assert found.edges[1, 3] is EdgeKind.CONTINUATION


class TestLarge:
    @pytest.mark.parametrize("length", [10, 100, 1000, 5000])
    def test_chains(self, length: int) -> None:
        found = lowered(chain(length))
        assert resolved(found) == []
        assert sum(segment.messages for segment in found.segments) == length

    @pytest.mark.parametrize("plan", [layers(2, 40), layers(10, 30), layers(300, 4)], ids=["2x40", "10x30", "300x4"])
    def test_layers(self, plan: Plan) -> None:
        assert resolved(lowered(plan)) == []

    @pytest.mark.parametrize("width", [10, 1000, 5000])
    def test_fan_out_and_in(self, width: int) -> None:
        growing = Growing()
        growing.add(*growing.many(width, growing.add()))
        found = lowered(growing.plan)
        assert resolved(found) == []
        assert (found.edges[0, 1] is EdgeKind.CANVAS) == (width == 10)
        assert found.edges[1, width + 1] is EdgeKind.CANVAS

    @pytest.mark.parametrize("depth", [5, 50, 1500])
    def test_chords_in_chords(self, depth: int) -> None:
        assert resolved(lowered(nested(depth))) == []

    def test_a_reduction_as_deep_as_it_is_long(self) -> None:
        assert resolved(lowered(left_deep(2500))) == []

    def test_a_ladder(self) -> None:
        assert resolved(lowered(ladder(2500))) != []

    def test_a_deep_region_before_it_is_cut(self) -> None:
        plan = nested(1500)
        (region,) = regions(cover(upstreams_of(plan)), lambda node: True)
        assert sorted(nodes_of(region)) == list(range(len(plan)))
        assert isinstance(to_json(region), list)
        assert ancestors(upstreams_of(plan))[-1].bit_count() == len(plan) - 1


def test_chords_stand_in_headers_only_so_deep() -> None:
    """Celery would wait for ever for another connection."""
    leaves = 1024
    plan = graph(*([] for _ in range(leaves)), *([2 * node, 2 * node + 1] for node in range(leaves - 1)))
    cutter = Cutter(plan, chords=True)
    assert max(cutter.size(segment.region).nested for segment in lower(plan).segments) == MAX_NESTED
