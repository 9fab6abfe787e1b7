"""Runs a flow to its end, here or on workers, and shows meanwhile how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from flowq.cli.board import Board, Tally
from flowq.cli.problems import InputProblem, OutOfTime
from flowq.cli.target import AnyFlow
from flowq.core.context import FlowContext
from flowq.core.function import FunctionFlow
from flowq.core.handle import Handle
from flowq.core.result import FlowResult

TICK_S = 0.1
"""Between two looks at a run: live to the eye, and next to nothing for Redis."""


def run_here(flow: AnyFlow, given: Mapping[str, Any], board: Board, timeout_s: float | None = None) -> FlowResult:
    """Run in this process.

    Raises:
        InputError: the input does not fit.
        OutOfTime: it did not end within ``timeout_s``.
    """
    args, kwargs = _arguments(flow, given)

    async def tick() -> None:
        while True:
            board.show(None, None)
            await asyncio.sleep(TICK_S)

    async def main() -> FlowResult:
        ticking = asyncio.create_task(tick())
        try:
            async with asyncio.timeout(timeout_s):
                return await flow.execute(*args, **kwargs)
        finally:
            ticking.cancel()

    try:
        with board:
            return asyncio.run(main())
    except TimeoutError:
        raise _out_of_time(flow.name, timeout_s) from None


def run_on(
    context: FlowContext, flow: AnyFlow, given: Mapping[str, Any], board: Board, timeout_s: float | None = None
) -> FlowResult:
    """Run on the workers of a context. However this ends, the run has ended too: if need be, it is cancelled.

    Raises:
        InputError: the input does not fit; nothing was submitted.
        OutOfTime: it did not end within ``timeout_s``.
    """
    args, kwargs = _arguments(flow, given)
    handle = flow.submit(*args, context=context, **kwargs)
    tally = Tally(node.path for node in flow.plan() if node.is_map)
    tally.listen(handle)
    try:
        with board:
            return _wait(handle, tally, board, timeout_s)
    except TimeoutError:
        handle.cancel()
        raise _out_of_time(f"{flow.name} ({handle.run_id})", timeout_s) from None
    except BaseException:  # Ctrl-C too: nobody waits for it any more
        with contextlib.suppress(Exception):
            handle.cancel()
        raise


def _wait(handle: Handle, tally: Tally, board: Board, timeout_s: float | None) -> FlowResult:
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        left = TICK_S if deadline is None else min(TICK_S, deadline - time.monotonic())
        try:
            return handle.result(timeout=max(left, 0))
        except TimeoutError:
            if left <= 0:
                raise
            board.show(handle.progress(), tally)


def _arguments(flow: AnyFlow, given: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Give the input as the two forms of a flow take it: a class one mapping, a function its parameters by name."""
    if not isinstance(flow, FunctionFlow):
        return (dict(given),), {}
    known = flow.graph().inputs or {}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise InputProblem(f"flow {flow.name!r} takes ({', '.join(known)}): there is no {unknown[0]!r}; leave it out")
    return (), dict(given)


def _out_of_time(what: str, timeout_s: float | None) -> OutOfTime:
    return OutOfTime(f"{what} had not ended after {timeout_s:g} s, and was cancelled; --timeout gives it more time")
