"""A kombu transport for Redis that loses no message and that no message can stop.

It speaks to the same lists, in the same envelopes, as kombu's own Redis transport; the two may be mixed on the same
queues. What differs is how it takes: by moving a message into a list of its own (``<queue>:taken:<consumer>``) instead
of popping it, so that at every moment the message is in Redis; and that it looks at what it took before anybody else
does, and puts what no consumer could use into ``<queue>:quarantine``.

``register`` makes it known to kombu under the alias ``flowq``; ``celery_conf`` says how it is selected for a broker.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import urlsplit

from kombu.connection import Connection
from kombu.transport import TRANSPORT_ALIASES

ALIASES = {
    "flowq": "redis",
    "flowq-socket": "redis",
    "flowq-sentinel": "sentinel",
}
"""Our aliases, and what kombu calls the same kind of broker: addresses that are shown (Flower reads them) say that."""

_CLASSES = {"flowq": "Transport", "flowq-socket": "SocketTransport", "flowq-sentinel": "SentinelTransport"}
_CONSUMER = f"{__name__}.reconnect:Consumer"


def register() -> None:
    """Make the transport known to kombu, in this process; to do so again changes nothing."""
    for alias, name in _CLASSES.items():
        TRANSPORT_ALIASES[alias] = f"{__name__}.transport:{name}"
    Connection.resolve_aliases.update(ALIASES)


def celery_conf(broker_url: str) -> dict[str, Any]:
    """Give the Celery configuration that selects this transport for a broker; empty if the broker is no Redis.

    Of Sentinel, the master's name may stand in the address, ``sentinel://one:26379;sentinel://two:26379/NAME/0``, as
    well as in Celery's ``broker_transport_options``.
    """
    scheme, _, rest = broker_url.partition("://")
    if scheme in ("redis", "rediss"):
        conf: dict[str, Any] = {"broker_url": broker_url, "broker_transport": "flowq"}
        if scheme == "rediss" and "ssl_" not in rest:
            conf["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    elif scheme == "sentinel":
        conf = {"broker_url": _sentinels(broker_url), "broker_transport": "flowq-sentinel"}
    elif scheme in ("redis+socket", "unix"):
        # kombu reads the transport from what precedes the plus sign, whatever else is said.
        conf = {"broker_url": f"flowq-socket+socket://{rest.replace('db=', 'virtual_host=')}"}
    else:
        return {}
    register()
    return {**conf, "worker_consumer": _CONSUMER}


def _sentinels(url: str) -> str:
    """Move the path of the last address to the first, where kombu reads it."""
    first, *others = url.split(";")
    path = "".join(urlsplit(address).path.rstrip("/") for address in (first, *others)[-1:])
    if not others or not path:
        return url
    return ";".join([f"{first.rstrip('/')}{path}", *others[:-1], others[-1].removesuffix(path)])
