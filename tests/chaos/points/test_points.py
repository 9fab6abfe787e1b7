"""A cross-section of the matrix: somebody is killed at a point, and the run ends right all the same.

All of it: ``python -m tests.chaos.points``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.points.passing import CHILD, REDIS, TREE
from tests.chaos.points.stage import Cell, Stage

CELLS = [
    Cell("chain", "child:claim:after", 1, CHILD),  # claimed, and its claimer does not know it
    Cell("chain", "child:settle:before", 3, REDIS),
    Cell("fork-join", "child:settle:after", 1, TREE),  # what this call gave is lost with its reply
    Cell("fork-join", "child:wake:before", 1, CHILD),  # noted as sent, and not sent
    Cell("layered", "parent:receive:before", 1, TREE),
    Cell("map", "child:extend:after", 1, TREE),  # its items are open, and nobody is told
    Cell("nested", "child:put:after", 2, CHILD),
    Cell("retries", "child:settle:after", 2, CHILD),  # a retry is due, and who would be reminded of it is dead
    Cell("canvas fork-join", "child:chord:before", 2, CHILD),
    Cell("canvas layered", "child:publish:before", 1, TREE),
    Cell("canvas layered", "child:deliver:after", 1, REDIS),
    Cell("submit, new plan", "producer:define:after", 1, CHILD),
    Cell("submit to canvas, new plan", "producer:publish:before", 2, CHILD),
    Cell("cancel", "producer:cancel:before", 1, REDIS),
]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as started:
        yield started


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.shape}-{cell.point}-{cell.victim}".replace(" ", "-"))
def test_the_run_ends_right_though_somebody_is_killed_at(stage: Stage, cell: Cell):
    verdict = stage.play(cell)
    if not verdict.struck:  # which worker gets what is chance
        verdict = stage.play(cell._replace(nth=1))
    assert verdict.violations == [], verdict.logs
    assert verdict.struck, "nobody has passed the point"
