"""Messages that were delivered, until somebody acknowledges them."""

from __future__ import annotations

import time
from typing import Any

from kombu.transport import virtual

from flowq.runtime.transport.envelope import UNREAD, Taken

_Message: Any = virtual.Message  # kombu has next to no types
_QoS: Any = virtual.QoS


class Message(_Message):  # type: ignore[misc]
    """A message that knows where it lies while nobody has acknowledged it, and whose JSON is decoded already."""

    def __init__(self, payload: Any, channel: Any = None, **kwargs: Any) -> None:
        super().__init__(payload, channel=channel, **kwargs)
        self.taken: Taken | None = getattr(payload, "taken", None)
        """None: it was published to whoever listened, and lies nowhere."""
        self._content = getattr(payload, "content", UNREAD)

    def _decode(self) -> Any:
        if self._content is UNREAD or (self.accept is not None and self.content_type not in self.accept):
            return super()._decode()  # which refuses what is not accepted
        return self._content


class QoS(_QoS):  # type: ignore[misc]
    """Acknowledges by removing a message from the list of those that its consumer has taken."""

    _suspect: tuple[str, float] = ("", 0.0)

    def take_none_beside(self, delivery_tag: str, for_s: float) -> None:
        """Take nothing more until a message is acknowledged, but for so long at most: it may end this process."""
        self._suspect = delivery_tag, time.monotonic() + for_s

    def can_consume(self) -> bool:
        tag, until = self._suspect
        if until:
            if tag in self._delivered and tag not in self._dirty and time.monotonic() < until:
                return False
            self._suspect = "", 0.0
        return bool(super().can_consume())

    def ack(self, delivery_tag: str) -> None:
        message = self._delivered.get(delivery_tag)
        if message is not None and message.taken is not None:
            self.channel.settle(message.taken)
        super().ack(delivery_tag)

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        message = self._delivered.get(delivery_tag)
        if not requeue:
            self.ack(delivery_tag)
        elif message is not None and message.taken is not None:
            self.channel.give_back(message.taken, first=False)
            super().ack(delivery_tag)

    def holds_any(self) -> bool:
        """Tell whether there is a message that nobody has acknowledged."""
        return len(self._delivered) > len(self._dirty)

    def restore_unacked(self) -> None:
        self._flush()
        while self._delivered:
            _, message = self._delivered.popitem()  # the newest first, so that the oldest comes to lie before it
            if message.taken is not None:
                self.channel.give_back(message.taken, first=True)

    def restore_unacked_once(self, stderr: Any = None) -> None:
        """Give back at the end of the channel, or of the process; not only what was delivered."""
        self._on_collect.cancel()
        self.channel.leave()
