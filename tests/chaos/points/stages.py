"""Several stages side by side, each in a process of its own: most of a cell is waiting."""

from __future__ import annotations

import multiprocessing
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from tests.chaos.points.stage import Stage

Task: TypeAlias = tuple[Any, ...]
"""``("profile", shape, takes_s)`` or ``("play", cell)``."""

LOOK_S = 1.0


@contextmanager
def stages(count: int) -> Iterator[Callable[[Iterable[Task]], Iterator[Any]]]:
    """Start stages; gives what has them work tasks off, and gives the answers as they come."""
    spawn = multiprocessing.get_context("spawn")
    tasks: Any = spawn.Queue()
    answers: Any = spawn.Queue()
    processes = [spawn.Process(target=_work, args=(tasks, answers), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()

    def ask(asked: Iterable[Task]) -> Iterator[Any]:
        left = list(asked)
        for task in left:
            tasks.put(task)
        while left:
            try:
                answer = answers.get(timeout=LOOK_S)
            except queue.Empty:
                if not all(process.is_alive() for process in processes):
                    raise RuntimeError("a stage has died; it has said why") from None
                continue
            left.pop()
            yield answer

    try:
        yield ask
    finally:
        for _ in processes:
            tasks.put(None)
        for process in processes:
            process.join()


def _work(tasks: Any, answers: Any) -> None:
    with Stage() as stage:
        for task in iter(tasks.get, None):
            if task[0] == "profile":
                answers.put((task[1:], stage.profile(*task[1:])))
                continue
            verdict = stage.play(task[1])
            if not verdict.struck and not verdict.violations and task[1].nth > 1:
                verdict = stage.play(task[1]._replace(nth=1))  # it was not passed so often this time
            answers.put(verdict)
