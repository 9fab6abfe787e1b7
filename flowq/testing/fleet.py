"""Workers for several tests, which each say themselves whether they use them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from flowq.core.context import FlowContext
from flowq.standalone import EmbeddedContext, embedded


@contextmanager
def fleet(workers: int = 2, include: Any = None, **options: Any) -> Iterator[EmbeddedContext]:
    """Do what ``flowq.embedded`` does, but leave the default context alone: ``use`` makes it that for one test."""
    before = FlowContext.set_instance(None)
    try:
        with embedded(workers, include, **options) as started:
            FlowContext.set_instance(before)
            yield started
    finally:
        FlowContext.set_instance(before)


@contextmanager
def use(context: FlowContext) -> Iterator[None]:
    """Make a context the default one for a while."""
    before = FlowContext.set_instance(context)
    try:
        yield
    finally:
        FlowContext.set_instance(before)
