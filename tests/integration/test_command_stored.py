"""Stored definitions on the command line and through both clients, against a running service."""

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
