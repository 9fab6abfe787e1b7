"""A private Redis server and real Celery worker processes, for laptops, demos and tests."""

from flowq.embedded.server import EmbeddedServer, EmbeddedServerError
from flowq.embedded.workers import EmbeddedWorkerError, WorkerProcesses

__all__ = ["EmbeddedServer", "EmbeddedServerError", "EmbeddedWorkerError", "WorkerProcesses"]
