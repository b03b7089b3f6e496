"""``flow-manager dev``: starts everything, starts it again, and leaves nothing behind."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import redis
from pydantic import JsonValue

from flow_manager.client import FlowClient
from flow_manager.development.places import LONGEST_SOCKET_PATH, socket_path
from flow_manager.development.plan import claimed, refuse_used_port
from flow_manager.development.process import Death, KeptProcess
from flow_manager.development.valkey import end_orphan, server_command, server_program
from shared.errors import InvalidSettings
from shared.status import RunStatus
from tests.development_service import Service, development_service, run_command
from tests.waiting import block_until, wait_until

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
PATIENT = "import time; time.sleep(60)"

FLOW: JsonValue = {
    "id": "dev",
    "start_task": "first",
    "tasks": [{"name": "first", "type": "noop"}, {"name": "second", "type": "noop"}],
    "conditions": [{"source_task": "first", "target_task_success": "second"}],
}

DOZING = """
import asyncio, os, pathlib
from flow_manager import task

@task("doze")
async def doze(mark: str):
    if not pathlib.Path(mark).exists():
        pathlib.Path(mark + ".new").write_text(str(os.getpid()))
        os.rename(mark + ".new", mark)
        await asyncio.sleep(60)
    return {"success": True, "data": {}}
"""
"""A task that sleeps for long when it is run for the first time, and tells in which process."""


@asynccontextmanager
async def kept(
    program: str, deaths: list[Death] | None = None, stop_seconds: float = 5.0
) -> AsyncIterator[KeptProcess]:
    async def note(death: Death) -> None:
        if deaths is not None:
            deaths.append(death)

    command = [sys.executable, "-c", program]
    process = KeptProcess("sleeper", command, os.environ, note, stop_seconds)
    async with asyncio.TaskGroup() as group:
        group.create_task(process.keep())
        await wait_until(lambda: process.process_id, description="the process is started")
        yield process
        process.stop()


def becomes(process: KeptProcess, program: str) -> Callable[[], bool]:
    """Whether the launcher has become the program."""

    def has_become() -> bool:
        assert process.process_id is not None
        return program in psutil.Process(process.process_id).cmdline()

    return has_become


async def test_a_crashed_process_is_started_again() -> None:
    deaths: list[Death] = []
    async with kept("raise SystemExit(3)", deaths):
        await wait_until(lambda: len(deaths) == 3, description="it died three times")
    assert {death.code for death in deaths} == {3}
    assert len({death.process_id for death in deaths}) == 3
    assert "ended with status 3" in deaths[0].describe()


async def test_a_killed_process_says_by_which_signal() -> None:
    deaths: list[Death] = []
    async with kept(PATIENT, deaths) as process:
        await wait_until(becomes(process, PATIENT), description="it runs")
        assert process.process_id is not None
        os.kill(process.process_id, signal.SIGKILL)
        await wait_until(lambda: deaths, description="its death is seen")
    assert "was killed by SIGKILL" in deaths[0].describe()


async def test_a_process_that_ignores_sigterm_is_killed_after_its_time() -> None:
    async with kept(STUBBORN, stop_seconds=0.2) as process:
        await wait_until(becomes(process, STUBBORN), description="it runs")
    assert process.process_id is not None
    assert not psutil.pid_exists(process.process_id)


def test_a_port_in_use_is_refused_in_words() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InvalidSettings, match=rf"port {port} .* --port"):
            refuse_used_port(port)


def test_a_data_folder_has_one_supervisor(tmp_path: Path) -> None:
    with (
        claimed(tmp_path),
        pytest.raises(InvalidSettings, match=str(os.getpid())),
        claimed(tmp_path),
    ):
        pass
    with claimed(tmp_path):
        pass


@pytest.mark.parametrize("name", ["deep/" * 30, "with blank", "ünder"])
def test_a_socket_whose_path_does_not_fit_goes_to_a_private_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/tmp")
    path = socket_path(tmp_path / name)
    try:
        assert len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
        assert path == socket_path(tmp_path / name)
        path.parent.chmod(0o755)
        with pytest.raises(InvalidSettings, match="this user alone"):
            socket_path(tmp_path / name)
    finally:
        path.parent.rmdir()


async def test_an_orphaned_valkey_is_ended_before_another_is_started(tmp_path: Path) -> None:
    path = socket_path(tmp_path)
    orphan = await asyncio.create_subprocess_exec(
        *server_command(server_program(), path), stdout=asyncio.subprocess.DEVNULL
    )
    client = redis.Redis(unix_socket_path=str(path))
    try:

        def answers() -> bool:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        await wait_until(answers, description="the orphan answers")
        await asyncio.to_thread(end_orphan, path)
        async with asyncio.timeout(5):
            assert await orphan.wait() == 0
        assert not path.exists()
    finally:
        client.close()
        if orphan.returncode is None:
            orphan.kill()
            await orphan.wait()


def complete_a_run(service: Service) -> None:
    with FlowClient(service.url) as client:
        run = client.run_and_wait(FLOW, timeout_seconds=10)
    assert run.status is RunStatus.COMPLETED, run
    assert [task.name for task in run.tasks] == ["first", "second"]


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_dev_runs_flows_restarts_killed_workers_and_stops_everything(tmp_path: Path) -> None:
    with development_service(tmp_path) as service:
        complete_a_run(service)
        block_until(lambda: len(service.workers()) == 2, description="two workers run")
        killed = service.workers()[0]
        killed.kill()
        block_until(
            lambda: (
                killed.pid not in {each.pid for each in service.workers()}
                and len(service.workers()) == 2
            ),
            description="the killed worker is replaced",
            timeout=10,
        )
        complete_a_run(service)
        second = run_command("dev", "--port", str(service.port), "--data", str(tmp_path / "other"))
        assert second.returncode == 2
        assert "cannot be used" in second.stderr
        children = service.children()
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(20) == 0
        assert not [child for child in children if child.is_running()]
    assert "was killed by SIGKILL; starting it again" in service.log.read_text("utf-8")
    # The same data again: what was there is still there.
    with development_service(tmp_path) as service, FlowClient(service.url) as client:
        assert len(client.list().runs) == 2


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_dead_workers_task_goes_on_before_its_lease_is_over(tmp_path: Path) -> None:
    tasks = tmp_path / "dozing.py"
    tasks.write_text(DOZING)
    options = ["--tasks", str(tasks), "--lease-seconds", "20"]
    with development_service(tmp_path, options) as service, FlowClient(service.url) as client:
        first = tmp_path / "first"
        definition: JsonValue = {
            "id": "doze",
            "start_task": "doze",
            "tasks": [{"name": "doze", "params": {"mark": str(first)}}],
        }
        submitted = client.run(definition)
        block_until(first.exists, description="the task runs", timeout=10)
        psutil.Process(int(first.read_text())).kill()
        run = client.wait(submitted.flow_run_id, timeout_seconds=15)
    assert run.is_success, run
    assert [task.status.value for task in run.tasks] == ["cancelled", "success"], run.tasks
    assert run.tasks[0].reason == "worker_lost"


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with development_service(tmp_path) as service:
        children = service.children()
        assert len(children) >= 4
        service.process.kill()
        service.process.wait()
        _, alive = psutil.wait_procs(children, timeout=5)
        assert not alive
