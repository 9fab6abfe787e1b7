"""Whether a Redis can keep what flowq promises: that what was recorded stays."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, NamedTuple

import redis

from flowq.core.config import Settings
from flowq.core.errors import UnsafeStoreError

logger = logging.getLogger("flowq.worker")


class Kept(NamedTuple):
    """How a Redis keeps its data. None: it does not let itself be asked."""

    policy: str | None
    """Its maxmemory-policy."""
    appends: bool | None
    """It has an append-only file."""
    saves: bool | None
    """It writes snapshots."""


def check_store(client: Any, settings: Settings) -> None:
    """See that the state store evicts nothing and keeps its data on disk.

    A managed Redis may forbid INFO, CONFIG GET, or both. What the one does not tell is asked of the other; what neither
    tells is warned of.

    Raises:
        UnsafeStoreError: it does not, and ``allow_unsafe_store`` is not set.
        StoreUnavailableError: it cannot be reached.
    """
    if settings.allow_unsafe_store:
        return
    kept = _asked(client)
    problems, unknown = list(_problems(kept)), list(_unknown(kept))
    if problems:
        raise UnsafeStoreError(
            f"the Redis of the runs may lose them: {'; '.join(problems)}. To work with it all the same, set"
            " FLOWQ_ALLOW_UNSAFE_STORE=1"
        )
    if unknown:
        logger.warning(
            "the Redis of the runs may lose them: its user may not ask (INFO, CONFIG GET) %s. Allow that user +info, or"
            " see to it yourself and set FLOWQ_ALLOW_UNSAFE_STORE=1",
            ", nor ".join(unknown),
        )
    elif not kept.appends:
        logger.warning("the Redis of the runs has no append-only file: a crash loses what came after its last snapshot")


def _problems(kept: Kept) -> Iterator[str]:
    if kept.policy not in (None, "noeviction"):
        yield f"its maxmemory-policy {kept.policy} throws keys away when memory is short: set noeviction"
    if kept.appends is False and kept.saves is False:
        yield "it keeps nothing on disk: set appendonly yes"


def _unknown(kept: Kept) -> Iterator[str]:
    if kept.policy is None:
        yield "whether it throws keys away when memory is short (maxmemory-policy is to be noeviction)"
    if not kept.appends and None in (kept.appends, kept.saves):
        yield "whether it keeps its data on disk (appendonly is to be yes)"


def _asked(client: Any) -> Kept:
    memory, persistence = _info(client, "memory"), _info(client, "persistence")
    policy, appends = memory.get("maxmemory_policy"), persistence.get("aof_enabled")
    saves = None
    if policy is None:
        policy = _config(client, "maxmemory-policy")
    if appends is None:
        appends = {"yes": 1, "no": 0}.get(_config(client, "appendonly") or "")
    if not appends:
        saves = _config(client, "save")
    return Kept(policy, None if appends is None else bool(appends), None if saves is None else bool(saves))


def _info(client: Any, section: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.info(section)
    except redis.RedisError:  # this user may not ask, or nobody may
        return {}
    return found


def _config(client: Any, name: str) -> str | None:
    try:
        found: str | None = client.config_get(name).get(name)
    except redis.RedisError:  # managed servers forbid CONFIG
        return None
    return found
