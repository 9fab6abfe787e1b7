"""Calls whose replies are read later: a settle while the next nodes run, and a claim that waits for a bell."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import redis

from flowq.core.errors import StoreUnavailableError
from flowq.results.connection import await_item
from flowq.runtime.library import is_absent
from flowq.runtime.replies import Next, claimed, next_of
from flowq.runtime.scripts import Scripts, lean, refused


class PostedSettle:
    """A call of ``settle`` with these arguments (all of them) that is on its way.

    If its reply is lost, it is repeated, as any other call is.
    """

    def __init__(self, scripts: Scripts, given: dict[str, Any]) -> None:
        self._scripts, installed = scripts, scripts._installed
        entries, values = lean(given["outcomes"])
        header = scripts._header("settle", given | {"outcomes": entries}, scripts._next_call(is_posted=True))
        self._args = [header, *values]
        self._sent = installed.client.post(*installed.command("settle"), 1, scripts._prefix, *self._args)

    def reply(self) -> Next:
        """Wait for what it gives; raises what ``settle`` raises."""
        return next_of(_or_again(self._scripts, "settle", self._args, self._sent.reply))

    def close(self) -> None:
        """Do without the reply: what it would have given was claimed for this process, and nobody here knows of it."""
        self._sent.close()
        self._scripts.unanswered = time.monotonic()


def claim_when_rung(scripts: Scripts, bell: str, seconds: float, given: dict[str, Any]) -> Next:
    """Wait for a list's next item, for so long at most, and have ``claim`` called with these arguments (all of them) in
    that very moment.

    Raises what ``claim`` raises.
    """
    args = [scripts._header("claim", given, scripts._next_call())]
    installed = scripts._installed
    command = (*installed.command("claim"), 1, scripts._prefix, *args)
    reply = _or_again(scripts, "claim", args, lambda: await_item(installed.client, bell, seconds, command))
    return claimed(reply)


def _or_again(scripts: Scripts, name: str, args: Sequence[bytes | str], ask: Callable[[], Any]) -> Any:
    """Give the reply to a call that is on its way; if it was lost, or the server has not got the script, call again."""
    try:
        return ask()
    except (StoreUnavailableError, redis.RedisError) as error:
        if isinstance(error, redis.RedisError) and not is_absent(error):
            raise refused(name, error) from error
        return scripts._call(name, args)
