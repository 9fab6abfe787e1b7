"""Runs that start with their canvas, wherever it stands: what follows their result there is parked with them."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from kombu.utils import json

from flowq.runtime.canvas.signatures import RESULT


def message_of(signature: Any) -> str:
    """Give the message that asks for a run's result when the run has ended."""
    parked = copy.deepcopy(dict(signature))
    parked["args"] = [parked["args"][0], 1]
    return str(json.dumps(parked))  # type: ignore[no-untyped-call] # as Celery would write it


def find_result(request: Any, run: str) -> dict[str, Any] | None:
    """Find the task of the run's result among what Celery will do after a node, with all that follows it there."""
    return _in_chain(request.chain or (), run) or (_in(request.chord, run) if request.chord else None)


def _in(signature: Any, run: str) -> dict[str, Any] | None:
    if signature["task"] == RESULT and list(signature["args"])[:1] == [run]:
        return copy.deepcopy(dict(signature))
    kwargs, options = signature.get("kwargs") or {}, signature.get("options") or {}
    found = None
    if signature["task"] == "celery.chain":
        found = _in_chain(list(reversed(kwargs["tasks"])), run)
    elif signature["task"] == "celery.chord" and kwargs.get("body"):
        found = _in(kwargs["body"], run)
    if found is None:
        found = _in_chain(options.get("chain") or (), run)
        return found or (_in(options["chord"], run) if options.get("chord") else None)
    return _followed(found, options.get("chain") or ())


def _in_chain(rest: Sequence[Any], run: str) -> dict[str, Any] | None:
    """Look through the rest of a chain, which Celery keeps with what comes next at the end."""
    for position in range(len(rest) - 1, -1, -1):
        found = _in(rest[position], run)
        if found is not None:
            return _followed(found, rest[:position])
    return None


def _followed(signature: dict[str, Any], rest: Sequence[Any]) -> dict[str, Any]:
    if rest:
        options = signature.setdefault("options", {})
        options["chain"] = [*copy.deepcopy(list(rest)), *(options.get("chain") or ())]
    return signature
