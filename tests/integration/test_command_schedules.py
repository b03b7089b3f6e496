"""Schedules on the command line and through both clients, against a running service."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_manager.async_client import AsyncFlowClient
from flow_manager.calls import RequestRefused
from flow_manager.client import FlowClient
from tests.development_service import Service, development_service, run_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with development_service(tmp_path_factory.mktemp("stored"), ["--workers", "1"]) as service:
        yield service


def flow(flow_id: str, **others: Any) -> dict[str, Any]:
    return {"id": flow_id, "start_task": "a", "tasks": [{"name": "a", "type": "noop"}], **others}


def written(folder: Path, document: object) -> str:
    file = folder / "flow.json"
    file.write_text(json.dumps(document, indent=2))
    return str(file)


def run(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, "--url", service.url)


def test_a_suggestion_is_made_once(tmp_path: Path) -> None:
    definition = flow("x", conditions=[{"source_task": "a", "target_task_success": "A"}])
    done = run_command("validate", written(tmp_path, definition))
    assert '(did you mean "a"?)' in done.stdout
    assert done.stdout.count("did you mean") == 1


def test_a_schedule_is_made_shown_paused_started_and_deleted(service: Service) -> None:
    with FlowClient(service.url) as client:
        client.definitions.put(flow("nightly"))
    made = run(
        service,
        *("schedules", "create", "nightly", "--id", "n", "--cron", "30 2 * * *"),
        *("--time-zone", "Europe/Berlin", "--overlap", "queue", "--input", '{"x": 1}', "--json"),
    )
    assert made.returncode == 0, made.stderr
    document = json.loads(made.stdout)
    assert (document["overlap"], document["input"], document["paused"]) == (
        ("queue", {"x": 1}, False)
    )
    taken = run(service, "schedules", "create", "nightly", "--id", "n", "--every", "5m")
    assert taken.returncode == 1
    changed = ("schedules", "create", "nightly", "--id", "n", "--every", "5m", "--replace")
    assert "every 300 s" in run(service, *changed).stdout
    assert run(service, "schedules", "pause", "n").returncode == 0
    assert "paused" in run(service, "schedules", "list", "--flow-id", "nightly").stdout
    assert "next tick" in run(service, "schedules", "resume", "n").stdout
    started = run(service, "schedules", "trigger", "n").stdout.split()[-1].rstrip(".")
    listed = json.loads(run(service, "runs", "--schedule-id", "n", "--json").stdout)
    assert [each["flow_run_id"] for each in listed["flows"]] == [started]
    assert "last: " in run(service, "schedules", "show", "n").stdout
    assert run(service, "schedules", "delete", "n").returncode == 0
    assert run(service, "schedules", "show", "n").returncode == 1


def test_a_wrong_schedule_is_told_by_its_options(service: Service) -> None:
    with FlowClient(service.url) as client:
        client.definitions.put(flow("wrong"))
    zone = ("--cron", "@daily", "--time-zone", "berlin")
    done = run(service, "schedules", "create", "wrong", *zone, "--overlap", "stop")
    assert done.returncode == 2
    assert "--overlap must be" in done.stderr
    assert '--time-zone names no time zone: "berlin" (did you mean "Europe/Berlin"?)' in done.stderr
    assert run(service, "schedules", "create", "wrong", "--replace").returncode == 2


def test_the_clients_make_and_start_schedules(service: Service) -> None:
    with FlowClient(service.url) as client:
        client.definitions.put(flow("by-client"))
        made = client.schedules.create({"flow_id": "by-client", "every": "1h"})
        assert made.every == 3_600
        assert client.schedules.put(made.id, {"flow_id": "by-client", "every": 60}).every == 60
        assert client.schedules.pause(made.id).paused
        assert not client.schedules.resume(made.id).paused
        started = client.schedules.trigger(made.id, idempotency_key="k")
        assert client.wait(started.flow_run_id, timeout_seconds=20).is_success
        last = client.schedules.get(made.id).last_start
        assert last is not None
        assert last.flow_run_id == started.flow_run_id
        assert [each.id for each in client.schedules.list(flow_id="by-client").schedules] == [
            made.id
        ]
        client.schedules.delete(made.id)


async def test_the_asynchronous_client_schedules_as_well(service: Service) -> None:
    async with AsyncFlowClient(service.url) as client:
        await client.definitions.put(flow("by-async"))
        made = await client.schedules.create({"flow_id": "by-async", "every": "1h"})
        put = await client.schedules.put(made.id, {"flow_id": "by-async", "cron": "@daily"})
        assert put.cron == "0 0 * * *"
        assert (await client.schedules.pause(made.id)).next_ticks == []
        assert len((await client.schedules.resume(made.id)).next_ticks) == 5
        assert (await client.schedules.trigger(made.id)).flow_id == "by-async"
        assert (await client.schedules.get(made.id)).last_start is not None
        assert len((await client.schedules.list(limit=1)).schedules) == 1
        await client.schedules.delete(made.id)
        with pytest.raises(RequestRefused):
            await client.schedules.get(made.id)
