"""What the service says about itself, and how it behaves when something is away."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient

from api import openapi, shapes
from api.main import create_app
from shared.database import create_database
from shared.ids import WorkerId, new_id
from shared.settings import Settings
from shared.status import RunStatus
from shared.store.workers import AdvertisedType, Registration, register_workers
from tests.api_client import FLOW, open_client, settings_for


@pytest.fixture
def settings(sqlite_url: str, tmp_path: Path) -> Settings:
    return settings_for(sqlite_url, tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with open_client(settings) as client:
        yield client


def _register(settings: Settings, *types: str) -> None:
    told = tuple(AdvertisedType(name, "What it does.", b'{"type":"object"}', "t") for name in types)
    database = create_database(settings)
    with database.write() as connection:
        registration = Registration(WorkerId(new_id()), "h", 1, "1", ("default",), 9, told, 1.0)
        register_workers(connection, [registration])
    database.close()


def test_first_submit_may_come_before_the_first_worker(client: TestClient) -> None:
    assert client.post("/run-flow", json=FLOW).status_code == 202


def test_type_that_no_worker_runs_is_refused(client: TestClient, settings: Settings) -> None:
    _register(settings, "noop")
    flow = {"id": "f", "start_task": "a", "tasks": [{"name": "a", "type": "nope"}]}
    answer = client.post("/run-flow", json={"flow": flow})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/flow/tasks/0/type"


def test_type_of_a_worker_that_started_a_moment_ago_is_accepted(
    client: TestClient, settings: Settings
) -> None:
    flow = {"id": "f", "start_task": "a", "tasks": [{"name": "a", "type": "fresh"}]}
    assert client.post("/run-flow", json={"flow": flow}).status_code == 422
    _register(settings, "fresh")
    assert client.post("/run-flow", json={"flow": flow}).status_code == 202


def test_workers_and_their_types_are_listed(client: TestClient, settings: Settings) -> None:
    _register(settings, "noop", "own")
    types = shapes.TaskTypeList.model_validate_json(client.get("/tasks").content)
    assert [(one.name, one.workers) for one in types.tasks] == [("noop", 1), ("own", 1)]
    assert types.tasks[0].params_schema == {"type": "object"}
    workers = shapes.WorkerList.model_validate_json(client.get("/workers").content)
    assert [(one.state, one.queues) for one in workers.workers] == [("live", ["default"])]
    assert client.get("/workers?state=lost").json() == {"workers": []}
    assert client.get("/workers?state=gone").status_code == 422


def test_stats_follow_their_shape(client: TestClient) -> None:
    client.post("/run-flow", json=FLOW)
    stats = shapes.Stats.model_validate_json(client.get("/stats").content)
    assert stats.runs[RunStatus.RUNNING] == 1
    assert [(queue.queue, queue.depth) for queue in stats.queues] == [("default", 1)]
    assert stats.oldest_ready_seconds is not None


def test_validate_judges_without_running(client: TestClient) -> None:
    answer = client.post("/flows/validate", json={"flow": FLOW})
    verdict = shapes.Verdict.model_validate_json(answer.content)
    assert verdict.valid
    assert verdict.graph is not None
    assert [task.name for task in verdict.graph.tasks] == ["first", "second"]
    assert [(edge.source, edge.target) for edge in verdict.graph.edges] == [("first", "second")]
    assert client.get("/flows").json()["flows"] == []


@pytest.mark.parametrize("body", [{"flow": FLOW | {"start_task": "x"}}, {"flow": 1}, [], {}, 7])
def test_validate_answers_with_what_is_wrong(client: TestClient, body: object) -> None:
    answer = client.post("/flows/validate", json=body)
    assert answer.status_code == 200
    verdict = shapes.Verdict.model_validate_json(answer.content)
    assert not verdict.valid
    assert verdict.errors
    assert verdict.graph is None


def test_without_redis_it_is_degraded_and_still_accepts(client: TestClient) -> None:
    answer = client.get("/health/ready")
    assert answer.status_code == 200
    ready = shapes.Ready.model_validate_json(answer.content)
    assert (ready.status, ready.checks["redis"]) == ("degraded", "unreachable")
    assert client.get("/health/live").json() == {"status": "alive"}


def test_with_redis_it_is_ready(settings: Settings, redis_url: str) -> None:
    changed = settings.model_dump() | {"redis_url": redis_url}
    with open_client(Settings(**changed)) as client:
        assert client.get("/health/ready").json()["status"] == "ready"


def test_without_database_every_call_is_503_and_says_when_to_come_again(tmp_path: Path) -> None:
    url = f"postgresql+psycopg://nobody@/none?host={tmp_path}"
    with open_client(settings_for(url, tmp_path)) as client:
        for answer in (
            client.post("/run-flow", json=FLOW),
            client.get("/flows"),
            client.get("/stats"),
            client.get("/tasks"),
            client.get(f"/flows/{new_id()}"),
            client.post(f"/flows/{new_id()}/cancel"),
            client.get("/health/ready"),
        ):
            assert answer.status_code == 503, answer.text
            assert answer.headers["retry-after"] == "1"
            assert str(tmp_path) not in answer.text
        assert client.get("/health/live").status_code == 200


def test_unknown_address_and_method_are_problems(client: TestClient) -> None:
    for path in ("/nope", "/flows/", "/ui/", "/docs/../api/main.py", "/docs/x"):
        answer = client.get(path)
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    answer = client.delete("/flows")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
    answer = client.get("/flows/validate")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.headers["content-type"] == "application/problem+json"


def test_what_nobody_expected_is_a_500_without_details(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("the inner secret")

    monkeypatch.setattr("api.routes.runs.runs.list_runs", fail)
    answer = client.get("/flows")
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text


def test_root_leads_to_a_page_that_loads_nothing_from_elsewhere(client: TestClient) -> None:
    page = client.get("/")
    assert (page.status_code, page.url.path) == (200, "/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/docs", "/docs/docs.js", "/docs/docs.css"):
        text = client.get(path).text
        assert "http:" not in text
        assert "https:" not in text
    assert client.get("/docs/docs.js").headers["x-content-type-options"] == "nosniff"


def test_examples_follow_the_shapes_they_show(settings: Settings) -> None:
    document = create_app(settings).openapi()
    shown = set()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
            for content in [c for body in bodies for c in body.get("content", {}).values()]:
                examples = [example["value"] for example in content.get("examples", {}).values()]
                examples += [content["example"]] if "example" in content else []
                # The components stand where the references look for them.
                schema = content.get("schema", {}) | {"components": document["components"]}
                for example in examples:
                    Draft202012Validator(schema).validate(example)
                    shown.add((method, path))
    assert shown == {(method, path) for path, of in document["paths"].items() for method in of}


def test_every_call_documents_its_answers(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"]
            assert "HTTPValidationError" not in orjson.dumps(operation["responses"]).decode()


def test_document_is_written_and_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "docs" / "openapi.json"
    assert openapi.main(["--check", str(file)]) == 1
    assert openapi.main(["--write", str(file)]) == 0
    assert openapi.main(["--check", str(file)]) == 0
    assert openapi.main([]) == 0
    assert capsys.readouterr().out == file.read_text(encoding="utf-8")
