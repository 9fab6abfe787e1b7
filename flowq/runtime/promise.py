"""Whether a Redis can keep what flowq promises: that what was recorded stays."""

from __future__ import annotations

import logging
from typing import Any

import redis

from flowq.core.config import Settings
from flowq.core.errors import UnsafeStoreError

logger = logging.getLogger("flowq.worker")


def check_store(client: Any, settings: Settings) -> None:
    """See that the state store evicts nothing and keeps its data on disk.

    Raises:
        UnsafeStoreError: it does not, and ``allow_unsafe_store`` is not set.
        StoreUnavailableError: it cannot be reached.
    """
    if settings.allow_unsafe_store:
        return
    problems = _problems(_info(client, "memory"), _info(client, "persistence"), _saves(client))
    if problems:
        raise UnsafeStoreError(
            f"the Redis of the runs may lose them: {'; '.join(problems)}. To work with it all the same, set"
            " FLOWQ_ALLOW_UNSAFE_STORE=1"
        )


def _problems(memory: dict[str, Any], persistence: dict[str, Any], saves: bool | None) -> list[str]:
    problems = []
    policy = memory.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        problems.append(f"its maxmemory-policy {policy} throws keys away when memory is short: set noeviction")
    if not persistence.get("aof_enabled") and saves is False:
        problems.append("it keeps nothing on disk: set appendonly yes")
    if not persistence.get("aof_enabled") and saves is not False:
        logger.warning("the Redis of the runs has no append-only file: a crash loses what came after its last snapshot")
    return problems


def _info(client: Any, section: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = client.info(section)
    except redis.ResponseError:  # this user may not ask
        return {}
    return found


def _saves(client: Any) -> bool | None:
    """Tell whether it writes snapshots; None: it does not let itself be asked."""
    try:
        return bool(client.config_get("save").get("save"))
    except redis.ResponseError:  # managed servers forbid CONFIG
        return None
