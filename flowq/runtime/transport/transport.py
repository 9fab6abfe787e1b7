"""The transports that kombu is told of."""

from __future__ import annotations

from typing import Any

from kombu.transport import redis as stock

from flowq.core.errors import FlowqError
from flowq.runtime.transport.channel import Channel, SentinelChannel

_Transport: Any = stock.Transport  # kombu has next to no types
_SentinelTransport: Any = stock.SentinelTransport

DEFAULTS = {
    # kombu waits for ever for a peer that is gone without a word.
    "socket_timeout": 5,
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 4,
}
"""Transport options where nobody has said otherwise; seconds."""


class Transport(_Transport):  # type: ignore[misc]
    """For redis:// and rediss://."""

    Channel = Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        client.transport_options = {**DEFAULTS, **client.transport_options}
        super().__init__(client, **kwargs)


class SocketTransport(Transport):
    """For Unix sockets, whose address kombu takes as it is. It is shown as kombu's own would be."""

    can_parse_url = True

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        return f"redis+{uri}"


class NoMasterError(FlowqError):
    """Of a broker behind Sentinel, nobody has said what the sentinels call it."""


class SentinelTransport(Transport, _SentinelTransport):  # type: ignore[misc]
    """For sentinel://, whose path may name the master before the database: /NAME or /NAME/0.

    Raises:
        NoMasterError: neither the address nor the transport options name it.
    """

    Channel = SentinelChannel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        name, _, database = str(client.virtual_host or "").strip("/").rpartition("/")
        if not name and not database.isdecimal():
            name, database = database, ""
        if name:
            client.virtual_host = database or "0"
            client.transport_options = {"master_name": name, **client.transport_options}
        if not client.transport_options.get("master_name"):
            raise NoMasterError(
                "the broker's address sentinel://… does not say what the sentinels call the master: write"
                " sentinel://HOST:26379/NAME/0, or set broker_transport_options={'master_name': NAME}"
            )
        # redis-py asks all the sentinels itself; kombu's own failover would go to the transport that an address names.
        client.cycle = None
        super().__init__(client, **kwargs)
