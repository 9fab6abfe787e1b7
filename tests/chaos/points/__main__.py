"""Kill somebody at every point of every shape, and see that every run ends right: ``python -m tests.chaos.points``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.chaos.points.cells import PACES, Profiles, cells, to_profile
from tests.chaos.points.errands import ERRANDS
from tests.chaos.points.passing import CHILD, REDIS, TREE
from tests.chaos.points.report import say, show
from tests.chaos.points.shapes import SHAPES
from tests.chaos.points.stage import Cell, Verdict
from tests.chaos.points.stages import stages


def main() -> int:
    given = _arguments()
    began = time.monotonic()
    with stages(given.stages) as ask:
        if given.point:
            shapes = [given.shape] if given.shape else list(SHAPES)
            chosen = [Cell(shape, given.point, given.nth, given.victim or CHILD, given.takes) for shape in shapes]
        else:
            profiles: Profiles = dict(ask([("profile", *task) for task in to_profile()]))
            chosen = cells(profiles, given.seed, everything=given.all)
            chosen = [cell for cell in chosen if given.shape in ("", cell.shape)]
            chosen = [cell for cell in chosen if given.victim in ("", cell.victim)][: given.most]
        verdicts: list[Verdict] = []
        for verdict in ask([("play", cell) for cell in chosen for _ in range(given.times)]):
            verdicts.append(verdict)
            say(verdict, len(verdicts), logs=given.logs)
    show(verdicts, time.monotonic() - began)
    return 1 if any(verdict.violations for verdict in verdicts) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.points", description=__doc__)
    parser.add_argument("--shape", default="", choices=["", *SHAPES, *ERRANDS], help="of this shape or errand only")
    parser.add_argument(
        "--point", default="", help="one cell: somebody dies at this point, such as child:settle:before"
    )
    parser.add_argument("--nth", type=int, default=1, help="one cell: the n-th time that it is passed")
    parser.add_argument("--takes", type=float, default=PACES[0], help="one cell: what each body takes, in seconds")
    parser.add_argument("--victim", default="", choices=["", CHILD, TREE, REDIS], help="cells of this victim only")
    parser.add_argument("--times", type=int, default=1, help="play every cell so often")
    parser.add_argument("--all", action="store_true", help="all victims at all points, the first and last time too")
    parser.add_argument("--most", type=int, default=None, help="so many cells at most")
    parser.add_argument("--seed", type=int, default=1, help="draws the cells")
    parser.add_argument("--stages", type=int, default=3, help="fleets side by side")
    parser.add_argument("--logs", action="store_true", help="show the workers' logs of cells that ended wrong")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
