"""kombu's channel for Redis, with another way to take, acknowledge and give back messages.

Lists, envelopes, publishing, bindings, fanout (remote control, events) and the event loop stay kombu's.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from queue import Empty
from typing import Any

import redis
from kombu.exceptions import OperationalError
from kombu.transport import redis as stock

from flowq.runtime.transport.envelope import Payload, Taken, open_envelope
from flowq.runtime.transport.keeper import Keeper
from flowq.runtime.transport.quarantine import Quarantine
from flowq.runtime.transport.recovery import (
    Books,
    Limit,
    beat,
    forget,
    give_back,
    give_back_all,
    give_back_of_dead,
    held,
)
from flowq.runtime.transport.shapes import Malformed
from flowq.runtime.transport.taker import Bell, Lists, Taker
from flowq.runtime.transport.unacked import Message, QoS
from flowq.runtime.transport.wire import BROKEN, TAKE, Wire

logger = logging.getLogger("flowq.transport")

_Channel: Any = stock.Channel  # kombu has next to no types
_SentinelChannel: Any = stock.SentinelChannel

_REFUSED_PAUSE_S = 0.25
"""After Redis has refused a command (no memory, a key of another type): it is asked again, but not without end."""

_SUSPECT_DEATHS = 2
"""After so many deaths a message is taken alone: else those beside it would be counted, and set aside, with it."""

_SUSPECT_S = 5.0
"""But not for longer: what ends its worker mostly does so at once, and a long task must not keep others away."""


class Taking:
    """The part of a channel that takes messages: to be mixed into one of kombu's channels for Redis."""

    Message = Message
    dead_s = 15.0
    """A consumer that was silent for so long is dead: others move back what it has taken."""
    max_deaths = 5
    """A message is set aside when so many of its consumers have died, each less than an hour after the one before."""
    max_message_bytes = 16 * 1024 * 1024
    quarantine_items = 1000
    quarantine_item_bytes = 64 * 1024
    quarantine_ttl_s = 7 * 24 * 3600.0

    OPTIONS = (
        "dead_s",
        "max_deaths",
        "max_message_bytes",
        "quarantine_items",
        "quarantine_item_bytes",
        "quarantine_ttl_s",
    )

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        self.consumer = os.urandom(8).hex()
        self._keeper: Keeper | None = None
        self._lost = False
        self._publisher: Any = None
        self._unacknowledged: set[str] = set()  # queues whose consumers want no acknowledgements
        super().__init__(*args, **kwargs)
        self.QoS = QoS  # also with ack_emulation=False, which is for speed, and loses messages
        self._books = Books.under(self.global_keyprefix, self.dead_s)
        limits = (self.quarantine_items, self.quarantine_item_bytes, self.quarantine_ttl_s)
        self._quarantine = Quarantine(*limits, sep=self.sep)
        self._limit = Limit(self._quarantine, self.max_deaths, message_bytes=self.max_message_bytes)
        self._pool_of_wire = self.pool
        self._wire = Wire(self.pool)
        self._taker = Taker(self._wire, self.brpop_timeout)
        self._lists: Lists | None = None
        self._known_lists: dict[tuple[str, ...], Lists] = {}

    def _connparams(self: Any, asynchronous: bool = False) -> Any:
        if self.connection is None:  # it was closed in another thread; kombu would look for its address there
            raise OperationalError("the channel is closed")
        return super()._connparams(asynchronous)  # type: ignore[misc]

    def _create_client(self: Any, asynchronous: bool = False) -> Any:
        """Give a client; the same one for all messages that are published: to make one takes longer than to publish."""
        if asynchronous:
            return super()._create_client(asynchronous)  # type: ignore[misc]
        pool = self.pool  # another one after a fork
        if self._publisher is None or self._publisher.connection_pool is not pool:
            self._publisher = super()._create_client()  # type: ignore[misc]
        return self._publisher

    # --- consuming ----------------------------------------------------------------------------------------------

    def basic_consume(self: Any, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        if no_ack:
            self._unacknowledged.add(queue)
        else:
            self._unacknowledged.discard(queue)
        return super().basic_consume(queue, no_ack, *args, **kwargs)  # type: ignore[misc]

    def _basic_cancel(self: Any, consumer_tag: str) -> Any:
        answer = super()._basic_cancel(consumer_tag)  # type: ignore[misc]
        if self._keeper is not None and not self.active_queues and not self.qos.holds_any():
            self._stop_taking()
            self.leave()  # clients of remote control leave their channels open
        return answer

    def _brpop_start(self: Any, timeout: float | None = None) -> None:
        """Ask for a message; called by the poller when there is room for one."""
        queues = self._queue_cycle.consume(len(self.active_queues))
        if not queues:
            return
        lists = self._lists_of(queues)
        connection = self.client.connection
        try:
            self._introduce(lists)
            self._taker.send(connection, lists)
        except BROKEN:
            self._lost = True
            raise
        self._lists = lists
        self._in_poll, self._brpop_sent_at = connection, time.monotonic()

    def _brpop_read(self: Any, **options: Any) -> bool:
        """Read the answer, and deliver the message; called by the poller when there is one."""
        connection = self.client.connection
        try:
            found = self._taker.receive(connection, self._lists)
        except redis.exceptions.ReadOnlyError as error:  # a replica now: another connection finds the master
            raise self._lose(connection, redis.ConnectionError(str(error))) from error
        except BROKEN as error:
            raise self._lose(connection, error) from None
        except redis.ResponseError as error:
            logger.error("Redis gives no message: %s", error)
            time.sleep(_REFUSED_PAUSE_S)
            raise Empty from None
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if found is None:
            raise Empty
        source, key, raw = found
        queue = self._queue_of(source)
        self._queue_cycle.rotate(queue)
        self._deliver_taken(Taken(raw, source, key), queue)
        return True

    def _deliver_taken(self: Any, taken: Taken, queue: str) -> None:
        payload = self._opened(taken, queue)
        if payload is None:
            raise Empty
        if taken.deaths >= _SUSPECT_DEATHS:
            self.qos.take_none_beside(payload["properties"]["delivery_tag"], _SUSPECT_S)
        if queue in self._unacknowledged:
            self.settle(taken)
        try:
            self.connection._deliver(payload, queue)
        except (*BROKEN, MemoryError):
            raise
        except OperationalError as error:
            raise redis.ConnectionError(str(error)) from error
        except Exception as error:  # kombu and Celery would end the worker; a KeyError passes for a lost connection
            logger.debug("delivering a message", exc_info=True)
            self._quarantine.put(self._wire, taken, f"its consumer raised {type(error).__name__}: {error}")
            self.qos.ack(payload["properties"]["delivery_tag"])

    def _receive_one(self: Any, client: Any) -> Any:
        """Read what was published (remote control, events): it lies nowhere, so it is dropped if it cannot be used."""
        try:
            return super()._receive_one(client)  # type: ignore[misc]
        except Empty:
            return None  # raised, it would keep kombu from reading what has come with it
        except (*BROKEN, MemoryError):
            raise
        except Exception as error:
            logger.error("a published message cannot be used (%s: %.200s)", type(error).__name__, error)
            return None

    def _get(self: Any, queue: str) -> Payload:
        lists = self._lists_of([queue])
        self._introduce(lists)
        names = [name for pair in lists.pairs for name in pair]
        while (answer := self._wire.script(TAKE, names)) is not None:
            source, key = lists.pairs[answer[0]]
            payload: Payload | None = self._opened(Taken(answer[1], source, key), queue)
            if payload is not None:
                return payload
        raise Empty

    def basic_get(self: Any, queue: str, no_ack: bool = False, **kwargs: Any) -> Any:
        message = super().basic_get(queue, no_ack, **kwargs)  # type: ignore[misc]
        if message is not None and no_ack:
            self.settle(message.taken)
        return message

    def _opened(self: Any, taken: Taken, queue: str) -> Payload | None:
        try:
            payload = open_envelope(taken, self.max_message_bytes)
        except Malformed as error:
            self._quarantine.put(self._wire, taken, str(error))
            return None
        properties = payload["properties"]
        info = properties["delivery_info"] = dict(properties.get("delivery_info") or {})
        if not info.get("exchange"):
            info["routing_key"] = queue  # where it lay, not what it says: consumers may go by it
        if properties["delivery_tag"] in self.qos._delivered:  # sent twice: both are in flight
            properties["delivery_tag"] = os.urandom(16).hex()
        return payload

    # --- acknowledging ------------------------------------------------------------------------------------------

    def settle(self: Any, taken: Taken) -> None:
        """Remove a message for good; if Redis is away, as soon as it is back."""
        try:
            self._wire.call("LREM", taken.held, 1, taken.raw)
        except BROKEN as error:
            if self._keeper is None or self._lost:
                raise
            logger.info("an acknowledgement waits for Redis (%s)", error)
            self._keeper.owed.append((taken.held, taken.raw))

    def give_back(self: Any, taken: Taken, *, first: bool) -> None:
        """Put a message back into its queue."""
        give_back(self._wire, taken.held, taken.source, taken.raw, first=first)

    # --- coming and going ---------------------------------------------------------------------------------------

    def close(self: Any) -> None:
        if not self.closed:
            self._closing = True
            self._stop_taking()
            self.leave()
        super().close()  # type: ignore[misc]

    def leave(self: Any) -> None:
        """Give back all that was taken. After the connection was lost, others do that: what runs may yet be done."""
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        keeper.stop()
        try:
            if not self._lost:
                here = (self.consumer, sorted(keeper.sources))
                if _is_failure(sys.exception()):
                    give_back_of_dead(self._wire, self._books, self._limit, *here, must_be_dead=False)
                else:
                    give_back_all(self._wire, *here)
                forget(self._wire, self._books, *here)
        except (*BROKEN, redis.RedisError) as error:
            self._lost = True
            logger.warning("messages could not be given back (%s): others will do so in %g s", error, self.dead_s)
        self._wire.close()

    def _introduce(self: Any, lists: Lists) -> None:
        """Say who takes from these lists, before the first message is taken."""
        sources = lists.sources
        if self._keeper is not None and sources <= self._keeper.sources:
            return
        known: frozenset[str] = self._keeper.sources if self._keeper is not None else frozenset()
        beat(self._wire, self._books, self.consumer, known | sources)
        if self._keeper is None:
            self._wire.open()
            bell = Bell(self._pool_of_wire) if len(sources) > 1 else None
            self._keeper = Keeper(self.consumer, self._books, self._limit, self._wire, self._taker, bell)
            self._keeper.sources = sources
            self._keeper.start()
        else:
            self._keeper.sources = known | sources

    def _stop_taking(self: Any) -> None:
        if not self._in_poll:
            return
        try:
            self._taker.interrupt()
            self._taker.receive(self._in_poll, self._lists)  # a message stays where it is: it is given back at once
        except (*BROKEN, redis.RedisError):
            self._lost = True  # the command may be under way yet
        finally:
            self._in_poll = None

    def _lose(self: Any, connection: Any, error: BaseException) -> BaseException:
        self._lost = True
        connection.disconnect()
        return error

    def _after_fork(self: Any) -> None:
        self._keeper = None
        self._wire.forked()
        super()._after_fork()  # type: ignore[misc]

    # --- names --------------------------------------------------------------------------------------------------

    def _lists_of(self: Any, queues: list[str]) -> Lists:
        found: Lists | None = self._known_lists.get(tuple(queues))
        if found is None:
            found = self._known_lists[tuple(queues)] = self._name_lists(queues)
        return found

    def _name_lists(self: Any, queues: list[str]) -> Lists:
        names = [
            f"{self.global_keyprefix}{self._q_for_pri(queue, step)}" for step in self.priority_steps for queue in queues
        ]
        pairs = tuple((name, held(name, self.consumer)) for name in names)
        # Each consumer waits at another queue, but always at the same one.
        wait = sorted(pairs[: len(queues)])[int(self.consumer, 16) % len(queues)]
        return Lists(pairs, wait, frozenset(names))

    def _queue_of(self: Any, source: str) -> str:
        queue: str = source.removeprefix(self.global_keyprefix).rsplit(self.sep, 1)[0]
        return queue


def _is_failure(error: BaseException | None) -> bool:
    """Tell whether a process that ends while it handles this error dies of what it was at, as from lack of memory."""
    return isinstance(error, Exception) and not isinstance(error, (*BROKEN, redis.RedisError, OperationalError))


class Channel(Taking, _Channel):  # type: ignore[misc]
    """A channel to one Redis server."""

    from_transport_options = (*stock.Channel.from_transport_options, *Taking.OPTIONS)


class SentinelChannel(Taking, _SentinelChannel):  # type: ignore[misc]
    """A channel to the master that Redis Sentinel names."""

    from_transport_options = (*stock.SentinelChannel.from_transport_options, *Taking.OPTIONS)
