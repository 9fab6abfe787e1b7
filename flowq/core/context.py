"""What coordinates: one FlowContext holds a process's settings, its registry and the services built from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import RLock
from typing import Any, ClassVar, Protocol

from flowq.core.config import Dispatch, Settings
from flowq.core.graph import Graph
from flowq.core.handle import Handle
from flowq.core.registry import REGISTRY, Registry
from flowq.core.result import FlowResult


class LocalEngine(Protocol):
    """Runs a graph in this process."""

    async def execute(self, graph: Graph, plan: Any, given: Mapping[str, Any]) -> FlowResult: ...


class Submitter(Protocol):
    """Enqueues a graph for the workers."""

    def submit(
        self,
        graph: Graph,
        plan: Any,
        given: Mapping[str, Any],
        *,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_key: str | None = None,
        run: str = "",
        parked: str = "",
    ) -> Handle: ...
    async def asubmit(self, graph: Graph, plan: Any, given: Mapping[str, Any], **options: Any) -> Handle: ...
    def submit_many(
        self,
        graph: Graph,
        plan: Any,
        inputs: Iterable[Mapping[str, Any]],
        *,
        dispatch: Dispatch | None = None,
        deadline_s: float | None = None,
        idempotency_keys: Iterable[str] | None = None,
    ) -> list[Handle]: ...
    def canvas(self, graph: Graph, plan: Any, given: Mapping[str, Any]) -> Any: ...
    def signature(
        self, flow: str, process_id: str, args: Sequence[Any], kwargs: Mapping[str, Any], dispatch: Dispatch | None
    ) -> Any: ...


Factory = Callable[["FlowContext"], Any]


class FlowContext:
    """Settings, registry and services, each service made when it is first used.

    ``get_instance`` gives the process's default one, built from ``FLOWQ_*`` settings; every API takes one explicitly
    too. ``FlowContext(celery_app=app)`` sends its wake-ups through an app that a team already has, and leaves that
    app's configuration alone.
    """

    _default: ClassVar[FlowContext | None] = None
    _lock: ClassVar[RLock] = RLock()
    _factories: ClassVar[dict[str, Factory]] = {}

    def __init__(
        self, settings: Settings | None = None, *, celery_app: Any = None, registry: Registry | None = None
    ) -> None:
        self._settings = settings
        self.registry = registry or REGISTRY
        self._services: dict[str, Any] = {}
        if celery_app is not None:
            self._services["celery_app"] = celery_app
            self.service("attach")

    @classmethod
    def get_instance(cls) -> FlowContext:
        """Give the process's default context; the first call builds it."""
        with cls._lock:
            if cls._default is None:
                cls._default = cls()
            return cls._default

    @classmethod
    def set_instance(cls, context: FlowContext | None) -> FlowContext | None:
        """Make this the default context (None: built anew when it is next asked for) and give the one before."""
        with cls._lock:
            before, cls._default = cls._default, context
            return before

    @classmethod
    def provide(cls, service: str, factory: Factory) -> None:
        """Say how a service is made. The upper layers fulfil here what this layer may not import."""
        cls._factories[service] = factory

    @property
    def settings(self) -> Settings:
        """The settings it was given; else those of the environment, with a given app's broker and default queue."""
        if self._settings is None:
            settings = Settings()
            app = self._services.get("celery_app")
            if app is not None and "attach" in self._services:
                own = {"broker_url": app.conf.broker_url, "queue": app.conf.task_default_queue}
                settings = settings.model_copy(
                    update={k: v for k, v in own.items() if v and k not in settings.model_fields_set}
                )
            self._settings = settings
        return self._settings

    @property
    def client(self) -> Submitter:
        """What submits and reads runs (``flowq.client.Client``)."""
        client: Submitter = self.service("client")
        return client

    @property
    def engine(self) -> LocalEngine:
        """What runs flows in this process."""
        engine: LocalEngine = self.service("engine")
        return engine

    @property
    def celery_app(self) -> Any:
        """The Celery app that carries the wake-ups; ``celery -A`` takes it."""
        return self.service("celery_app")

    @property
    def results(self) -> Any:
        """The ``ResultsManager`` for values that are too large for the run's own state."""
        return self.service("results")

    @property
    def pools(self) -> Any:
        """The ``ProcessPoolManager`` of the local engine."""
        return self.service("pools")

    def compile(self, graph: Graph) -> Any:
        """Give the graph's plan."""
        return self.service("compile")(graph)

    def service(self, name: str) -> Any:
        """Give a service, made on first use."""
        with self._lock:
            if name not in self._services:
                self._services[name] = self._factories[name](self)
            return self._services[name]

    def replace(self, name: str, service: Any) -> None:
        """Put another service in the place of one (a forked child needs its own connections)."""
        with self._lock:
            self._services[name] = service

    def close(self) -> None:
        """Close what was opened: connections and pools. The context can be used again; services are made anew."""
        with self._lock:
            services, self._services = self._services, {}
        if "attach" in services:  # that app belongs to whoever made it
            self._services |= {name: services.pop(name) for name in ("celery_app", "attach")}
        for service in reversed(services.values()):  # the last one may use those before
            close = getattr(service, "close", None)
            if callable(close):
                close()


def _renew_lock() -> None:
    # A thread of the parent may have held it when the child was forked; in the child nobody would ever let it go.
    FlowContext._lock = RLock()


os.register_at_fork(after_in_child=_renew_lock)
