"""A prefork pool learns of a child's end when it is over, and wastes no time on what a dead child might still say."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from billiard.queues import _SimpleQueue
from celery.concurrency.asynpool import AsynPool

from flowq.runtime.prefork import flush_without_waiting, replace_at_once

SOON_S = 10.0


class Hub:
    """An event loop that is told what to watch."""

    def __init__(self) -> None:
        self.readers: dict[int, tuple[Any, ...]] = {}

    def add_reader(self, fd: int, *callback: Any) -> None:
        self.readers[fd] = callback

    def remove(self, fd: int) -> None:
        self.readers.pop(fd, None)


class Children(AsynPool):  # type: ignore[misc]
    """Celery's pool without processes of its own."""

    def __init__(self, *processes: Any) -> None:
        self._pool = list(processes)
        self.said: list[Any] = []

    def maintain_pool(self) -> None:
        self.said.append("maintain")

    def process_flush_queues(self, proc: Any) -> None:
        self.said.append("flush")


@pytest.fixture
def child():
    """A process as Celery knows it: it holds an end of a pipe. So does a process that it has left behind: this one."""
    sentinel, end = os.pipe()
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[end])
    left = os.fdopen(end, "wb")
    yield SimpleNamespace(pid=process.pid, _popen=SimpleNamespace(sentinel=sentinel), process=process, left=left)
    process.kill()
    process.communicate()
    left.close()
    os.close(sentinel)


def watched(children: Children, hub: Hub) -> int:
    """Give the one thing that the event loop watches."""
    [fd] = hub.readers
    return fd


needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of the end of a process")


@needs_pidfd
@pytest.mark.parametrize("celery_first", [True, False])
def test_a_child_is_replaced_when_it_counts_as_dead_and_who_wants_to_know_is_told_then(child, celery_first):
    children, hub = Children(child), Hub()
    if celery_first:
        children._track_child_process(child, hub)
    replace_at_once(SimpleNamespace(_pool=children), hub, lambda: children.said.append("replaced"))
    fd = watched(children, hub)
    assert select.select([fd], [], [], 0)[0] == []
    child.process.kill()
    assert select.select([fd], [], [], SOON_S)[0] == [fd]
    assert os.waitpid(child.pid, os.WNOHANG)[0] == child.pid  # it need not be looked at again
    callback, *args = hub.readers[fd]
    callback(*args)
    assert (children.said, hub.readers) == (["maintain", "replaced"], {})
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@needs_pidfd
def test_an_event_loop_that_was_reset_watches_the_same_again(child):
    children, hub = Children(child), Hub()
    replace_at_once(SimpleNamespace(_pool=children), hub, lambda: None)
    before = watched(children, hub)
    hub.readers.clear()
    children._track_child_process(child, hub)  # as Celery does
    replace_at_once(SimpleNamespace(_pool=children), hub, lambda: None)
    assert watched(children, hub) == before


def test_where_the_system_tells_nothing_it_is_done_as_celery_does(child, monkeypatch):
    monkeypatch.delattr(os, "pidfd_open", raising=False)
    children, hub = Children(child), Hub()
    children._track_child_process(child, hub)
    replace_at_once(SimpleNamespace(_pool=children), hub, lambda: children.said.append("replaced"))
    fd = watched(children, hub)
    child.process.kill()
    child.left.close()
    assert select.select([fd], [], [], SOON_S)[0] == [fd]
    callback, *args = hub.readers[fd]
    callback(*args)
    assert children.said == ["maintain", "replaced"]


def test_only_a_child_that_has_left_something_is_read_to_its_end():
    children, left = Children(), _SimpleQueue()
    child = SimpleNamespace(outq=left)
    for _ in range(2):  # the event loop may be reset
        flush_without_waiting(SimpleNamespace(_pool=children))
    children.process_flush_queues(child)
    assert children.said == []
    left.put("the end of a task")
    children.process_flush_queues(child)
    assert children.said == ["flush"]
    left._reader.close()
    left._writer.close()
    children.process_flush_queues(child)
    assert children.said == ["flush"]
