"""What users set: one flow's configuration, its retry policy, and the settings of a process."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from flowq.core.processor import key_of
from flowq.core.types import FlowType


def _to_seconds(value: Any) -> Any:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _to_class_name(value: Any) -> Any:
    return key_of(value) if isinstance(value, type) else value


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


Seconds = Annotated[float, BeforeValidator(_to_seconds), Field(gt=0)]
"""A positive duration in seconds; a timedelta is taken too."""

ClassName = Annotated[type[BaseException] | str, BeforeValidator(_to_class_name), PlainSerializer(str)]
"""An exception's class; kept as ``module:qualname``, so that a policy is plain data."""


Dispatch = Literal["pull", "canvas"]
"""How nodes reach the workers."""


class RetryPolicy(BaseModel):
    """When a failed attempt is followed by another one.

    The n-th retry waits ``delay_s * backoff**(n-1)``, at most ``max_delay_s``, then plus or minus up to ``jitter``
    (a share of the wait, 0 to 1). ``retry_on`` names the exceptions worth a retry (subclasses count); empty means all.
    Crashes of workers are not counted here but against ``FlowConfig.max_crashes``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_attempts: int = Field(default=3, ge=1)
    delay_s: float = Field(default=1.0, ge=0)
    backoff: float = Field(default=2.0, ge=1)
    max_delay_s: float = Field(default=300.0, ge=0)
    jitter: float = Field(default=0.1, ge=0, le=1)
    retry_on: tuple[ClassName, ...] = ()

    def delay(self, failures: int, random: float) -> float:
        """Give the wait in seconds after the ``failures``-th failed attempt; ``random`` is drawn from [0, 1)."""
        wait = min(self.delay_s * self.backoff ** min(failures - 1, 64), self.max_delay_s)
        return wait * (1 + self.jitter * (2 * random - 1))

    def covers(self, exception: BaseException) -> bool:
        """Tell whether an attempt that raised this is worth another one."""
        if not self.retry_on:
            return True
        return any(key_of(kind) in self.retry_on for kind in type(exception).__mro__)


class FlowConfig(BaseModel):
    """The configuration of one flow; fixed once it is made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, max_length=200, pattern=r"^[^/\[\]\x00-\x1f]+$")
    """Names the flow among its siblings; no slashes or brackets (these write paths and map items)."""
    description: str | None = None
    timeout: Seconds | None = None
    """Seconds that one attempt may take; None: no limit."""
    retries: int | RetryPolicy = 0
    """Further attempts after a failure, or a whole policy."""
    flow_type: FlowType = FlowType.PROCESS
    queue: str | None = Field(default=None, min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_.:-]+$")
    """The queue whose workers may run it; None: the context's default queue."""
    max_crashes: int = Field(default=3, ge=1)
    """So many attempts may die with their worker; then the node has FAILED as lost."""

    @field_validator("retries")
    @classmethod
    def _not_negative(cls, value: int | RetryPolicy) -> int | RetryPolicy:
        if isinstance(value, int) and value < 0:
            raise ValueError("retries must be 0 or more")
        return value

    @property
    def retry_policy(self) -> RetryPolicy:
        if isinstance(self.retries, RetryPolicy):
            return self.retries
        return _plain_policy(self.retries)


_PLAIN_POLICIES: dict[int, RetryPolicy] = {}


def _plain_policy(retries: int) -> RetryPolicy:
    if retries not in _PLAIN_POLICIES:
        _PLAIN_POLICIES[retries] = RetryPolicy(max_attempts=retries + 1)
    return _PLAIN_POLICIES[retries]


class Settings(BaseSettings):
    """The settings of a process, from ``FLOWQ_*`` environment variables. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="FLOWQ_", extra="ignore", frozen=True)

    broker_url: str = "redis://127.0.0.1:6379/0"
    """Where Celery's wake-ups travel: any broker that Celery supports."""
    state_url: str | None = None
    """The Redis that holds the runs; None: the broker's, if that is Redis."""
    results_url: str | None = None
    """Where large values lie: redis://…, memory://, file:///path or sqlite:///path; None: the state's Redis."""
    include: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)] = ()
    """Modules whose processors and flows a worker knows, and no others. In the environment: comma-separated."""
    prefix: str = Field(default="flowq", pattern=r"^[A-Za-z0-9_.-]+$")
    """The first part of every key, so that several installations may share one Redis."""
    queue: str = "flowq"
    """The queue of flows that name none."""
    retention_s: Seconds = 24 * 3600
    """How long a finished run stays readable."""
    lease_s: Seconds = 15
    """A claim that is not renewed for so long is taken away and given to somebody else."""
    renew_s: Seconds = 5
    """How often a worker renews its leases."""
    sweep_s: Seconds = 2
    """How often somebody in the fleet looks for expired leases, due timers and missed wake-ups."""
    unknown_s: Seconds = 60
    """How long a node waits for a worker that knows its processor, before it fails."""
    grace_s: Annotated[float, BeforeValidator(_to_seconds), Field(ge=0)] = 20
    """How long a worker that is told to end lets its attempts go on, before it hands them back. Kubernetes kills 30 s
    after it has told."""
    slice_s: Seconds = 0.2
    """A drain holds its Celery worker for so long, then goes to the back of the queue."""
    linger_s: Annotated[float, BeforeValidator(_to_seconds), Field(ge=0, le=10)] = 0.02
    """A drain that finds nothing waits for so long before it gives its Celery worker free: what becomes ready meanwhile
    begins in a fraction of the time that a message takes."""
    threads: int = Field(default=16, ge=1)
    """How many THREAD nodes one worker process runs at once."""
    transport: Literal["flowq", "celery"] = "flowq"
    """What carries messages if the broker is Redis: flowq's own transport, which loses none and which none can stop; or
    Celery's. The two understand each other."""
    dispatch: Dispatch = "pull"
    """How nodes reach the workers: ``pull``, by wake-ups; ``canvas``, each as a Celery task of its own."""
    inline_bytes: int = Field(default=16 * 1024, ge=0)
    """Encoded values up to this size are kept in the run's own state; larger ones go to the results store."""
    compress_bytes: int = Field(default=4 * 1024, ge=0)
    """Values from this size on are compressed."""
    max_value_bytes: int = Field(default=256 * 1024 * 1024, ge=1)
    """No value may be larger than this, encoded or decoded."""
    max_open_runs: int = Field(default=100_000, ge=0)
    """While so many runs are open, submit waits for room; 0: it never does."""
    submit_wait_s: Seconds = 10
    """How long submit waits for room before it raises OverloadedError."""
    allow_unsafe_store: bool = False
    """Work with a Redis whose configuration may lose runs: that evicts keys, or keeps nothing on disk."""

    @property
    def redis_url(self) -> str:
        """The state's Redis as an address that redis-py reads."""
        url = self.state_url or self.broker_url
        transport, _, rest = url.partition("+socket://")
        if transport in ("redis", "flowq-socket"):
            url = "unix://" + rest.replace("virtual_host=", "db=")  # kombu's words for it
        if not url.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(
                f"FLOWQ_STATE_URL: {url!r} is no Redis address; flowq keeps its runs in Redis: set FLOWQ_STATE_URL"
                " to redis://…, rediss://… or unix://…"
            )
        return url
