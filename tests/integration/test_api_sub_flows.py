"""Definitions that name sub-flows, as the API judges and shows them, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from shared.database import create_database
from shared.store.definitions import NewVersion, put_version
from tests.api_client import open_client, settings_for


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        client.get("/flows")
        yield client


@pytest.fixture
def store(client: TestClient, database_url: str, tmp_path: Path) -> Iterator[Any]:
    """Stores a definition."""
    database = create_database(settings_for(database_url, tmp_path))

    def put(definition: dict[str, Any]) -> None:
        content = orjson.dumps(definition)
        version = NewVersion(definition["id"], definition["id"], content, datetime.now(UTC))
        with database.write() as connection:
            put_version(connection, version)

    yield put
    database.close()


def _calling(flow_id: str, called: str, **params: Any) -> dict[str, Any]:
    task = {"name": "call", "type": "flow", "params": {"flow_id": called, **params}}
    return {"id": flow_id, "start_task": "call", "tasks": [task]}


def _errors(client: TestClient, definition: dict[str, Any]) -> list[dict[str, Any]]:
    """Of the submit and of the validation, which must say the same."""
    submitted = client.post("/run-flow", json={"flow": definition})
    assert submitted.status_code == 422
    validated = client.post("/flows/validate", json={"flow": definition}).json()
    assert validated["valid"] is False
    told = submitted.json()["errors"]
    assert [(e["pointer"], e["code"]) for e in validated["errors"]] == [
        (e["pointer"], e["code"]) for e in told
    ]
    return list(told)


def test_a_sub_flow_that_is_not_stored_is_an_error_with_what_was_meant(
    client: TestClient, store: Any
) -> None:
    store(_calling("billing", "elsewhere"))
    (error,) = _errors(client, _calling("order", "biling"))
    assert (error["pointer"], error["code"]) == (
        "/flow/tasks/0/params/flow_id",
        "unknown_flow",
    )
    assert error["suggestion"] == 'did you mean "billing"?'


def test_a_version_that_is_not_stored_is_an_error(client: TestClient, store: Any) -> None:
    store(_calling("billing", "elsewhere"))
    (error,) = _errors(client, _calling("order", "billing", version=3))
    assert error["message"] == 'the flow "billing" has no version 3'


@pytest.mark.parametrize("version", [0, -1, True, 2**40, 1.5, []])
def test_a_version_that_can_be_none_is_left_to_the_params(
    client: TestClient, store: Any, version: Any
) -> None:
    store(_calling("billing", "elsewhere"))
    answer = client.post("/run-flow", json={"flow": _calling("a", "billing", version=version)})
    assert answer.status_code in (202, 422)


def test_a_flow_that_runs_itself_is_an_error(client: TestClient) -> None:
    (error,) = _errors(client, _calling("order", "order"))
    assert error["code"] == "recursive_flow"


def test_a_flow_that_contains_itself_through_others_is_an_error(
    client: TestClient, store: Any
) -> None:
    store(_calling("c", "a"))
    store(_calling("b", "c"))
    (error,) = _errors(client, _calling("a", "b"))
    assert error["code"] == "recursive_flow"
    assert error["message"] == 'the flow "b" has "a" as a part'


def test_circles_among_others_are_no_matter_of_this_flow(client: TestClient, store: Any) -> None:
    store(_calling("b", "c"))
    store(_calling("c", "b"))
    answer = client.post("/flows/validate", json={"flow": _calling("a", "b")})
    assert answer.json()["valid"] is True


def test_what_is_stored_later_is_seen_by_the_same_submit(client: TestClient, store: Any) -> None:
    body = {"flow": _calling("order", "billing")}
    assert client.post("/run-flow", json=body).status_code == 422
    store(_calling("billing", "elsewhere"))
    assert client.post("/run-flow", json=body).status_code == 202
    assert client.post("/run-flow", json=body).status_code == 202


def test_an_id_that_an_expression_gives_is_left_for_the_run(client: TestClient) -> None:
    answer = client.post("/run-flow", json={"flow": _calling("order", "${input.which}")})
    assert answer.status_code == 202
