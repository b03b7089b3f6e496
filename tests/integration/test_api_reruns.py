"""``POST /flows/{id}/rerun`` without workers, on both databases: accepted, refused, repeated."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from api import shapes
from shared.database import Database, create_database
from shared.settings import Settings
from shared.store.definitions import NewVersion, put_version
from tests.api_client import FLOW, open_client, settings_for

UNKNOWN = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"


@pytest.fixture
def chosen(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path)


@pytest.fixture
def client(chosen: Settings) -> Iterator[TestClient]:
    with open_client(chosen) as client:
        yield client


@pytest.fixture
def database(chosen: Settings, client: TestClient) -> Iterator[Database]:
    database = create_database(chosen)
    yield database
    database.close()


def _over(client: TestClient, given: Any = None) -> str:
    """A run that is over: it was cancelled before a worker came."""
    run_id: str = client.post("/run-flow", json={"flow": FLOW, "input": given}).json()[
        "flow_run_id"
    ]
    client.post(f"/flows/{run_id}/cancel")
    return run_id


def _findings(answer: Any) -> list[tuple[str, str]]:
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = shapes.Problem.model_validate_json(answer.content)
    return [(finding.pointer, finding.code) for finding in problem.errors]


def test_a_rerun_is_a_new_run_that_names_the_old_one(client: TestClient) -> None:
    source = _over(client, {"day": 1})
    answer = client.post(f"/flows/{source}/rerun")
    assert answer.status_code == 202, answer.text
    accepted = shapes.AcceptedRun.model_validate_json(answer.content)
    assert answer.headers["location"] == f"/flows/{accepted.flow_run_id}"
    assert accepted.flow_run_id != source
    run = client.get(f"/flows/{accepted.flow_run_id}").json()
    assert (run["rerun_of"], run["input"], run["definition"]) == (source, {"day": 1}, FLOW)
    listed = {run["flow_run_id"]: run["rerun_of"] for run in client.get("/flows").json()["flows"]}
    assert listed == {accepted.flow_run_id: source, source: None}


def test_a_rerun_may_have_another_input_and_definition(client: TestClient) -> None:
    source = _over(client)
    corrected = {**FLOW, "name": "Corrected"}
    body = {"from": "start", "input": [1], "definition": corrected}
    again = client.post(f"/flows/{source}/rerun", json=body).json()["flow_run_id"]
    run = client.get(f"/flows/{again}").json()
    assert (run["input"], run["name"]) == ([1], "Corrected")
    assert client.get(f"/flows/{source}").json()["name"] == FLOW["name"]


def test_the_newest_stored_definition_is_taken_where_there_is_one(
    client: TestClient, database: Database
) -> None:
    source = _over(client)
    refused = client.post(f"/flows/{source}/rerun", json={"definition": "latest"})
    assert refused.status_code == 409
    assert "intake" in refused.json()["detail"]
    content = orjson.dumps({**FLOW, "name": "Newest"})
    digest = hashlib.sha256(content).hexdigest()
    with database.write() as connection:
        put_version(connection, NewVersion("intake", digest, content, datetime.now(UTC)))
    again = client.post(f"/flows/{source}/rerun", json={"definition": "latest"}).json()
    assert client.get(f"/flows/{again['flow_run_id']}").json()["name"] == "Newest"


def test_a_run_that_is_not_over_or_not_there_is_not_run_again(client: TestClient) -> None:
    running = client.post("/run-flow", json={"flow": FLOW}).json()["flow_run_id"]
    answer = client.post(f"/flows/{running}/rerun")
    assert answer.status_code == 409
    assert "not over" in answer.json()["detail"]
    for unknown in (UNKNOWN, "x", "%00"):
        assert client.post(f"/flows/{unknown}/rerun", json={}).status_code == 404


def test_the_same_key_gives_the_same_rerun(client: TestClient) -> None:
    source, other = _over(client), _over(client)
    headers = {"Idempotency-Key": "again-1"}
    first = client.post(f"/flows/{source}/rerun", json={"from": "start"}, headers=headers)
    second = client.post(f"/flows/{source}/rerun", content=b'{"from":"start"} ', headers=headers)
    assert (first.status_code, second.status_code) == (202, 200)
    assert second.headers["idempotent-replayed"] == "true"
    assert second.json() == first.json()
    for run_id, body in ((source, {"from": "failed"}), (other, {"from": "start"})):
        answer = client.post(f"/flows/{run_id}/rerun", json=body, headers=headers)
        assert answer.status_code == 422
        assert answer.json()["type"].endswith(":idempotency-mismatch")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ([], [("", "wrong_type")]),
        ("start", [("", "wrong_type")]),
        ({"form": "start"}, [("/form", "unknown_field")]),
        ({"from": 3}, [("/from", "wrong_type")]),
        ({"from": ""}, [("/from", "wrong_type")]),
        ({"from": None, "definition": "other"}, [("/from", "wrong_type"), ("/definition", "x")]),
        ({"definition": 7}, [("/definition", "wrong_type")]),
        ({"definition": {"flow": FLOW}}, None),
        ({"definition": {**FLOW, "start_task": "frist"}}, None),
        ({"from": "frist"}, [("/from", "unknown_task")]),
        ({"from": "first"}, [("/from", "not_visited")]),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(
    client: TestClient, body: Any, found: list[tuple[str, str]] | None
) -> None:
    source = _over(client)
    findings = _findings(client.post(f"/flows/{source}/rerun", json=body))
    if found is None:
        assert all(pointer.startswith("/definition") for pointer, _ in findings)
    else:
        assert [pointer for pointer, _ in findings] == [pointer for pointer, _ in found]
        assert findings[0] == found[0]
    assert len(client.get("/flows").json()["flows"]) == 1


def test_a_misspelt_task_gets_a_suggestion(client: TestClient) -> None:
    answer = client.post(f"/flows/{_over(client)}/rerun", json={"from": "frist"})
    assert answer.json()["errors"][0]["suggestion"] == 'did you mean "first"?'


def test_the_input_must_fit_the_definition_that_will_run(client: TestClient) -> None:
    source = _over(client, {"day": 1})
    strict: Any = {**FLOW, "input_schema": {"type": "object", "required": ["month"]}}
    kept = client.post(f"/flows/{source}/rerun", json={"definition": strict})
    assert _findings(kept)[0][0].startswith("/input")
    given = {"definition": strict, "input": {"month": 2}}
    assert client.post(f"/flows/{source}/rerun", json=given).status_code == 202


def test_what_is_no_json_is_refused(client: TestClient) -> None:
    source = _over(client)
    assert client.post(f"/flows/{source}/rerun", content=b"{").status_code == 400
    text = client.post(
        f"/flows/{source}/rerun", content=b"{}", headers={"Content-Type": "text/plain"}
    )
    assert text.status_code == 415
