"""Runs over HTTP: submit, look, wait, list, cancel."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest
from httpx2 import Response
from pydantic import JsonValue
from starlette.testclient import TestClient

from api import shapes
from shared.database import Database, create_database
from shared.ids import new_id
from shared.models import Branch, FlowRun, TaskRun
from shared.settings import Settings
from shared.status import TaskRunStatus
from tests.api_client import FLOW, open_client, settings_for

UNKNOWN = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with open_client(settings) as client:
        yield client


@pytest.fixture
def database(client: TestClient, settings: Settings) -> Iterator[Database]:
    """The database under the running application, for a test to play the workers."""
    database = create_database(settings)
    yield database
    database.close()


def _submit(client: TestClient, input: JsonValue = None) -> str:
    answer = client.post("/run-flow", json={"flow": FLOW, "input": input})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["flow_run_id"])


def _complete(database: Database, run: str) -> None:
    table = FlowRun.__table__
    with database.write() as connection:
        connection.execute(
            table.update()
            .where(table.c.id == run)
            .values(status="completed", outcome="success", active=0, finished_at=datetime.now(UTC))
        )


def _add_task_run(database: Database, run: str, **values: object) -> None:
    with database.write() as connection:
        connection.execute(
            TaskRun.__table__.insert(),
            {
                "id": new_id(),
                "flow_run_id": run,
                "branch_id": new_id(),
                "branch": "main",
                "task": "first",
                "task_type": "noop",
                "iteration": 1,
                "item_index": -1,
                "attempt": 1,
                "status": TaskRunStatus.SUCCESS,
                "started_at": datetime.now(UTC),
                "finished_at": datetime.now(UTC),
                **values,
            },
        )


def _problem(answer: Response, status: int) -> shapes.Problem:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = shapes.Problem.model_validate_json(answer.content)
    assert problem.status == status
    return problem


def test_submit_is_accepted_and_its_branch_is_ready(client: TestClient, database: Database) -> None:
    answer = client.post("/run-flow", json={"flow": FLOW, "input": {"a": 1}})
    assert answer.status_code == 202
    accepted = shapes.AcceptedRun.model_validate_json(answer.content)
    assert (accepted.flow_id, accepted.status) == ("intake", "running")
    assert answer.headers["location"] == accepted.links.self
    table = Branch.__table__
    with database.read() as connection:
        branch = connection.execute(
            table.select().where(table.c.flow_run_id == accepted.flow_run_id)
        ).one()
    assert (branch.state, branch.task, branch.task_type) == ("ready", "first", "noop")


def test_run_is_shown_as_it_was_submitted(client: TestClient) -> None:
    run_id = _submit(client, {"deep": [1, 2.5, None, "é"]})
    run = shapes.Run.model_validate_json(client.get(f"/flows/{run_id}").content)
    assert run.input == {"deep": [1, 2.5, None, "é"]}
    assert run.definition == FLOW
    assert run.tags == FLOW["tags"]
    assert (run.status, run.outcome, run.tasks, run.path) == ("running", None, [], [])


def test_bare_definition_is_accepted(client: TestClient) -> None:
    assert client.post("/run-flow", json=FLOW).status_code == 202


def test_task_runs_say_what_they_came_to(client: TestClient, database: Database) -> None:
    run_id = _submit(client)
    raised = orjson.dumps({"type": "ValueError", "message": "no", "traceback": "..."})
    _add_task_run(database, run_id, data=b'{"n":1.50}')
    _add_task_run(database, run_id, iteration=2, status="failed", reason="returned_failure")
    _add_task_run(database, run_id, iteration=3, status="failed", reason="raised", error=raised)
    _add_task_run(database, run_id, iteration=4, item_index=7, status="running", finished_at=None)
    answer = client.get(f"/flows/{run_id}")
    assert b'"data":{"n":1.50}' in answer.content
    run = shapes.Run.model_validate_json(answer.content)
    # One of the four is a further attempt, or an item: no visit of its own.
    assert run.path == ["first"] * 3
    assert [task.success for task in run.tasks] == [True, False, None, None]
    assert [task.index for task in run.tasks] == [None, None, None, 7]
    assert run.tasks[2].error is not None
    assert run.tasks[2].error.type == "ValueError"
    assert run.tasks[3].duration_ms is None
    paged = client.get(f"/flows/{run_id}/tasks", params={"limit": 3})
    page = shapes.TaskRunPage.model_validate_json(paged.content)
    assert page.tasks == run.tasks[:3]
    rest = client.get(f"/flows/{run_id}/tasks", params={"cursor": page.next_cursor})
    assert shapes.TaskRunPage.model_validate_json(rest.content).tasks == run.tasks[3:]


def test_unchanged_run_is_not_sent_again(client: TestClient, database: Database) -> None:
    run_id = _submit(client)
    tag = client.get(f"/flows/{run_id}").headers["etag"]
    for known in (tag, f'"other", {tag}', "*"):
        again = client.get(f"/flows/{run_id}", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    _add_task_run(database, run_id)
    changed = client.get(f"/flows/{run_id}", headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != tag


def test_wait_ends_when_the_run_does(client: TestClient, database: Database) -> None:
    run_id = _submit(client)
    timer = threading.Timer(0.2, _complete, (database, run_id))
    timer.start()
    answer = client.get(f"/flows/{run_id}", params={"wait": "10"})
    timer.join()
    assert answer.json()["status"] == "completed"
    assert client.get(f"/flows/{run_id}?wait=10").json()["outcome"] == "success"


def test_wait_ends_when_its_time_is_over(client: TestClient) -> None:
    began = time.monotonic()
    run_id = _submit(client)
    answer = client.get(f"/flows/{run_id}", params={"wait": "0.2"})
    assert answer.json()["status"] == "running"
    submitted = client.post("/run-flow?wait=0.2", json=FLOW)
    assert (submitted.status_code, submitted.json()["status"]) == (202, "running")
    assert 0.4 <= time.monotonic() - began < 5


def test_preference_to_wait_is_applied_and_told(client: TestClient) -> None:
    answer = client.post("/run-flow", json=FLOW, headers={"Prefer": "respond-async, wait=0"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "wait=0"
    ignored = client.post("/run-flow", json=FLOW, headers={"Prefer": "wait=soon"})
    assert "preference-applied" not in ignored.headers


def test_same_key_and_body_give_the_same_run(client: TestClient, database: Database) -> None:
    body, headers = {"flow": FLOW, "input": 1}, {"Idempotency-Key": "order 17"}
    first = client.post("/run-flow", json=body, headers=headers)
    assert (first.status_code, "idempotent-replayed" in first.headers) == (202, False)
    again = client.post("/run-flow", content=orjson.dumps(body) + b"\n", headers=headers)
    assert (again.status_code, again.headers["idempotent-replayed"]) == (200, "true")
    assert again.json() == first.json()
    _complete(database, first.json()["flow_run_id"])
    assert client.post("/run-flow", json=body, headers=headers).json()["status"] == "completed"
    waited = client.post("/run-flow?wait=5", json=body, headers=headers)
    assert (waited.status_code, waited.json()["input"]) == (200, 1)


def test_same_key_with_another_body_is_refused(client: TestClient) -> None:
    headers = {"Idempotency-Key": "k"}
    client.post("/run-flow", json={"flow": FLOW, "input": 1}, headers=headers)
    answer = client.post("/run-flow", json={"flow": FLOW, "input": 2}, headers=headers)
    assert _problem(answer, 422).type.endswith("idempotency-mismatch")


@pytest.mark.parametrize("key", ["", " ", "a" * 256, "caf\u00e9"])
def test_unusable_key_is_refused(client: TestClient, key: str) -> None:
    headers = {b"Idempotency-Key": key.encode("latin-1")}
    problem = _problem(client.post("/run-flow", json=FLOW, headers=headers), 422)
    assert problem.errors[0].pointer == "/header/Idempotency-Key"


def test_cancel_ends_the_run_once(client: TestClient) -> None:
    run_id = _submit(client)
    answer = client.post(f"/flows/{run_id}/cancel")
    assert answer.status_code == 202
    assert shapes.AcceptedRun.model_validate_json(answer.content).status == "cancelled"
    assert client.get(f"/flows/{run_id}").json()["status"] == "cancelled"
    assert _problem(client.post(f"/flows/{run_id}/cancel"), 409).type.endswith("run-is-over")


def test_cancel_wakes_who_waits_for_the_run(client: TestClient) -> None:
    run_id = _submit(client)
    timer = threading.Timer(0.2, client.post, (f"/flows/{run_id}/cancel",))
    timer.start()
    answer = client.get(f"/flows/{run_id}", params={"wait": "10"})
    timer.join()
    assert answer.json()["status"] == "cancelled"


def test_cancel_takes_no_body(client: TestClient) -> None:
    run_id = _submit(client)
    _problem(client.post(f"/flows/{run_id}/cancel", json={"reason": "x"}), 422)
    _problem(client.post(f"/flows/{run_id}/cancel", content=b"{"), 400)
    assert client.post(f"/flows/{run_id}/cancel", json={}).status_code == 202


@pytest.mark.parametrize("run_id", [UNKNOWN, UNKNOWN.upper(), "x", "%00", "a" * 3_000, "é"])
def test_unknown_run_is_not_found_by_any_call(client: TestClient, run_id: str) -> None:
    for answer in (
        client.get(f"/flows/{run_id}"),
        client.get(f"/flows/{run_id}?wait=5"),
        client.get(f"/flows/{run_id}/tasks"),
        client.post(f"/flows/{run_id}/cancel"),
    ):
        _problem(answer, 404)


def test_lists_are_paged_and_filtered(client: TestClient) -> None:
    ids = [_submit(client) for _ in range(3)]
    client.post(f"/flows/{ids[0]}/cancel")
    first = shapes.RunPage.model_validate_json(client.get("/flows?limit=2").content)
    assert [run.flow_run_id for run in first.flows] == [ids[2], ids[1]]
    rest = client.get("/flows", params={"limit": 2, "cursor": first.next_cursor})
    assert [run["flow_run_id"] for run in rest.json()["flows"]] == [ids[0]]
    for query, count in [
        ({"status": "cancelled"}, 1),
        ({"flow_id": "intake", "tag": 'quo"ted'}, 3),
        ({"tag": "quo"}, 0),
        ({"q": "take"}, 3),
        ({"created_after": "2026-01-01T00:00:00Z", "created_before": "2199-01-01T00:00:00Z"}, 3),
        ({"created_before": "0001-01-01T00:00:00Z"}, 0),
        ({"outcome": "failure"}, 0),
    ]:
        answer = client.get("/flows", params=query)
        assert len(answer.json()["flows"]) == count, query


def test_lists_leave_tracebacks_out(client: TestClient, database: Database) -> None:
    run_id = _submit(client)
    error = orjson.dumps({"task": "first", "type": "E", "message": "m", "traceback": "t"})
    table = FlowRun.__table__
    with database.write() as connection:
        connection.execute(
            table.update()
            .where(table.c.id == run_id)
            .values(status="failed", error=error, finished_at=datetime.now(UTC))
        )
    listed = client.get("/flows").json()["flows"][0]["error"]
    assert listed == {"task": "first", "type": "E", "message": "m"}
    assert client.get(f"/flows/{run_id}").json()["error"]["traceback"] == "t"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("status=done", "status"),
        ("outcome=error", "outcome"),
        ("cursor=zz", "cursor"),
        ("flow_id=%00", "flow_id"),
        ("q=" + "a" * 201, "q"),
        ("created_after=yesterday", "created_after"),
        ("created_after=1767225600", "created_after"),
        ("created_after=2026-01-01T00:00:00", "created_after"),
        ("created_before=0001-01-01T00:00:00%2B14:00", "created_before"),
    ],
)
def test_bad_query_parameter_is_named(client: TestClient, query: str, place: str) -> None:
    problem = _problem(client.get(f"/flows?{query}"), 422)
    assert [finding.pointer for finding in problem.errors] == [f"/query/{place}"]
    assert f'"{place}"' in problem.detail


@pytest.mark.parametrize(
    ("method", "path", "name", "suggestion"),
    [
        ("GET", "/flows", "statsu", 'did you mean "status"?'),
        ("GET", "/workers", "x", None),
        ("GET", "/tasks", "x", None),
        ("POST", "/run-flow", "wiat", 'did you mean "wait"?'),
        ("POST", "/run-flow", "x" * 500, None),
        ("POST", "/flows/validate", "%00", None),
    ],
)
def test_an_unknown_query_parameter_is_refused(
    client: TestClient, method: str, path: str, name: str, suggestion: str | None
) -> None:
    problem = _problem(client.request(method, f"{path}?{name}=1", json=FLOW), 422)
    (error,) = problem.errors
    assert (error.code, error.suggestion) == ("unknown_parameter", suggestion)
    assert "there is no query parameter" in problem.detail
    assert client.get("/flows").json()["flows"] == []


@pytest.mark.parametrize("wait", ["nan", "inf", "-1", "soon", "", "1e999"])
def test_bad_wait_is_refused_before_anything_is_stored(client: TestClient, wait: str) -> None:
    problem = _problem(client.post("/run-flow", params={"wait": wait}, json=FLOW), 422)
    assert problem.errors[0].pointer == "/query/wait"
    assert client.get("/flows").json()["flows"] == []
