"""Calls that are with the store before their replies are waited for.

If a reply is lost, the call is repeated, as any other is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import redis

from flowq.core.errors import StoreUnavailableError
from flowq.results.connection import ask_at_item
from flowq.runtime.replies import Next, next_of
from flowq.runtime.scripts import Scripts, lean, refused

NO_REPLY = (StoreUnavailableError, redis.exceptions.NoScriptError)


class PostedSettle:
    """A call of ``settle`` with these arguments (all of them) whose reply is read later: other nodes run meanwhile."""

    def __init__(self, scripts: Scripts, given: dict[str, Any]) -> None:
        given = given | {"outcomes": lean(given["outcomes"])}
        self._call = _Call(scripts, "settle", given, scripts._next_call(is_posted=True))
        self._sent = self._call.client.post(*self._call.command)

    def reply(self) -> Next:
        """Wait for what it gives; raises what ``settle`` raises."""
        return next_of(self._call.reply(self._sent.reply))

    def close(self) -> None:
        """Do without the reply."""
        self._sent.close()


def claim_at_bell(scripts: Scripts, bell: str, seconds: float, given: dict[str, Any]) -> Next:
    """Call ``claim`` with these arguments (all of them) as soon as the bell rings, or after so many seconds.

    Raises what ``claim`` raises.
    """
    call = _Call(scripts, "claim", given, scripts._next_call())
    return next_of(call.reply(lambda: ask_at_item(call.client, bell, seconds, *call.command)))


class _Call:
    """One call of a script."""

    def __init__(self, scripts: Scripts, name: str, given: dict[str, Any], call: str) -> None:
        self._scripts, self._name, self._script = scripts, name, scripts._loaded[name]
        self._args = [scripts._header(name, given, call), *given.get("values", ())]
        self.client: Any = self._script.registered_client

    @property
    def command(self) -> tuple[Any, ...]:
        return "EVALSHA", self._script.sha, 1, self._scripts._prefix, *self._args

    def reply(self, read: Callable[[], Any]) -> Any:
        """Read the reply in some way; if it cannot be had, make the call again."""
        try:
            try:
                return read()
            except NO_REPLY:
                return self._script(keys=[self._scripts._prefix], args=self._args)
        except StoreUnavailableError:
            self._scripts.unanswered = time.monotonic()
            raise
        except redis.RedisError as error:
            raise refused(self._name, error) from error
