"""A run in its ending, as the service shows it."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from pydantic import JsonValue
from starlette.testclient import TestClient

from api import shapes
from shared.database import Database, create_database
from shared.models import Branch, FlowRun
from shared.settings import Settings
from tests.api_client import FLOW, open_client, settings_for

WITH_LAST: dict[str, JsonValue] = {
    **FLOW,
    "tasks": [
        {"name": "first", "type": "noop"},
        {"name": "second", "type": "noop"},
        {"name": "tidy", "type": "noop"},
    ],
    "finally": "tidy",
}


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


def _submit(client: TestClient) -> str:
    answer = client.post("/run-flow", json={"flow": WITH_LAST})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["flow_run_id"])


def test_a_cancelled_run_goes_on_until_its_ending_is_over(client: TestClient) -> None:
    run_id = _submit(client)
    before = client.get(f"/flows/{run_id}")
    assert before.json()["ending"] is None
    answer = client.post(f"/flows/{run_id}/cancel")
    assert answer.status_code == 202
    assert shapes.AcceptedRun.model_validate_json(answer.content).status == "running"

    seen = client.get(f"/flows/{run_id}", headers={"If-None-Match": before.headers["ETag"]})
    run = shapes.Run.model_validate_json(seen.content)
    assert (run.status, run.outcome, run.finished_at) == ("running", None, None)
    assert run.ending is not None
    assert (run.ending.status, run.ending.error) == ("cancelled", None)

    again = client.post(f"/flows/{run_id}/cancel")
    assert again.status_code == 409
    problem = shapes.Problem.model_validate_json(again.content)
    assert problem.detail == "The run is in its ending already, which nothing cuts short."


def test_the_branch_of_the_ending_is_new_to_the_queue(
    client: TestClient, database: Database
) -> None:
    run_id = _submit(client)
    client.post(f"/flows/{run_id}/cancel")
    table = Branch.__table__
    with database.read() as connection:
        rows = connection.execute(
            table.select().where(table.c.flow_run_id == run_id, table.c.state == "ready")
        ).all()
    ((path, task, ready_at),) = [(row.path, row.task, row.ready_at) for row in rows]
    assert (path, task) == ("ending/finally", "tidy")
    # Or it would be taken for one that waits since the machine was started.
    assert ready_at > 0


def test_explain_says_what_comes_before_the_end(client: TestClient) -> None:
    run_id = _submit(client)
    client.post(f"/flows/{run_id}/cancel")
    answer = client.get(f"/flows/{run_id}/explain")
    told = shapes.Explanation.model_validate_json(answer.content)
    assert [reason.code for reason in told.reasons] == ["in_ending", "no_worker"]
    assert told.summary == "The run is in its ending and will then be cancelled."
    assert told.reasons[0].data["status"] == "cancelled"


def test_an_output_that_may_come_to_nothing_is_not_shown(
    client: TestClient, database: Database
) -> None:
    run_id = _submit(client)
    client.post(f"/flows/{run_id}/cancel")
    table = FlowRun.__table__
    with database.write() as connection:
        connection.execute(table.update().where(table.c.id == run_id).values(output=b'{"n":1}'))
    assert orjson.loads(client.get(f"/flows/{run_id}").content)["output"] is None
