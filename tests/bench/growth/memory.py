"""How much memory things take: keys of Redis by their kind, and this process at its peak."""

from __future__ import annotations

import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import redis

_ID = re.compile(r":[0-9a-f]{16,}|@[^:]*")
"""What tells two keys of a kind apart."""


def bytes_by_kind(client: redis.Redis) -> dict[str, int]:
    """Give the bytes that all keys of each kind take, ids left out of their names: ``flowq:run:*:nodes``."""
    found: dict[str, int] = defaultdict(int)
    for key in client.scan_iter(count=1000):
        size: Any = client.memory_usage(key, samples=0)
        found[_ID.sub(":*", key.decode())] += size or 0  # it may just have expired
    return dict(found)


def used_bytes(client: redis.Redis) -> int:
    """Give what the server says that it uses, but for its clients' buffers, which come and go."""
    info: Any = client.info("memory")
    return int(info["used_memory"]) - int(info["mem_clients_normal"])


def more(after: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """Give by how much each kind has grown; kinds that have not are left out."""
    grown = {kind: size - before.get(kind, 0) for kind, size in after.items()}
    return {kind: size for kind, size in sorted(grown.items()) if size > 0}


class Peak:
    """By how much this process has grown at its peak, since this was made; on Linux only, else 0."""

    def __init__(self) -> None:
        if sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")  # the peak is forgotten
        self._before = _status_kb("VmRSS")

    @property
    def bytes(self) -> int:
        return max(0, _status_kb("VmHWM") - self._before) * 1024


def _status_kb(field: str) -> int:
    if sys.platform != "linux":
        return 0
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
