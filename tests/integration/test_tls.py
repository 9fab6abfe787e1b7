"""Brokers and stores that are reached by TLS, or found by Redis Sentinel; the servers are this machine's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import redis
from celery import Celery
from kombu.exceptions import OperationalError

from flowq import FlowContext, Settings
from flowq.runtime.app import make_app
from flowq.runtime.transport.transport import NoMasterError
from flowq.standalone import EmbeddedServer
from flowq.standalone.binary import path_binary
from flowq.standalone.process import GuardedProcess
from flowq.testing import wait_until
from tests.conformance.engines.flows import maps
from tests.integration.eager_fleets import client_of, eager

HOST = "127.0.0.1"


def free_port() -> int:
    with socket.create_server((HOST, 0)) as free:
        port: int = free.getsockname()[1]
        return port


def start(directory: Path, *options: str, port: int, tls: bool = False) -> GuardedProcess:
    """Start a server of this machine that listens on a port."""
    binary = path_binary()
    if binary is None:
        pytest.skip("no redis-server or valkey-server on PATH")
    listens = ["--port", "0" if tls else str(port), *(["--tls-port", str(port)] if tls else []), "--bind", HOST]
    kept = ["--save", "", "--appendonly", "yes", "--dir", str(directory)]
    argv = [str(binary), *([*listens, *kept] if "--sentinel" not in options else []), *options]
    process = GuardedProcess("a server", argv, cwd=directory, log_path=directory / "log")

    def listens_or_has_ended() -> bool:
        with socket.socket() as there:
            return not process.alive or there.connect_ex((HOST, port)) == 0

    wait_until(listens_or_has_ended, 10)
    if tls and not process.alive and "tls" in process.log_tail().lower():
        pytest.skip(f"{binary} knows no TLS")
    assert process.alive, process.log_tail()
    return process


class Tls:
    """A server that speaks TLS alone, and with nobody who has no certificate of its authority."""

    def __init__(self, directory: Path) -> None:
        openssl = shutil.which("openssl")
        if openssl is None:
            pytest.skip("no openssl, which makes the certificates")

        def make(*command: str) -> None:
            subprocess.run([openssl, *command], cwd=directory, check=True, capture_output=True)

        key = ("-newkey", "rsa:2048", "-nodes")
        make("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=authority")
        make("req", *key, "-keyout", "own.key", "-out", "own.csr", "-subj", "/CN=server")
        (directory / "names").write_text(f"subjectAltName=IP:{HOST}\n")
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "names")
        make("x509", "-req", "-in", "own.csr", *signed, "-out", "own.crt")
        files = {name: str(directory / name) for name in ("ca.crt", "own.crt", "own.key")}
        port = free_port()
        options = ["--tls-ca-cert-file", files["ca.crt"], "--tls-cert-file", files["own.crt"]]
        self._process = start(directory, *options, "--tls-key-file", files["own.key"], port=port, tls=True)
        self.plain_url = f"rediss://{HOST}:{port}/0"
        own = {"ssl_certfile": files["own.crt"], "ssl_keyfile": files["own.key"]}
        self.stranger_url = f"{self.plain_url}?{urlencode(own)}"
        """Of somebody who does not know the authority."""
        known = {"ssl_ca_certs": files["ca.crt"], **own}
        self.url = self.redis_url = f"{self.plain_url}?{urlencode({'ssl_cert_reqs': 'required', **known})}"

    def stop(self) -> None:
        self._process.kill()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    server = Tls(tmp_path_factory.mktemp("tls"))
    yield server
    server.stop()


def test_messages_state_and_celerys_results_travel_by_tls(tls):
    with eager(1, server=tls) as context:
        for dispatch in ("pull", "canvas"):
            assert maps.chained.submit(4, context=context, dispatch=dispatch).result(60).output == 54
        client = client_of(context)
        assert client.zcard("_flowq.consumers") > 0  # the transport is flowq's
        assert client.connection_pool.connection_kwargs["ssl_cert_reqs"] == "required"


def test_a_worker_comes_back_over_tls(tls):
    with eager(1, server=tls) as context:
        assert maps.chained.submit(4, context=context).result(60).output == 54
        assert client_of(context).client_kill_filter(_type="normal", skipme=True) > 1
        assert maps.chained.submit(4, context=context).result(60).output == 54


def test_a_server_whose_authority_is_not_known_is_refused(tls):
    """kombu's own transport would trust anybody if the address does not say otherwise."""
    settings = Settings(broker_url=tls.plain_url, state_url=tls.redis_url)
    with closing(FlowContext(settings)) as context:
        connection = make_app(context).connection_for_write()
        with connection, pytest.raises(OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            connection.ensure_connection(max_retries=1, interval_start=0)


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """A master, its replica, and a sentinel that watches the two."""
    ports = {name: free_port() for name in ("master", "replica", "sentinel")}
    places = {name: tmp_path / name for name in ports}
    for place in places.values():
        place.mkdir()
    found: dict[str, Any] = {"port": ports["sentinel"], "master": start(places["master"], port=ports["master"])}
    of_master = ["--replicaof", HOST, str(ports["master"])]
    processes = [found["master"], start(places["replica"], *of_master, port=ports["replica"])]
    configuration = places["sentinel"] / "sentinel.conf"
    configuration.write_text(
        f"port {ports['sentinel']}\nbind {HOST}\nsentinel monitor fleet {HOST} {ports['master']} 1\n"
        "sentinel down-after-milliseconds fleet 500\nsentinel failover-timeout fleet 3000\n"
    )
    processes.append(start(places["sentinel"], str(configuration), "--sentinel", port=ports["sentinel"]))
    with redis.Redis(HOST, ports["sentinel"], decode_responses=True) as asked:
        wait_until(lambda: asked.sentinel_slaves("fleet"), 20)
        yield found
    for process in processes:
        process.kill()


def consumers(context: FlowContext) -> int | None:
    """Count what the broker's master knows; None: it cannot be asked, as no other has taken over yet."""
    try:
        with context.celery_app.connection_for_read() as connection:
            return int(connection.default_channel.client.zcard("_flowq.consumers"))
    except OperationalError:
        return None


def test_a_broker_behind_sentinel_may_change_its_master(sentinel):
    address = f"sentinel://{HOST}:{sentinel['port']}"
    given = {"broker_url": f"{address};{address}/fleet/0"}
    with EmbeddedServer() as server, eager(1, settings=given, server=server) as context:
        assert context.celery_app.conf.broker_transport == "flowq-sentinel"
        assert maps.chained.submit(4, context=context).result(60).output == 54
        sentinel["master"].kill()
        assert maps.chained.submit(4, context=context).result(60).output == 54
        wait_until(lambda: consumers(context) == 1, 60)  # a worker that was still listening needed no message
        assert maps.chained.submit(4, context=context).result(60).output == 54


@pytest.mark.parametrize("path", ["", "/", "/0"])
def test_without_the_masters_name_it_is_said_how_to_give_it(path):
    settings = Settings(broker_url=f"sentinel://{HOST}:1{path}", state_url="redis://127.0.0.1:1/0")
    with closing(FlowContext(settings)) as context:
        connection = make_app(context).connection_for_write()
        with connection, pytest.raises(NoMasterError, match="sentinel://HOST:26379/NAME/0"):
            connection.ensure_connection()


def test_the_masters_name_may_be_a_transport_option():
    app = Celery("team", broker="flowq-sentinel://a:1;sentinel://b:2/0")
    app.conf.broker_transport_options = {"master_name": "fleet"}
    with app.connection_for_write() as connection:
        assert connection.transport.client.transport_options["master_name"] == "fleet"


def test_runs_cannot_lie_behind_sentinel():
    with pytest.raises(ValueError, match="set FLOWQ_STATE_URL"):
        _ = Settings(broker_url=f"sentinel://{HOST}:1/fleet/0").redis_url
