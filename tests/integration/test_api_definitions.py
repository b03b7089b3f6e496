"""Stored definitions through the API: versions, runs of them, and what is refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import definition_shapes
from tests.api_client import FLOW, open_client, settings_for


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        yield client


def _flow(flow_id: str, **others: Any) -> dict[str, Any]:
    return {**FLOW, "id": flow_id, **others}


def _put(client: TestClient, definition: dict[str, Any]) -> Any:
    return client.put(f"/definitions/{definition['id']}", json=definition)


def test_every_change_is_a_version_and_the_same_again_is_none(client: TestClient) -> None:
    first, again = _put(client, _flow("billing")), _put(client, _flow("billing"))
    other = _put(client, _flow("billing", name="Billing"))
    assert [first.status_code, again.status_code, other.status_code] == [201, 200, 201]
    told = [
        definition_shapes.StoredVersion.model_validate_json(a.content)
        for a in (first, again, other)
    ]
    assert [one.version for one in told] == [1, 1, 2]
    assert first.headers["location"] == "/definitions/billing?version=1"
    newest = client.get("/definitions/billing")
    shown = definition_shapes.StoredDefinition.model_validate_json(newest.content)
    assert (shown.version, shown.definition["name"]) == (2, "Billing")
    old = client.get(first.headers["location"]).json()
    assert old["definition"] == _flow("billing")


def test_definitions_and_versions_are_listed_by_page(client: TestClient) -> None:
    for number in range(3):
        _put(client, _flow("a", name=str(number)))
        _put(client, _flow(f"b{number}"))
    page = client.get("/definitions", params={"limit": 3})
    listed = definition_shapes.DefinitionPage.model_validate_json(page.content)
    assert [(one.flow_id, one.version) for one in listed.definitions] == [
        ("a", 3),
        ("b0", 1),
        ("b1", 1),
    ]
    rest = client.get("/definitions", params={"cursor": listed.next_cursor}).json()
    assert [one["flow_id"] for one in rest["definitions"]] == ["b2"]
    page = client.get("/definitions/a/versions", params={"limit": 2})
    versions = definition_shapes.VersionPage.model_validate_json(page.content)
    assert [one.version for one in versions.versions] == [3, 2]
    rest = client.get("/definitions/a/versions", params={"cursor": versions.next_cursor}).json()
    assert [one["version"] for one in rest["versions"]] == [1]


def test_an_id_may_hold_what_a_path_must_escape(client: TestClient) -> None:
    flow_id = "team/büro 1?"
    answer = client.put("/definitions/team%2Fb%C3%BCro%201%3F", json=_flow(flow_id))
    assert answer.status_code == 201
    assert client.get(answer.headers["location"]).json()["flow_id"] == flow_id
    assert client.get(answer.json()["links"]["versions"]).json()["versions"][0]["version"] == 1


def test_a_stored_definition_is_run_by_its_id(client: TestClient) -> None:
    _put(client, _flow("billing", name="old"))
    _put(client, _flow("billing", name="new"))
    for body, name in (
        ({"flow_id": "billing"}, "new"),
        ({"flow_id": "billing", "version": 1, "input": {"x": 1}}, "old"),
    ):
        answer = client.post("/run-flow", json=body)
        assert answer.status_code == 202
        run = client.get(answer.headers["location"]).json()
        assert (run["flow_id"], run["name"]) == ("billing", name)
        assert run["input"] == body.get("input", {})


def test_the_newest_version_is_the_newest_at_every_submit(client: TestClient) -> None:
    body = {"flow_id": "billing"}
    names = []
    for name in ("one", "two"):
        _put(client, _flow("billing", name=name))
        run = client.get(client.post("/run-flow", json=body).headers["location"])
        names.append(run.json()["name"])
    assert names == ["one", "two"]


def test_a_key_gives_the_same_run_also_after_a_new_version(client: TestClient) -> None:
    body, headers = {"flow_id": "billing"}, {"Idempotency-Key": "k"}
    _put(client, _flow("billing", name="one"))
    first = client.post("/run-flow", json=body, headers=headers)
    _put(client, _flow("billing", name="two"))
    again = client.post("/run-flow", json=body, headers=headers)
    assert again.status_code == 200
    assert again.json()["flow_run_id"] == first.json()["flow_run_id"]
    other = client.post("/run-flow", json={**body, "version": 1}, headers=headers)
    assert other.status_code == 422


def test_a_deleted_definition_starts_nothing_and_its_runs_keep_it(client: TestClient) -> None:
    _put(client, _flow("billing"))
    run = client.post("/run-flow", json={"flow_id": "billing"}).headers["location"]
    assert client.delete("/definitions/billing").status_code == 204
    assert client.delete("/definitions/billing").status_code == 404
    assert client.get("/definitions/billing").status_code == 404
    assert client.get("/definitions/billing/versions").status_code == 404
    assert client.post("/run-flow", json={"flow_id": "billing"}).status_code == 422
    assert client.get(run).json()["definition"] == _flow("billing")
    assert _put(client, _flow("billing")).json()["version"] == 2


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"flow_id": "biling"}, "/flow_id", "unknown_flow"),
        ({"flow_id": "billing", "version": 9}, "/version", "unknown_flow"),
        ({"flow_id": 7}, "/flow_id", "wrong_type"),
        ({"flow_id": ""}, "/flow_id", "wrong_type"),
        ({"flow_id": "x" * 1_000}, "/flow_id", "wrong_type"),
        ({"flow_id": "billing", "version": 0}, "/version", "wrong_type"),
        ({"flow_id": "billing", "version": True}, "/version", "wrong_type"),
        ({"flow_id": "billing", "version": 2**40}, "/version", "wrong_type"),
        ({"flow_id": "billing", "inputs": {}}, "", "unknown_field"),
        ({"flow_id": "billing", "input": {"n": "x"}}, "/input/n", "bad_input"),
    ],
)
def test_what_cannot_be_run_is_told_with_its_place(
    client: TestClient, body: dict[str, Any], pointer: str, code: str
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    _put(client, _flow("billing", input_schema=schema))
    answer = client.post("/run-flow", json=body)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert (error["pointer"], error["code"]) == (pointer, code)


def test_an_unknown_flow_is_told_with_what_was_meant(client: TestClient) -> None:
    _put(client, _flow("billing"))
    answer = client.post("/run-flow", json={"flow_id": "biling"})
    assert answer.json()["errors"][0]["suggestion"] == 'did you mean "billing"?'


def test_a_definition_that_cannot_run_is_not_stored(client: TestClient) -> None:
    answer = client.put("/definitions/billing", json=_flow("billing", start_task="nobody"))
    assert answer.status_code == 422
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/start_task"]
    assert client.get("/definitions/billing").status_code == 404


def test_the_id_of_the_path_is_that_of_the_definition(client: TestClient) -> None:
    answer = client.put("/definitions/other", json={"flow": _flow("billing")})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/path/flow_id"


def test_an_input_beside_a_definition_that_is_stored_is_not_judged(client: TestClient) -> None:
    definition = _flow("billing", input_schema={"type": "object", "required": ["n"]})
    answer = client.put("/definitions/billing", json={"flow": definition})
    assert answer.status_code == 201


@pytest.mark.parametrize("path", ["/definitions/", "/definitions/%00", f"/definitions/{'x' * 300}"])
def test_a_path_that_names_no_flow_is_refused(client: TestClient, path: str) -> None:
    assert client.get(path).status_code in (404, 422)
    assert client.put(path, json=_flow("billing")).status_code in (404, 422)
    assert client.delete(path).status_code in (404, 422)
