"""Stored definitions and schedules by command and by both clients, against a running service."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_manager.client import AsyncFlowClient, FlowClient, RequestRefused
from shared.errors import InvalidInput
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


def test_a_definition_is_put_shown_run_and_deleted(service: Service, tmp_path: Path) -> None:
    flow_id = "from/file"
    file = written(tmp_path, flow(flow_id))
    assert "version 1" in run(service, "definitions", "put", file).stdout
    changed = flow(flow_id, name="changed")
    put = run(service, "definitions", "put", written(tmp_path, changed), "--json")
    assert json.loads(put.stdout)["version"] == 2, put.stderr
    assert json.loads(run(service, "definitions", "show", flow_id).stdout) == changed
    shown = run(service, "definitions", "show", flow_id, "--version", "1")
    assert json.loads(shown.stdout) == flow(flow_id)
    listed = run(service, "definitions", "list")
    assert flow_id in listed.stdout
    told = json.loads(run(service, "definitions", "versions", flow_id, "--json").stdout)
    assert [each["version"] for each in told["versions"]] == [2, 1]
    done = run(service, "run", "--flow-id", flow_id, "--version", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["definition"] == flow(flow_id)
    assert run(service, "definitions", "delete", flow_id).returncode == 0
    gone = run(service, "run", "--flow-id", flow_id)
    assert gone.returncode == 2
    assert "/flow_id" in gone.stderr


def test_preconditions_and_mistakes_are_told(service: Service, tmp_path: Path) -> None:
    file = written(tmp_path, flow("kept"))
    assert run(service, "definitions", "put", file, "--new").returncode == 0
    refused = run(service, "definitions", "put", file, "--new")
    assert (refused.returncode, "newest version" in refused.stderr) == (1, True)
    assert run(service, "definitions", "put", file, "--after", "1").returncode == 0
    wrong = run(service, "definitions", "put", written(tmp_path, flow("bad", start_task="b")))
    assert wrong.returncode == 2
    assert "flow.json:3:" in wrong.stderr
    no_id = run(service, "definitions", "put", written(tmp_path, {"start_task": "a"}))
    assert (no_id.returncode, '"id"' in no_id.stderr) == (2, True)
    for arguments in ([], [file, "--flow-id", "kept"], [file, "--version", "1"]):
        assert run(service, "run", *arguments).returncode == 2


def test_a_suggestion_is_made_once(tmp_path: Path) -> None:
    definition = flow("x", conditions=[{"source_task": "a", "target_task_success": "A"}])
    done = run_command("validate", written(tmp_path, definition))
    assert '(did you mean "a"?)' in done.stdout
    assert done.stdout.count("did you mean") == 1


def test_the_client_stores_and_runs(service: Service) -> None:
    with FlowClient(service.url) as client:
        first = client.definitions.put(flow("sync"))
        assert (first.version, first.created) == (1, True)
        assert not client.definitions.put({"flow": flow("sync")}).created
        assert client.definitions.put(flow("sync", name="two"), after_version=1).version == 2
        with pytest.raises(RequestRefused) as refused:
            client.definitions.put(flow("sync"), after_version=1)
        assert refused.value.status == 412
        page = client.definitions.list(limit=1)
        assert len(page.definitions) == 1
        versions = client.definitions.versions("sync", limit=1)
        rest = client.definitions.versions("sync", cursor=versions.next_cursor)
        assert [each.version for each in (*versions.versions, *rest.versions)] == [2, 1]
        assert client.run_and_wait("sync", {"x": 1}, version=1).definition == flow("sync")
        assert client.run_and_wait("sync").name == "two"
        with pytest.raises(InvalidInput):
            client.definitions.put("sync")


async def test_the_asynchronous_client_does_the_same(service: Service) -> None:
    async with AsyncFlowClient(service.url) as client:
        assert (await client.definitions.put(flow("async"))).version == 1
        assert (await client.definitions.get("async", version=1)).definition == flow("async")
        assert (await client.definitions.list(cursor="asyn")).definitions[0].flow_id == "async"
        assert len((await client.definitions.versions("async")).versions) == 1
        assert (await client.run_and_wait("async")).is_success
        await client.definitions.delete("async")
        with pytest.raises(RequestRefused):
            await client.definitions.get("async")


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
    assert "Started run" in run(service, "schedules", "trigger", "n").stdout
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
