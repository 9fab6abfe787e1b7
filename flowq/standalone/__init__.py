"""A private Redis server and real Celery worker processes, for laptops, demos and tests."""

from flowq.standalone.embedded import EmbeddedContext, embedded
from flowq.standalone.server import EmbeddedServer, EmbeddedServerError
from flowq.standalone.workers import EmbeddedWorkerError, WorkerProcesses

__all__ = [
    "EmbeddedContext",
    "EmbeddedServer",
    "EmbeddedServerError",
    "EmbeddedWorkerError",
    "WorkerProcesses",
    "embedded",
]
