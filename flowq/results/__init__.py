"""Values between nodes: how they are written and where they lie."""

from flowq.results.manager import ResultsManager, open_local, open_shared, open_store
from flowq.results.store import DiskStore, MemoryStore, SqliteStore, Store

__all__ = [
    "DiskStore",
    "MemoryStore",
    "ResultsManager",
    "SqliteStore",
    "Store",
    "open_local",
    "open_shared",
    "open_store",
]
