"""A settle whose reply is read later: the next nodes run meanwhile."""

from __future__ import annotations

import time
from typing import Any

import redis

from flowq.core.errors import StoreUnavailableError
from flowq.runtime.library import is_absent
from flowq.runtime.replies import Next, next_of
from flowq.runtime.scripts import Scripts, lean, refused


class PostedSettle:
    """A call of ``settle`` with these arguments (all of them) that is on its way.

    If its reply is lost, it is repeated, as any other call is.
    """

    def __init__(self, scripts: Scripts, given: dict[str, Any]) -> None:
        self._scripts, installed = scripts, scripts._installed
        header = scripts._header(
            "settle", given | {"outcomes": lean(given["outcomes"])}, scripts._next_call(is_posted=True)
        )
        self._args = [header, *given["values"]]
        self._sent = installed.client.post(*installed.command("settle"), 1, scripts._prefix, *self._args)

    def reply(self) -> Next:
        """Wait for what it gives; raises what ``settle`` raises."""
        try:
            reply = self._sent.reply()
        except (StoreUnavailableError, redis.RedisError) as error:
            if isinstance(error, redis.RedisError) and not is_absent(error):
                raise refused("settle", error) from error
            reply = self._scripts._call("settle", self._args)
        return next_of(reply)

    def close(self) -> None:
        """Do without the reply: what it would have given was claimed for this process, and nobody here knows of it."""
        self._sent.close()
        self._scripts.unanswered = time.monotonic()
