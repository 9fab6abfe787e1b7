"""Large values in Redis: one hash a run, beside the run's state or in a Redis of their own."""

from __future__ import annotations

from flowq.core.types import StorageType
from flowq.results.connection import Redis, answer, connect

KEEP_S = 30 * 86400
"""A value is kept for so long after the last one was put; ending the run shortens that to the run's retention."""


class RedisStore:
    """Holds each run's values in the hash ``<prefix>:values:<run>``."""

    type = StorageType.REDIS

    def __init__(self, client: Redis, prefix: str) -> None:
        self._client = client
        self._prefix = prefix

    @classmethod
    def open(cls, url: str, prefix: str) -> RedisStore:
        """Connect to the Redis at this address."""
        return cls(connect(url), prefix)

    def put(self, run_id: str, digest: str, data: bytes) -> None:
        key = self._key(run_id)
        for reply in self._client.ask((("MULTI",), ("HSET", key, digest, data), ("EXPIRE", key, KEEP_S), ("EXEC",))):
            answer(reply)

    def get(self, run_id: str, digest: str) -> bytes | None:
        data: bytes | None = self._client.call("HGET", self._key(run_id), digest)
        return data

    def remove(self, run_id: str, digest: str) -> None:
        self._client.hdel(self._key(run_id), digest)

    def delete(self, run_id: str) -> None:
        self._client.unlink(self._key(run_id))

    def close(self) -> None:
        self._client.close()

    def _key(self, run_id: str) -> str:
        return f"{self._prefix}:values:{run_id}"
