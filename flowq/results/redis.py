"""Large values in Redis: one hash a run, beside the run's state or in a Redis of their own."""

from __future__ import annotations

from typing import Any

import redis

from flowq.core.types import StorageType
from flowq.results.connection import connect, store_errors

KEEP_S = 30 * 86400
"""A value is kept for so long after the last one was put; ending the run shortens that to the run's retention."""


class RedisStore:
    """Holds each run's values in the hash ``<prefix>:values:<run>``."""

    type = StorageType.REDIS

    def __init__(self, client: redis.Redis, prefix: str) -> None:
        self._client: Any = client
        self._prefix = prefix

    @classmethod
    def open(cls, url: str, prefix: str) -> RedisStore:
        """Connect to the Redis at this address."""
        return cls(connect(url), prefix)

    def put(self, run_id: str, digest: str, data: bytes) -> None:
        with store_errors, self._client.pipeline(transaction=True) as pipe:
            pipe.hset(self._key(run_id), digest, data)
            pipe.expire(self._key(run_id), KEEP_S)
            pipe.execute()

    def get(self, run_id: str, digest: str) -> bytes | None:
        data: bytes | None = self._client.hget(self._key(run_id), digest)
        return data

    def remove(self, run_id: str, digest: str) -> None:
        self._client.hdel(self._key(run_id), digest)

    def delete(self, run_id: str) -> None:
        self._client.unlink(self._key(run_id))

    def close(self) -> None:
        self._client.close()

    def _key(self, run_id: str) -> str:
        return f"{self._prefix}:values:{run_id}"
