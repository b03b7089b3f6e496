"""The command line against a running service, as a user types it."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow_manager.async_client import AsyncFlowClient
from flow_manager.calls import RequestRefused, ServiceUnreachable
from flow_manager.client import FlowClient
from shared.status import RunStatus
from tests.development_service import Service, development_service, run_command
from tests.servers import free_port

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with development_service(tmp_path_factory.mktemp("command"), ["--workers", "1"]) as service:
        yield service


def flow(*types: str, params: dict[str, object] | None = None) -> dict[str, Any]:
    """A chain of tasks of these types, the first with the params."""
    tasks: list[dict[str, Any]] = [
        {"name": f"task_{n}", "type": each} for n, each in enumerate(types)
    ]
    if params is not None:
        tasks[0]["params"] = params
    return {
        "id": "-".join(types),
        "start_task": "task_0",
        "tasks": tasks,
        "conditions": [
            {"source_task": f"task_{n}", "target_task_success": f"task_{n + 1}"}
            for n in range(len(types) - 1)
        ],
    }


def written(folder: Path, document: object) -> str:
    file = folder / "flow.json"
    file.write_text(json.dumps(document, indent=2))
    return str(file)


def run(service: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, "--url", service.url)


def test_run_waits_and_prints_the_run(service: Service, tmp_path: Path) -> None:
    done = run(service, "run", written(tmp_path, flow("noop", "noop")), "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["status"] == "completed"
    assert [task["name"] for task in document["tasks"]] == ["task_0", "task_1"]


def test_watched_run_ends_as_a_tree(service: Service, tmp_path: Path) -> None:
    done = run(service, "run", written(tmp_path, flow("noop", "noop")), "--watch")
    assert done.returncode == 0, done.stderr
    assert "completed" in done.stdout
    assert "task_1" in done.stdout


def test_run_of_a_failing_task_exits_with_1_and_shows_why(service: Service, tmp_path: Path) -> None:
    done = run(service, "run", written(tmp_path, flow("fail", params={"message": "no paper"})))
    assert done.returncode == 1
    assert "no paper" in done.stdout


def test_run_of_an_invalid_definition_exits_with_2_and_its_place(
    service: Service, tmp_path: Path
) -> None:
    definition = flow("noop") | {"start_task": "task_9"}
    done = run(service, "run", written(tmp_path, definition))
    assert done.returncode == 2
    assert "flow.json:3:" in done.stderr, done.stderr
    assert "unknown_" in done.stderr


def test_a_run_that_takes_too_long_exits_with_124_and_can_be_cancelled(
    service: Service, tmp_path: Path
) -> None:
    file = written(tmp_path, flow("sleep", params={"for": 60}))
    done = run(service, "run", file, "--timeout", "0.3")
    assert done.returncode == 124, done.stderr
    flow_run_id = done.stderr.strip().rsplit(" ", 1)[1]
    assert run(service, "cancel", flow_run_id).returncode == 0
    assert run(service, "watch", flow_run_id, "--timeout", "10").returncode == 3
    again = run(service, "cancel", flow_run_id)
    assert again.returncode == 1


def test_rerun_goes_on_from_what_failed_by_a_corrected_definition(
    service: Service, tmp_path: Path
) -> None:
    broken = flow("noop", "fail", "noop")
    done = run(service, "run", written(tmp_path, broken), "--json")
    assert done.returncode == 1, done.stderr
    source = json.loads(done.stdout)["flow_run_id"]
    assert run(service, "rerun", source, "--timeout", "20").returncode == 1
    corrected = json.loads(json.dumps(broken))
    corrected["tasks"][1]["type"] = "noop"
    file = written(tmp_path, {"flow": corrected})
    again = run(service, "rerun", source, "--definition", file, "--json")
    assert again.returncode == 0, again.stderr
    document = json.loads(again.stdout)
    assert document["rerun_of"] == source
    reasons = {task["name"]: task["reason"] for task in document["tasks"]}
    assert reasons["task_0"].startswith("kept:")
    assert (reasons["task_1"], reasons["task_2"]) == (None, None)
    shown = run(service, "show", document["flow_run_id"]).stdout
    assert f"rerun of {source}" in shown.replace("\n", " ")
    assert "  kept\n" in shown


def test_a_rerun_that_cannot_be_says_why_with_its_place(service: Service, tmp_path: Path) -> None:
    done = run(service, "run", written(tmp_path, flow("noop")), "--json")
    source = json.loads(done.stdout)["flow_run_id"]
    file = written(tmp_path, flow("noop") | {"start_task": "task_9"})
    refused = run(service, "rerun", source, "--definition", file)
    assert refused.returncode == 2
    assert "flow.json:3:" in refused.stderr, refused.stderr
    refused = run(service, "rerun", source, "--from", "tusk_0")
    assert refused.returncode == 2
    assert refused.stderr.startswith('--from: there is no task "tusk_0"')


def test_runs_and_show_agree(service: Service, tmp_path: Path) -> None:
    done = run(service, "run", written(tmp_path, flow("noop")), "--json")
    flow_run_id = json.loads(done.stdout)["flow_run_id"]
    listed = json.loads(run(service, "runs", "--flow-id", "noop", "--json").stdout)
    assert flow_run_id in {each["flow_run_id"] for each in listed["flows"]}
    assert flow_run_id in run(service, "runs", "--limit", "1000").stdout
    assert json.loads(run(service, "show", flow_run_id, "--json").stdout)["flow_id"] == "noop"


def test_unknown_runs_are_said_to_be_unknown(service: Service) -> None:
    shown = run(service, "show", "0199aaaa-0000-7000-8000-000000000000")
    assert shown.returncode == 1
    assert shown.stderr.startswith("flow-manager: ")


def test_workers_of_dev_take_every_queue(service: Service, tmp_path: Path) -> None:
    definition = flow("noop", "noop")
    definition["tasks"][1]["queue"] = "gpu"
    done = run(service, "run", written(tmp_path, definition), "--json")
    assert done.returncode == 0, done.stderr
    (worker,) = json.loads(run(service, "workers", "--json").stdout)["workers"]
    assert worker["queues"] == ["*"]
    verdict = run(service, "validate", written(tmp_path, definition))
    assert "queue_not_served" not in verdict.stdout + verdict.stderr


def test_webhooks_are_listed(service: Service) -> None:
    assert (
        run(service, "webhooks").stdout.strip()
        == "No delivery was given up. Others are shown by --state pending and delivered."
    )
    document = json.loads(run(service, "webhooks", "--state", "pending", "--json").stdout)
    assert document == {"webhooks": [], "next_cursor": None}


def test_tasks_and_workers_are_listed(service: Service) -> None:
    names = {each["name"] for each in json.loads(run(service, "tasks", "--json").stdout)["tasks"]}
    assert {"noop", "sleep", "fail", "fetch_data"} <= names
    assert "fetch_data" in run(service, "tasks").stdout
    assert len(json.loads(run(service, "workers", "--json").stdout)["workers"]) == 1
    assert "live" in run(service, "workers").stdout


def test_doctor_finds_the_service_well(service: Service) -> None:
    for options in ([], ["--ready"]):
        found = run_command("doctor", "--data", str(service.data), "--json", *options)
        assert found.returncode == 0, found.stdout
        assert {each["verdict"] for each in json.loads(found.stdout)} <= {"fine", "doubtful"}


def test_doctor_says_what_is_wrong(tmp_path: Path) -> None:
    redis_url = f"redis://127.0.0.1:{free_port()}/0"
    database = f"sqlite:///{tmp_path / 'flow.db'}"
    arguments = ["--redis-url", redis_url, "--database-url", database, "--json"]
    found = run_command("doctor", *arguments, "--task-modules", str(tmp_path / "no.py"))
    assert found.returncode == 1
    wrong = {e["check"]: e["detail"] for e in json.loads(found.stdout) if e["verdict"] == "wrong"}
    assert set(wrong) == {"database", "Redis", "task types"}
    assert "db upgrade" in wrong["database"]


def test_database_is_upgraded_once_and_copied_while_in_use(
    service: Service, tmp_path: Path
) -> None:
    url = f"sqlite:///{service.data / 'flow.db'}"
    upgraded = run_command("db", "upgrade", "--database-url", url)
    assert upgraded.returncode == 0
    assert "already" in upgraded.stdout
    copy = tmp_path / "copy.db"
    assert run_command("db", "backup", "--to", str(copy), "--database-url", url).returncode == 0
    assert copy.stat().st_mode & 0o077 == 0
    answer = run_command("db", "upgrade", "--database-url", f"sqlite:///{copy}")
    assert "already" in answer.stdout
    assert run_command("db", "backup", "--to", str(copy), "--database-url", url).returncode == 2


def test_validate_names_line_and_column(tmp_path: Path) -> None:
    definition = flow("noop", "noop")
    definition["conditions"] = [{"source_task": "task_0", "target_task_success": "task_2"}]
    done = run_command("validate", written(tmp_path, {"flow": definition}))
    assert done.returncode == 2
    line = next(
        n
        for n, text in enumerate((tmp_path / "flow.json").read_text().splitlines(), 1)
        if "task_2" in text
    )
    assert f"flow.json:{line}:" in done.stdout
    assert "error: " in done.stdout


def test_validate_accepts_the_examples_with_their_tasks() -> None:
    examples = ROOT / "examples"
    done = run_command(
        "validate", str(examples / "media.json"), "--tasks", str(examples / "media.py")
    )
    assert done.returncode == 0, done.stdout
    assert run_command("validate", str(examples / "media.json")).returncode == 2
    assert run_command("validate", str(examples / "media.json"), "--any-type").returncode == 0


def test_a_broken_file_is_located(tmp_path: Path) -> None:
    file = tmp_path / "flow.json"
    file.write_text('{\n  "flow": {,}\n}')
    done = run_command("validate", str(file))
    assert done.returncode == 2
    assert "flow.json:2:" in done.stderr


def test_config_hides_passwords() -> None:
    shown = run_command(
        *("config", "--json", "--redis-url", "redis://:hunter2@h/0"),
        *("--database-url", "postgresql+psycopg://flow:hunter2@h/flow"),
    )
    assert shown.returncode == 0, shown.stderr
    assert "hunter2" not in shown.stdout
    rows = {row["variable"]: row for row in json.loads(shown.stdout)}
    assert rows["FLOW_DATABASE_URL"]["default"] is False
    assert rows["FLOW_LEASE_SECONDS"] == {
        "variable": "FLOW_LEASE_SECONDS",
        "value": 4.0,
        "default": True,
    }


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['flow-manager', '--help']\n"
        "from flow_manager.command import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'pydantic', 'sqlalchemy', 'httpx2', 'rich', 'redis', 'fastapi'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("[]\n"), done.stdout
    # Ten times what it takes: the machine may be busy.
    assert time.monotonic() - began < 2


def test_an_absent_service_is_one_sentence() -> None:
    done = run_command("runs", "--url", f"http://127.0.0.1:{free_port()}")
    assert done.returncode == 1
    assert done.stderr.startswith("flow-manager: no answer from http://127.0.0.1:")
    assert "start a service with `flow-manager dev`" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_package_in_the_current_folder_cannot_stand_in_for_ours(tmp_path: Path) -> None:
    for name in ("api", "worker", "shared"):
        package = tmp_path / name
        package.mkdir()
        (package / "__init__.py").write_text("raise SystemExit('somebody else')")
    done = run_command("worker", "--lease-seconds", "never", cwd=tmp_path)
    assert done.returncode == 2
    assert "FLOW_LEASE_SECONDS" in done.stderr
    described = run_command("openapi", cwd=tmp_path)
    assert described.returncode == 0, described.stderr
    assert "/run-flow" in json.loads(described.stdout)["paths"]


def test_listening_beyond_this_machine_must_be_said_in_words() -> None:
    done = run_command("api", "--host", "0.0.0.0")
    assert done.returncode == 2
    assert "--no-auth" in done.stderr


def test_client_submits_once_for_one_key(service: Service) -> None:
    with FlowClient(service.url) as client:
        first = client.run(flow("noop"), idempotency_key="one")
        second = client.run(flow("noop"), idempotency_key="one")
    assert first.flow_run_id == second.flow_run_id


async def test_async_client_watches_a_run_to_its_end(service: Service) -> None:
    async with AsyncFlowClient(service.url) as client:
        submitted = await client.run(flow("noop", "noop"))
        seen = [run async for run in client.watch(submitted.flow_run_id)]
        assert seen[-1].status is RunStatus.COMPLETED
        assert (await client.wait(submitted.flow_run_id)).is_success
        again = await client.rerun(submitted.flow_run_id, start="task_1", input={"x": 2})
        run_again = await client.wait(again.flow_run_id)
        assert (run_again.rerun_of, run_again.input) == (submitted.flow_run_id, {"x": 2})
        with pytest.raises(RequestRefused):
            await client.get("nothing")


async def test_async_client_says_where_nobody_answers() -> None:
    async with AsyncFlowClient(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(ServiceUnreachable, match="no answer from"):
            await client.get("nothing")


@pytest.mark.timeout(90)
def test_demo_shows_the_run_and_its_result(tmp_path: Path) -> None:
    done = run_command("demo", cwd=tmp_path, timeout_seconds=80)
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("split", "shrink", "publish", '"status": "completed"', "/docs"):
        assert expected in done.stdout


def test_a_definition_is_put_listed_run_and_deleted(service: Service, tmp_path: Path) -> None:
    file = written(tmp_path, flow("noop"))
    put = [run(service, "definitions", "put", file) for _ in range(2)]
    assert [each.stdout for each in put] == ["Stored noop as version 1.\n"] * 2
    listed = json.loads(run(service, "definitions", "list", "--json").stdout)
    assert "noop" in [each["flow_id"] for each in listed["definitions"]]
    assert "noop" in run(service, "definitions", "versions", "noop").stdout
    assert json.loads(run(service, "definitions", "show", "noop").stdout) == flow("noop")
    done = run(service, "run", "--stored", "noop", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["definition"] == flow("noop")
    assert run(service, "definitions", "delete", "noop").returncode == 0
    gone = run(service, "run", "--stored", "noop")
    assert gone.returncode == 2
    assert 'no flow "noop" is stored' in gone.stderr


def test_a_definition_that_is_refused_is_told_with_its_line(
    service: Service, tmp_path: Path
) -> None:
    file = written(tmp_path, {**flow("noop"), "start_task": "nobody"})
    refused = run(service, "definitions", "put", file)
    assert refused.returncode == 2
    assert f"{file}:3:17: error:" in refused.stderr


def test_run_takes_either_a_file_or_a_stored_id(service: Service, tmp_path: Path) -> None:
    assert run(service, "run").returncode == 2
    file = written(tmp_path, flow("noop"))
    assert run(service, "run", file, "--stored", "noop").returncode == 2


async def test_clients_store_and_run_definitions(service: Service) -> None:
    with FlowClient(service.url) as client:
        stored = client.definitions.put(flow("noop", "noop"))
        submitted = client.run_stored(stored.flow_id, version=stored.version)
        assert client.wait(submitted.flow_run_id).is_success
        assert client.definitions.get(stored.flow_id).definition == flow("noop", "noop")
    async with AsyncFlowClient(service.url) as other:
        assert (await other.definitions.put(flow("noop", "noop"))).version == stored.version
        listed = await other.definitions.list(limit=1_000)
        assert stored.flow_id in [each.flow_id for each in listed.versions]
        versions = await other.definitions.versions(stored.flow_id)
        assert [each.version for each in versions.versions] == [stored.version]
        await other.definitions.delete(stored.flow_id)
        with pytest.raises(RequestRefused):
            await other.definitions.get(stored.flow_id)
