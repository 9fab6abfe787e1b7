"""Connections to Redis that bear with it, and what its errors mean."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from contextvars import ContextVar
from types import TracebackType
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from flowq.core.errors import StoreFullError, StoreUnavailableError

T = TypeVar("T")

GONE = (redis.ConnectionError, redis.TimeoutError)
"""The server is away, does not answer, or is still loading its data."""


FULL = {"OOM", "OutOfMemoryError"}
"""The word by which a server says that it is out of memory, and redis-py's."""

UNWRITABLE = {"READONLY", "MISCONF", "MASTERDOWN", "NOREPLICAS", "ReadOnlyError"}
"""The words of a server that does not take writes now: a replica, or one whose disk is full; and redis-py's."""

FRESH_S = 1.0
"""A connection that nobody has used for longer may have been closed meanwhile: it is looked at before it is used."""


class Redis(redis.Redis):
    """A client that raises flowq's own errors where a caller can do something about them.

    Raises:
        StoreUnavailableError: the server could not be reached, however often it was tried.
        StoreFullError: it is out of memory.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._fresh: list[tuple[Any, float]] = []
        """Connections that nobody uses, and since when. To the pool, they are in use."""

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with store_errors:
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]

    def call(self, *command: Any) -> Any:
        """Send a command and give its reply, raw; else as ``execute_command``, without what redis-py measures."""
        return answer(self.ask((command,))[0])

    def ask(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Send commands in one go and give the replies, raw; in the place of one that was refused, its error.

        If the connection is lost meanwhile, all of them are sent again: each must bear that. So many as their replies
        fit into memory, on both sides.
        """
        with store_errors:
            connection = self.take()
            packed = connection.pack_commands(commands)

            def exchange() -> list[Any]:
                connection.send_packed_command(packed)
                return [_reply(connection) for _ in commands]

            try:
                replies: list[Any] = connection.retry.call_with_retry(exchange, lambda _: connection.disconnect())
                return replies
            except BaseException:
                connection.disconnect()  # what it has not read yet is nobody else's
                raise
            finally:
                self.give_back(connection)

    def post(self, *command: Any) -> Posted:
        """Send a command, and go on; its reply is read later. Nothing is raised before that."""
        return Posted(self, command)

    def take(self) -> Any:
        """Give a connection that is the caller's until it is given back.

        The pool looks at every one that it gives, which takes longer than many a command.
        """
        try:
            connection, since = self._fresh.pop()
        except IndexError:
            return self.connection_pool.get_connection()
        if time.monotonic() - since <= FRESH_S and connection.pid == os.getpid():
            return connection
        self.connection_pool.release(connection)
        return self.connection_pool.get_connection()

    def give_back(self, connection: Any) -> None:
        """Have it serve others. What was sent on it has been answered, or it is disconnected."""
        self._fresh.append((connection, time.monotonic()))


class Posted:
    """A command that is on its way. It has a connection for itself until its reply is read, or it is closed."""

    def __init__(self, client: Redis, command: Sequence[Any]) -> None:
        self._client = client
        self._connection: Any = None
        with suppress(*GONE), trying_until(0.0):  # whoever reads the reply has time to try it again
            self._connection = client.take()
            try:
                self._connection.send_command(*command)
            except BaseException:
                self.close()
                raise

    def reply(self) -> Any:
        """Give the reply.

        Raises:
            StoreUnavailableError: it was lost; whether the command was done is not known.
        """
        with store_errors:
            if self._connection is None:
                raise redis.ConnectionError("the connection was lost")
            try:
                reply = self._connection.read_response()
            except redis.ResponseError:
                self._release()
                raise
            except BaseException:
                self.close()
                raise
            self._release()
            return reply

    def close(self) -> None:
        """Do without the reply."""
        if self._connection is not None:
            self._connection.disconnect()
            self._release()

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        self._client.give_back(connection)


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except redis.ResponseError as error:
        return error


def answer(reply: Any) -> Any:
    """Give a reply of ``ask``, or raise what refused it."""
    if isinstance(reply, redis.ResponseError):
        with store_errors:
            raise reply
    return reply


class _StoreErrors(AbstractContextManager[None]):
    """Raises flowq's own errors in the place of Redis's, as ``Redis`` does. Every call goes through here."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, GONE):
            raise StoreUnavailableError(
                f"Redis does not answer ({error}); see that the one of FLOWQ_STATE_URL or FLOWQ_RESULTS_URL is up, and"
                " try again"
            ) from error
        if isinstance(error, redis.ResponseError):
            # Redis 6.2 has what a command in a script met in the middle of what it says.
            words = set(str(error).replace("-", " ").split()) | {type(error).__name__}
            if words & FULL:
                raise StoreFullError(
                    f"Redis is out of memory ({error}); give it more (maxmemory), or forget ended runs"
                ) from error
            if words & UNWRITABLE:
                raise StoreUnavailableError(
                    f"Redis takes no writes ({error}); is it a replica, or is its disk full?"
                ) from error


store_errors = _StoreErrors()


_deadline: ContextVar[float | None] = ContextVar("flowq-store-deadline", default=None)


@contextmanager
def trying_until(deadline: float | None) -> Iterator[None]:
    """Have calls tried again no longer than until this moment on the monotonic clock; None: as long as always.

    A call that is answered is not cut short. One that meets a lost connection is made once more in any case: that says
    of a connection which nobody has used for long nothing about the server.
    """
    before = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(before)


class _RetryUntil(Retry):
    """Retries as often as it is told to, and not after the deadline of who calls."""

    def call_with_retry(self, do: Callable[[], T], fail: Callable[..., Any], *args: Any, **options: Any) -> T:
        deadline, failures = _deadline.get(), 0

        def fails(error: Exception, *more: Any) -> None:
            nonlocal failures
            failures += 1
            fail(error, *more)
            if deadline is not None and failures > 1 and time.monotonic() > deadline:
                raise error

        return super().call_with_retry(do, fails, *args, **options)


def connect(url: str) -> Redis:
    """Connect to a Redis. Lost connections are tried again for about ten seconds (see ``trying_until``)."""
    tcp: dict[str, Any] = {} if url.startswith("unix:") else {"socket_keepalive": True, "socket_connect_timeout": 5}
    client: Redis = Redis.from_url(  # type: ignore[assignment] # it says that of its class
        url,
        protocol=2,
        socket_timeout=30,
        retry=_RetryUntil(ExponentialBackoff(cap=1.0, base=0.02), 12),
        retry_on_error=list(GONE),
        **tcp,
    )
    return client


def await_item(client: Redis, key: str, seconds: float, command: Sequence[Any]) -> Any:
    """Take an item from a list as soon as there is one, or wait for so long; then give a command's reply, which the
    server has carried out at once.

    An idle server looks at the end of such waits ten times a second, so this one is ended from here: with an item.

    Raises:
        StoreUnavailableError: the server is away, or has gone meanwhile: whether the command was done is not known.
        redis.ResponseError: it refuses the command.
    """
    with store_errors:
        connection = client.take()
        try:
            connection.send_packed_command(connection.pack_commands([("BLPOP", key, seconds + 1), command]))
            if not connection.can_read(timeout=seconds):
                with client.pipeline(transaction=True) as pipe:
                    pipe.rpush(key, 0)
                    pipe.expire(key, 1 + int(seconds))  # it may come twice
                    pipe.execute()
            connection.read_response()
            return connection.read_response()
        except BaseException:
            connection.disconnect()  # it may still be waiting
            raise
        finally:
            client.give_back(connection)
