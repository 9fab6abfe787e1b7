"""What becomes of a value between two nodes: small ones travel as they are, large ones by reference."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flowq.core.config import Settings
from flowq.core.errors import CorruptValueError, DefinitionError, ValueTooLargeError
from flowq.results.codec import JSON, REFERENCE, compress, decompress
from flowq.results.store import DiskStore, MemoryStore, SqliteStore, Store


class ResultsManager:
    """Packs encoded values for the run's state, and unpacks them. Sizes are bytes.

    Args:
        store: where large values go.
        settings: say what is large.
        is_beside: the store is the Redis that holds the runs.
    """

    def __init__(self, store: Store, settings: Settings, *, is_beside: bool = False) -> None:
        self.store = store
        self._is_beside = is_beside
        self._inline = settings.inline_bytes
        self._compress = settings.compress_bytes
        self._limit = settings.max_value_bytes

    def check(self, data: bytes) -> None:
        """Raise ValueTooLargeError if the encoded value is over ``max_value_bytes``."""
        if len(data) > self._limit:
            raise ValueTooLargeError(
                f"a value of {len(data)} bytes is over the limit of {self._limit}: pass on a path or an address"
                " instead of the data, or raise FLOWQ_MAX_VALUE_BYTES"
            )

    def pack(self, run_id: str, data: bytes, *, apart: bool = False) -> bytes:
        """Give what is kept in the run's state: the value itself, compressed, or a reference to it in the store.

        Args:
            run_id: whose value.
            data: encoded.
            apart: keep it apart from all that others put for this run, even if that is equal: so it can be taken back
                with ``remove``, whoever else is about to start a run of this id.

        Raises:
            ValueTooLargeError: the value is over ``max_value_bytes``.
        """
        self.check(data)
        packed = compress(data) if len(data) >= self._compress else data
        if len(packed) <= self._inline:
            return packed
        digest = hashlib.sha256(packed).hexdigest()
        reference: dict[str, Any] = {"digest": digest, "size": len(packed)}
        if apart:
            reference["name"] = digest + os.urandom(8).hex()
        self.store.put(run_id, _place(reference), packed)
        return REFERENCE + json.dumps(reference).encode()

    def beside(self, packed: bytes) -> str:
        """Give the name under which a packed value lies beside the runs; empty: it lies elsewhere, or in the run."""
        return _place(json.loads(packed[1:])) if self._is_beside and packed[:1] == REFERENCE else ""

    def remove(self, run_id: str, packed: bytes) -> None:
        """Take back what ``pack`` gave for a value that is kept apart."""
        if packed[:1] == REFERENCE:
            self.store.remove(run_id, _place(json.loads(packed[1:])))

    def unpack(self, run_id: str, data: bytes) -> bytes:
        """Give the encoded value.

        Raises:
            CorruptValueError: the store does not have it (any more), or what it has is not what was put there.
        """
        if data[:1] == JSON:  # as most are
            return data
        if data[:1] == REFERENCE:
            reference = json.loads(data[1:])
            digest = reference["digest"]
            stored = self.store.get(run_id, _place(reference))
            if stored is None:
                raise CorruptValueError(f"value {digest[:12]} of run {run_id} is not in the results store (any more)")
            if hashlib.sha256(stored).hexdigest() != digest:
                raise CorruptValueError(f"value {digest[:12]} of run {run_id} was changed in the results store")
            data = stored
        return decompress(data, self._limit)

    def close(self) -> None:
        self.store.close()


def _place(reference: dict[str, Any]) -> str:
    """Give the name under which a value lies among those of its run."""
    place: str = reference.get("name", reference["digest"])
    return place


def open_shared(settings: Settings) -> ResultsManager:
    """Open the results that producers and workers share: where the settings say, else the state's Redis."""
    url = settings.results_url or settings.redis_url
    return ResultsManager(open_store(url, settings.prefix), settings, is_beside=url == settings.redis_url)


def open_local(settings: Settings) -> ResultsManager:
    """Open the results of the local engine: this process's memory, unless the settings name a folder or a file."""
    url = settings.results_url or ""
    return ResultsManager(
        open_store(url if url.startswith(("file:", "sqlite:")) else "memory://", settings.prefix), settings
    )


def open_store(url: str, prefix: str) -> Store:
    """Open the store that an address names: ``memory://``, ``file:///folder``, ``sqlite:///file``, ``redis://…``."""
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "file":
        return DiskStore(Path(unquote(parts.path)))
    if parts.scheme == "sqlite":
        return SqliteStore(Path(unquote(parts.path)))
    if parts.scheme in ("redis", "rediss", "unix"):
        from flowq.results.redis import RedisStore

        return RedisStore.open(url, prefix)
    raise DefinitionError(
        f"FLOWQ_RESULTS_URL: {url!r} is none of memory://, file://, sqlite://, redis://, rediss://, unix://"
    )
