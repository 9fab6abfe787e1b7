"""RabbitMQ carries the wake-ups, Redis holds the runs: with a broker of another kind everything is as it was."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kombu.connection import Connection

from flowq import FlowStatus, FlowType, NodeStatus, flow, task
from flowq.standalone import EmbeddedContext
from flowq.testing import rabbitmq, wait_until
from flowq.testing.fleet import fleet
from flowq.testing.rabbitmq import RabbitServer, RabbitServerError, find_rabbitmq_server
from tests.conformance.engines.effects import by_node, effects, note
from tests.conformance.engines.flows import cancelling, dependencies, digests, maps, retries
from tests.conformance.engines.shapes import chain, evaluate, layered
from tests.conformance.leftovers import clear_now

EAGER = {"lease_s": 4.0, "renew_s": 0.3, "sweep_s": 0.3}
"""A lease that the test of a killed worker can wait for, and that a server which starts beside it does not outlast."""
MODULES = [cancelling, dependencies, digests, maps, retries, __name__]


def wait_for_file(path: str) -> None:
    deadline = time.monotonic() + 60
    while not Path(path).exists():
        if time.monotonic() > deadline:
            raise TimeoutError(path)
        time.sleep(0.01)


@task
def gate(value: int, path: str, log: str) -> int:
    """Go on when the test says so."""
    note(log, "start")
    wait_for_file(path)
    return value


@task
def meet(value: int, path: str, own: str, other: str, log: str) -> int:
    """Give the value when the other one has come too: only two workers can do that."""
    note(log, "start")
    Path(path + own).touch()
    wait_for_file(path + other)
    return value


@task
def never_done_at_first(value: int, path: str, log: str) -> int:
    note(log, "start")
    if len(effects(log)) == 1:
        wait_for_file(path)
    return value


@flow
def diamond(value: int) -> list[int | None]:
    top = dependencies.number(value)
    return dependencies.both(dependencies.number(top), dependencies.broken(top))


@flow
def gated(value: int, path: str, log: str) -> int:
    return gate(value, path, log)


@flow
def gate_and_meeting(value: int, path: str, log: str) -> list[int | None]:
    value = gate(value, path, log)
    return dependencies.both(meet(value, path, "a", "b", log), meet(value, path, "b", "a", log))


@flow
def killed_at_first(value: int, path: str, log: str) -> int:
    return never_done_at_first(value, path, log)


@pytest.fixture(scope="module")
def rabbit() -> Iterator[RabbitServer]:
    if find_rabbitmq_server() is None:
        pytest.skip("no rabbitmq-server is installed on this machine")
    with RabbitServer() as running:
        yield running


@pytest.fixture(scope="module")
def workers(rabbit) -> Iterator[EmbeddedContext]:
    with fleet(2, MODULES, settings={"broker_url": rabbit.url, **EAGER}) as started:
        yield started


@pytest.fixture
def context(workers) -> Iterator[EmbeddedContext]:
    yield workers
    clear_now(workers)


@pytest.fixture
def log(tmp_path) -> str:
    """Where the nodes of a test write down what they did."""
    return str(tmp_path / "effects")


@pytest.fixture
def path(tmp_path) -> str:
    """The file that opens a gate."""
    return str(tmp_path / "go")


def waiting(rabbit: RabbitServer) -> int:
    """Give the number of wake-ups that no worker has taken."""
    with Connection(rabbit.url) as connection:
        return int(connection.default_channel.queue_declare("flowq", passive=True).message_count)


def starts(log: str, run: str) -> dict[str, int]:
    return {name: len(found) for name, found in by_node(log, run, "start").items()}


# --- the server -----------------------------------------------------------------------------------------------------


def processes_in(directory: Path) -> list[int]:
    """Give what runs in a directory or did when it was removed: all that a server has started does."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            where = str((process / "cwd").readlink())
        except OSError:  # gone in the meantime, or a zombie
            continue
        if where.removesuffix(" (deleted)").startswith(str(directory)):
            found.append(int(process.name))
    return found


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Give the addresses on which these processes accept connections."""
    sockets = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed in the meantime
                sockets.add(str(descriptor.readlink()))
    found = set()
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in sockets:
                host, port = fields[1].split(":")
                words = [struct.pack("=I", int(host[i : i + 8], 16)) for i in range(0, len(host), 8)]
                found.add((socket.inet_ntop(family, b"".join(words)), int(port, 16)))
    return found


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="no /proc to look for processes and ports in")
def test_the_server_is_private_and_leaves_nothing(rabbit):
    with RabbitServer() as other:  # beside another one
        directory, port = other.directory, int(other.url.rpartition(":")[2].strip("/"))
        running = processes_in(directory)
        assert other.pid in running
        found = listening(running)
        assert {host for host, _ in found} == {"127.0.0.1"}
        assert port in {number for _, number in found}
        assert len(found) == 2  # with that of Erlang's distribution
        assert other.url != rabbit.url
    assert not directory.exists()
    wait_until(lambda: not processes_in(directory), 10, lambda: processes_in(directory))


def test_a_server_that_is_not_installed(monkeypatch):
    monkeypatch.setattr(rabbitmq, "find_rabbitmq_server", lambda: None)
    with pytest.raises(RabbitServerError, match="no RabbitMQ server on this machine: install the package"):
        RabbitServer().start()


def test_a_server_that_ends_at_once(tmp_path):
    bad = tmp_path / "bad"
    bad.write_text("#!/bin/sh\necho what is wrong\nexit 3\n")
    bad.chmod(0o755)
    server = RabbitServer(binary=bad)
    with pytest.raises(RabbitServerError, match=r"ended with status 3 before it answered(.|\n)*what is wrong"):
        server.start()
    with pytest.raises(RabbitServerError, match="not running"):
        _ = server.url


# --- runs -----------------------------------------------------------------------------------------------------------


def test_wake_ups_go_through_rabbitmq_and_runs_lie_in_redis(context, rabbit):
    assert context.settings.broker_url == rabbit.url
    assert context.settings.redis_url == context.server.redis_url
    assert maps.chained.submit(4, context=context).result(30).output == 6 + 4 * 12
    keys = set(context.service("state").client.scan_iter())
    assert {key for key in keys if not key.startswith(b"flowq:")} == set()  # neither Celery's queue nor kombu's books


def test_a_diamond_with_an_optional_node_that_fails(context):
    result = diamond.submit(3, context=context).result(30)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [3, None])
    assert list(result.failures) == ["broken"]


def test_a_map_of_two_hundred(context, log):
    handle = maps.many_noted.submit(200, log, context=context)
    assert handle.result(60).output == sum(range(200))
    assert sorted(effect.more for effect in effects(log, handle.run_id)) == list(range(200))  # each of them once


def test_a_graph_of_many_layers(context, log):
    shape = layered(12, 12, seed=5)
    handle = digests.as_class_form(shape).submit({"log": log}, context=context)
    assert handle.result(60).output == evaluate(shape)
    assert starts(log, handle.run_id) == dict.fromkeys(shape, 1)


def test_retries(context, log):
    handle = retries.flaky.submit(3, log, context=context)
    assert handle.result(30).output == 3
    assert [effect.attempt for effect in effects(log, handle.run_id)] == [1, 2, 3]


def test_a_cancelled_run(context, log):
    handle = cancelling.endless(FlowType.PROCESS).submit({"log": log}, context=context)
    wait_until(lambda: "endless" in starts(log, handle.run_id), 20)
    assert handle.cancel() is FlowStatus.CANCELLED
    assert handle.result(10).nodes["late"].status is NodeStatus.CANCELLED
    wait_until(lambda: list(by_node(log, handle.run_id, "stopped")) == ["endless"], 10)
    assert set(starts(log, handle.run_id)) == {"quick", "endless"}


def test_a_worker_is_killed_while_it_runs_a_node(context, log, path):
    handle = killed_at_first.submit(7, path, log, context=context)
    wait_until(lambda: effects(log), 20)
    holder = handle.node("never_done_at_first").worker or ""
    number = int(holder[1])  # w1@host/pid, w2@host/pid
    context.workers.kill(number)
    try:
        result = handle.result(30)
    finally:
        context.workers.restart(number)
        context.workers.wait_ready()
    node = result.nodes["never_done_at_first"]
    assert (result.output, node.attempt) == (7, 2)
    assert node.worker is not None
    assert node.worker[:2] != holder[:2]


def test_rabbitmq_is_restarted_in_the_middle_of_a_run(context, rabbit, log, path):
    """What runs goes on; what becomes ready meanwhile reaches the other worker when it has connected again."""
    handle = gate_and_meeting.submit(5, path, log, context=context)
    wait_until(lambda: starts(log, handle.run_id), 20)
    rabbit.kill()
    Path(path).touch()  # the gate's worker goes on with one of the two that meet, and cannot wake up the other worker
    wait_until(lambda: len(starts(log, handle.run_id)) == 2, 20)
    assert handle.status() is FlowStatus.RUNNING
    rabbit.restart()
    result = handle.result(60)
    assert (result.status, result.output) == (FlowStatus.COMPLETED, [5, 5])
    assert set(starts(log, handle.run_id).values()) == {1}
    assert len({node.worker for node in result.nodes.values()}) == 2


def test_rabbitmq_is_restarted_while_many_nodes_run(context, rabbit, log):
    shape = layered(25, 8, seed=1)
    flow = digests.as_class_form(shape, processors={name: digests.Digest(name=name, takes_s=0.02) for name in shape})
    handle = flow.submit({"log": log}, context=context)
    wait_until(lambda: len(starts(log, handle.run_id)) > 10, 20)
    rabbit.restart()
    assert handle.result(60).output == evaluate(shape)
    assert starts(log, handle.run_id) == dict.fromkeys(shape, 1)


def test_a_run_that_is_submitted_while_rabbitmq_is_away(context, rabbit, log):
    rabbit.kill()
    handle = digests.as_class_form(chain(5)).submit({"log": log}, context=context)
    rabbit.restart()
    assert handle.result(60).output == evaluate(chain(5))
    assert set(starts(log, handle.run_id).values()) == {1}


def test_wake_ups_do_not_pile_up(context, rabbit, log, path):
    """Runs that wait for a busy fleet need none: each slot asks for more when it is free again."""
    held = [gated.submit(i, path, log, context=context) for i in range(2)]
    wait_until(lambda: len(effects(log)) == 2, 20)
    others = [maps.run_time_list.submit(10, context=context) for _ in range(30)]
    assert waiting(rabbit) <= 2  # slots
    Path(path).touch()
    assert [handle.result(30).output for handle in held] == [0, 1]
    assert {handle.result(60).output for handle in others} == {90}
    wait_until(lambda: waiting(rabbit) == 0, 10, lambda: waiting(rabbit))
