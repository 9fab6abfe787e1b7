"""Several calls of one script in one round trip. Each is a call of its own: atomic, and safe to be replayed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import redis

from flowq.core.errors import StateError, StoreUnavailableError
from flowq.results.connection import answer
from flowq.runtime.replies import Submitted, submitted_of
from flowq.runtime.scripts import Scripts, refused


def submit_all(scripts: Scripts, calls: Sequence[Mapping[str, Any]]) -> list[Submitted | StateError]:
    """Do what calls of ``submit`` with these arguments (all of them) do; in the place of one that was refused, why.

    Raises:
        StoreUnavailableError: the store cannot be reached; which of the calls were carried out is not known.
    """
    replies = _run_all(scripts, "submit", calls)
    return [reply if isinstance(reply, StateError) else submitted_of(reply) for reply in replies]


def _run_all(scripts: Scripts, name: str, calls: Sequence[Mapping[str, Any]]) -> list[Any]:
    script = scripts._loaded[name]
    client = script.registered_client
    caller, _, number = scripts._next_call().partition(".")
    commands = []
    for position, given in enumerate(calls):  # each has a caller of its own: of each, the last reply is kept
        header = scripts._header(name, given, f"{caller}-{position}.{number}")
        commands.append(("EVALSHA", script.sha, 1, scripts._prefix, header, *given["values"]))
    try:
        replies = client.ask(commands)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, redis.exceptions.NoScriptError)]
        if unknown:
            client.script_load(script.script)
            for at, reply in zip(unknown, client.ask([commands[at] for at in unknown]), strict=True):
                replies[at] = reply
    except StoreUnavailableError:
        scripts.unanswered = time.monotonic()
        raise
    return [_answer(name, reply) for reply in replies]


def _answer(name: str, reply: Any) -> Any:
    try:
        return answer(reply)
    except StateError as error:
        return error
    except redis.RedisError as error:
        return refused(name, error)
