"""The deployment files: what they promise as read, and their very commands as run, without containers."""

import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from flowq.standalone import EmbeddedServer
from flowq.standalone.binary import find_server_binary
from flowq.standalone.process import GuardedProcess

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
PASSWORDS = {"FLOWQ_REDIS_PASSWORD": secrets.token_hex(8), "FLOWQ_FLOWER_PASSWORD": secrets.token_hex(8)}
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


def interpolated(text: str, environ: dict[str, str]) -> str:
    """Compose's `${NAME}`, `${NAME:-default}` and `${NAME:?why it is needed}`."""

    def value(match: re.Match[str]) -> str:
        if found := environ.get(match["name"]):
            return found
        assert match["kind"] == "-", f"{match['name']} is not set: {match['text']}"
        return match["text"]

    return VARIABLE.sub(value, text)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    text = (ROOT / "docker-compose.yml").read_text()
    services = yaml.safe_load(interpolated(text, PASSWORDS))["services"]
    assert isinstance(services, dict)
    return services


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    return [" ".join(line.split()) for line in text.splitlines() if line and not line.startswith("#")]


# --- As read --------------------------------------------------------------------------------------------------------


def test_the_image_runs_as_an_ordinary_user(dockerfile: list[str]):
    last_stage = dockerfile[max(i for i, line in enumerate(dockerfile) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER")]
    assert users, "the last stage sets no USER"
    assert users[-1] not in {"root", "0"}


def test_the_image_installs_nothing_but_what_the_locks_name(dockerfile: list[str]):
    installs = [line for line in dockerfile if "pip install" in line]
    assert len(installs) == 2
    locked, project = installs
    assert "--require-hashes -r requirements.lock" in locked
    assert "--no-deps --build-constraint requirements-dev.lock ." in project


def test_the_image_holds_what_it_copies(dockerfile: list[str]):
    copies = [line.split()[1:-1] for line in dockerfile if line.startswith("COPY") and "--from" not in line]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in {source for sources in copies for source in sources}:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored, f"the build does not see {source}"


def test_the_image_runs_the_worker_by_default(dockerfile: list[str], services: dict[str, Any]):
    (command,) = [line.removeprefix("CMD ") for line in dockerfile if line.startswith("CMD ")]
    assert yaml.safe_load(command) == services["worker"]["command"]


def test_redis_keeps_everything_and_asks_for_a_password(services: dict[str, Any]):
    settings = dict(
        line.split(maxsplit=1) for line in (ROOT / "deploy" / "redis.conf").read_text().splitlines() if line
    )
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["protected-mode"] == "yes"
    command = services["redis"]["command"]
    assert command[command.index("--requirepass") + 1] == PASSWORDS["FLOWQ_REDIS_PASSWORD"]
    assert "ports" not in services["redis"]


def test_redis_looks_values_up_as_the_embedded_server_does():
    (line,) = [line for line in (ROOT / "deploy" / "redis.conf").read_text().splitlines() if "listpack" in line]
    with EmbeddedServer(appendonly=False) as server, redis.Redis.from_url(server.redis_url) as client:
        name, entries = line.split()
        assert client.config_get(name)[name] == entries


def test_the_worker_scales(services: dict[str, Any]):
    assert not {"container_name", "ports"} & services["worker"].keys()


def test_flower_asks_for_a_login_and_is_open_to_this_machine_alone(services: dict[str, Any]):
    flower = services["flower"]
    assert flower["environment"]["FLOWER_BASIC_AUTH"].endswith(":" + PASSWORDS["FLOWQ_FLOWER_PASSWORD"])
    assert flower["ports"] == ["127.0.0.1:5555:5555"]


def test_no_password_is_written_down_and_the_example_names_each():
    text = (ROOT / "docker-compose.yml").read_text()
    required = {match["name"] for match in VARIABLE.finditer(text) if match["kind"] == "?"}
    assert required == PASSWORDS.keys()
    example = (ROOT / ".env.example").read_text().splitlines()
    assert {f"{name}=" for name in required} <= set(example)


@pytest.mark.parametrize("service", ["worker", "flower", "demo"])
def test_the_commands_exist(services: dict[str, Any], service: str):
    assert shutil.which(services[service]["command"][0], path=str(BIN))


# --- As run ---------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], bool], what: str, process: GuardedProcess, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.alive, f"{process.name} ended with {process.returncode}:\n{process.log_tail()}"
        assert time.monotonic() < deadline, f"{what}: not so after {timeout_s} s:\n{process.log_tail()}"
        time.sleep(0.05)


class Fleet:
    """Redis, one worker and Flower, each by the command and the environment that the compose file gives it."""

    def __init__(self, services: dict[str, Any], folder: Path, stack: ExitStack):
        self._services, self._folder, self._stack = services, folder, stack
        self.redis_port, self.flower_port = free_port(), free_port()
        self.redis = self._start_redis()
        self.worker = self._start("worker", self._command("worker"), self.environment("worker"))
        place = {"FLOWER_ADDRESS": "127.0.0.1", "FLOWER_PORT": str(self.flower_port)}
        self.flower = self._start("flower", self._command("flower"), self.environment("flower") | place)

    def environment(self, service: str) -> dict[str, str]:
        """What the container would see, with this machine in place of the service names."""
        image = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        given = {name: str(value) for name, value in self._services[service]["environment"].items()}
        local = {name: value.replace("@redis:6379", f"@127.0.0.1:{self.redis_port}") for name, value in given.items()}
        return {**os.environ, **image, **local}

    def run(self, command: list[str], service: str, timeout_s: float) -> subprocess.CompletedProcess[str]:
        environ = self.environment(service)
        return subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    def client(self, password: str | None) -> redis.Redis:
        client = redis.Redis(host="127.0.0.1", port=self.redis_port, password=password)
        self._stack.callback(client.close)
        return client

    def _command(self, service: str) -> list[str]:
        program, *arguments = self._services[service]["command"]
        return [str(BIN / program), *arguments]

    def _start(self, name: str, argv: list[str], environ: dict[str, str], cwd: Path = ROOT) -> GuardedProcess:
        process = GuardedProcess(name, argv, cwd=cwd, log_path=self._folder / f"{name}.log", env=environ)
        self._stack.callback(self._stop, process)
        return process

    def _stop(self, process: GuardedProcess) -> None:
        process.terminate()
        stopped = process.wait(20)
        process.kill()
        assert stopped, f"{process.name} did not stop when told to:\n{process.log_tail()}"

    def _start_redis(self) -> GuardedProcess:
        service = self._services["redis"]
        mounted = {target: str(ROOT / source) for source, target, *_ in (v.split(":") for v in service["volumes"])}
        program, *arguments = service["command"]
        assert program == "redis-server"
        binary = find_server_binary()
        assert binary is not None
        argv = [str(binary.path), *(mounted.get(a, a) for a in arguments)]
        place = ["--port", str(self.redis_port), "--bind", "127.0.0.1"]
        process = self._start("redis", argv + place, dict(os.environ), cwd=self._folder)
        wait_until(self._redis_answers, "Redis answers", process)
        return process

    def _redis_answers(self) -> bool:
        try:
            return bool(self.client(PASSWORDS["FLOWQ_REDIS_PASSWORD"]).ping())
        except redis.ConnectionError:
            return False


@pytest.fixture(scope="module")
def fleet(services: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(services, tmp_path_factory.mktemp("deploy"), stack)


@pytest.mark.xdist_group("deploy")
class TestCommands:
    """One fleet for the class, so that it starts once."""

    def test_redis_refuses_a_client_without_the_password(self, fleet: Fleet):
        with pytest.raises(redis.AuthenticationError):
            fleet.client(password=None).ping()

    def test_redis_runs_with_the_settings_of_its_file(self, fleet: Fleet):
        found: Any = fleet.client(PASSWORDS["FLOWQ_REDIS_PASSWORD"]).config_get("append*", "maxmemory-policy")
        assert (found["appendonly"], found["appendfsync"]) == ("yes", "everysec")
        assert found["maxmemory-policy"] == "noeviction"

    def test_the_health_check_of_the_image_finds_the_worker(self, fleet: Fleet, dockerfile: list[str]):
        (check,) = [line.partition(" CMD ")[2] for line in dockerfile if line.startswith("HEALTHCHECK")]
        command = shlex.split(check.replace("$HOSTNAME", socket.gethostname()))
        wait_until(lambda: fleet.run(command, "worker", 30).returncode == 0, "the worker is healthy", fleet.worker)

    def test_flower_answers_only_who_logs_in(self, fleet: Fleet):
        login = "flowq:" + PASSWORDS["FLOWQ_FLOWER_PASSWORD"]

        def status(path: str, login: str | None = None) -> int:
            request = urllib.request.Request(f"http://127.0.0.1:{fleet.flower_port}{path}")
            if login:
                request.add_header("Authorization", "Basic " + b64encode(login.encode()).decode())
            try:
                with urllib.request.urlopen(request, timeout=10) as response:
                    return int(response.status)
            except urllib.error.HTTPError as refused:
                with refused:
                    return refused.code
            except urllib.error.URLError:
                return 0

        wait_until(lambda: status("/healthcheck") == 200, "Flower is healthy", fleet.flower)
        assert status("/workers") == 401
        assert status("/workers", "flowq:wrong") == 401
        assert status("/workers", login) == 200

    def test_the_demo_completes_on_the_workers(self, fleet: Fleet, services: dict[str, Any]):
        demo = fleet.run(services["demo"]["command"], "demo", timeout_s=60)
        assert demo.returncode == 0, demo.stdout + demo.stderr + fleet.worker.log_tail()
        assert demo.stdout.strip()
