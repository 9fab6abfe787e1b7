"""A proxy between Redis clients and their server on which requests and replies are lost, delayed and doubled.

::

    client ──▶ requests, cut into frames ──▶ server        fates: one for each request whose reply is to come
           ◀── replies, each with its fate ◀──
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from tests.chaos.replies.faults import SUBSCRIBING, Chooses, Fault, Happened
from tests.chaos.replies.resp import Frames, words_of

DELAY_S = 0.03
"""How long a delayed reply takes."""

LATE_S = (0.01, 0.06, 0.2)
"""When late requests come, in turn: before redis-py repeats them (after 0.04 s), about then, and after it."""

_CHUNK = 1 << 16


class FaultProxy:
    """Listens on a Unix socket of its own, in a thread of its own. A context manager.

    Args:
        server_url: where the server is, as redis-py writes it: ``unix://…`` or ``redis://host:port``.
        chooses: says what becomes of each request.
        tcp: listen on a port of 127.0.0.1 instead.
    """

    def __init__(self, server_url: str, chooses: Chooses, *, tcp: bool = False) -> None:
        self._server_url, self.chooses, self._tcp = server_url, chooses, tcp
        self.happened = Happened()
        self.requests = 0
        self._directory: Path | None = None
        self._port = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._late = 0
        self._thread = threading.Thread(target=self._main, name="fault-proxy", daemon=True)
        self._ready = threading.Event()
        self._stop = asyncio.Event()

    @property
    def redis_url(self) -> str:
        """The proxy's address for redis-py."""
        return f"redis://127.0.0.1:{self._port}" if self._tcp else f"unix://{self._socket}"

    @property
    def broker_url(self) -> str:
        """The proxy's address for Celery and kombu."""
        return f"{self.redis_url}/0" if self._tcp else f"redis+socket://{self._socket}?virtual_host=0"

    @property
    def _socket(self) -> Path:
        assert self._directory is not None, "the proxy is not running"
        return self._directory / "proxy.sock"

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="flowq-proxy-"))
        self._thread.start()
        assert self._ready.wait(10), "the proxy does not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert self._directory is not None
        shutil.rmtree(self._directory, ignore_errors=True)

    def _main(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        if self._tcp:
            server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
            self._port = server.sockets[0].getsockname()[1]
        else:
            server = await asyncio.start_unix_server(self._connected, self._socket)
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # The server's own task is not ours to cancel: it would report that as an error of the callback.
        self.begin(self._link(reader, writer))

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            server_reader, server_writer = await self.connect()
        except OSError:
            writer.close()
            return
        link = Link(self, (reader, writer), (server_reader, server_writer))
        try:
            await link.run()
        finally:
            for end in (writer, server_writer):
                _close(end)

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the server."""
        address = urlsplit(self._server_url)
        if address.scheme == "unix":
            return await asyncio.open_unix_connection(address.path)
        return await asyncio.open_connection(address.hostname, address.port)

    def begin(self, what: Coroutine[Any, Any, None]) -> None:
        """Do something beside all else, until the proxy stops at the latest."""
        task = self._loop.create_task(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def send_late(self, request: bytes) -> None:
        """Have a request carried out later, over a connection that nobody reads from any more."""
        self._late += 1
        await asyncio.sleep(LATE_S[self._late % len(LATE_S)])
        with contextlib.suppress(OSError):
            reader, writer = await self.connect()
            writer.write(request)
            await reader.read(1)  # it is carried out
            _close(writer)


class Broken(Exception):
    """The connection is to break now."""


class Link:
    """One client's connection, and the one to the server that belongs to it."""

    def __init__(
        self,
        proxy: FaultProxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._from_client, self._to_client = client
        self._from_server, self._to_server = server
        self._fates: deque[Fault | None] = deque()
        self._swallow = False
        """The next reply is the first one of a request that was sent twice."""
        self._in_transaction = False
        self._subscribed = False

    async def run(self) -> None:
        """Go on until either side closes, or a fault breaks it."""
        ways = [asyncio.create_task(way) for way in (self._forth(), self._back())]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _forth(self) -> None:
        """Pass requests on."""
        frames = Frames()
        while data := await self._from_client.read(_CHUNK):
            out = bytearray()
            for request in frames.feed(data):
                try:
                    self._pass_on(request, out)
                except Broken:
                    self._to_server.write(out)
                    await self._written_out()
                    return
            self._to_server.write(out)
            await self._to_server.drain()

    def _pass_on(self, request: bytes, out: bytearray) -> None:
        command = words_of(request)[0].decode().upper()
        self._proxy.requests += 1
        fault = self._proxy.chooses(command, in_transaction=self._in_transaction)
        self._in_transaction = command == "MULTI" or (self._in_transaction and command not in ("EXEC", "DISCARD"))
        if fault is not None:
            self._proxy.happened[fault] += 1
        if fault is Fault.CUT:
            raise Broken
        if fault is Fault.LATE:
            self._proxy.begin(self._proxy.send_late(request))
            raise Broken
        out += request
        if command in SUBSCRIBING:
            self._subscribed = True
        if self._subscribed:
            if fault is not None and fault is not Fault.DELAY:
                raise Broken
            return
        if fault is Fault.TWICE:
            out += request
        self._fates.append(fault)

    async def _written_out(self) -> None:
        """What was sent before the break is still answered, in the client's time or not at all."""
        await self._to_server.drain()
        while self._fates and not self._from_client.at_eof():  # noqa: ASYNC110 - moments, in a test
            await asyncio.sleep(0.001)

    async def _back(self) -> None:
        """Pass replies on, each as its fate is."""
        frames = Frames()
        while data := await self._from_server.read(_CHUNK):
            if self._subscribed and not self._fates:
                self._to_client.write(data)
                await self._to_client.drain()
                continue
            for reply in frames.feed(data):
                if reply[:1] == b">" or not self._fates:  # nobody has asked for it
                    self._to_client.write(reply)
                    continue
                if not await self._reply(reply):
                    return
            await self._to_client.drain()

    async def _reply(self, reply: bytes) -> bool:
        """Pass a reply on; False: the connection breaks."""
        fate = self._fates[0]
        if fate is Fault.TWICE and not self._swallow:
            self._swallow = True
            return True
        self._swallow = False
        if fate is Fault.DROP:
            return False
        if fate is Fault.TORN:
            self._to_client.write(reply[: len(reply) // 2])
            await self._to_client.drain()
            return False
        if fate is Fault.DELAY:
            await asyncio.sleep(DELAY_S)
        self._to_client.write(reply)
        self._fates.popleft()
        return True


def _close(writer: asyncio.StreamWriter) -> None:
    end = writer.get_extra_info("socket")
    if end is not None and end.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # a reset, as when a machine goes away, and not a polite end
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    writer.close()
