"""Stored definitions over HTTP: put, looked at, listed, deleted, and run by their ids."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from pydantic import JsonValue
from starlette.testclient import TestClient

from api import shapes, shapes_of_stored
from shared.database import Database, create_database
from shared.ids import WorkerId, new_id
from shared.settings import Settings
from shared.store.workers import AdvertisedType, Registration, leave, register_workers
from tests.api_client import FLOW, open_client, settings_for
from tests.waiting import block_until

PLACE = "/definitions/intake"


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with open_client(settings) as client:
        yield client


@pytest.fixture
def database(settings: Settings, client: TestClient) -> Iterator[Database]:
    database = create_database(settings)
    yield database
    database.close()


def _named(name: str, **others: JsonValue) -> dict[str, JsonValue]:
    return FLOW | {"name": name} | others


def _put(client: TestClient, body: JsonValue = FLOW, place: str = PLACE, **headers: str) -> Any:
    answer = client.put(place, json=body, headers=headers)
    assert answer.status_code in {200, 201}, answer.text
    return shapes_of_stored.StoredVersion.model_validate_json(answer.content)


def _run(client: TestClient, body: JsonValue, **headers: str) -> shapes.Run:
    answer = client.post("/run-flow", json=body, headers=headers)
    assert answer.status_code in {200, 202}, answer.text
    place = answer.json()["links"]["self"]
    return shapes.Run.model_validate_json(client.get(place).content)


def _findings(answer: Response, status: int = 422) -> list[tuple[str, str]]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = shapes.Problem.model_validate_json(answer.content)
    return [(finding.pointer, finding.code) for finding in problem.errors]


def _register(database: Database, *types: str) -> WorkerId:
    worker = WorkerId(new_id())
    told = tuple(AdvertisedType(name, "", None, "test") for name in types)
    with database.write() as connection:
        registration = Registration(worker, "h", 1, "1", ("default",), 9, told, 1.0)
        register_workers(connection, [registration])
    return worker


def test_every_change_is_a_version_that_can_be_looked_at(client: TestClient) -> None:
    created = client.put(PLACE, json=FLOW)
    assert created.status_code == 201
    assert created.headers["location"] == f"{PLACE}?version=1"
    again = client.put(PLACE, json={"flow": FLOW})
    assert (again.status_code, again.json()) == (200, created.json())
    assert _put(client, _named("new")).version == 2
    for place, version, definition in (
        (PLACE, 2, _named("new")),
        (created.headers["location"], 1, FLOW),
    ):
        answer = client.get(place)
        shown = shapes_of_stored.Definition.model_validate_json(answer.content)
        assert (shown.version, shown.definition) == (version, definition)
        assert shown.links.self == f"{PLACE}?version={version}"
        assert answer.headers["etag"] == f'"{version}"'
        known = client.get(place, headers={"If-None-Match": f'"{version}"'})
        assert (known.status_code, known.content) == (304, b"")


def test_definitions_and_versions_are_listed_by_page(client: TestClient) -> None:
    for flow_id in ("a", "b/c", "b/versionsofmine"):
        for name in ("old", "new"):
            _put(client, _named(name, id=flow_id), f"/definitions/{flow_id}")
    listed = client.get("/definitions", params={"limit": 2}).content
    page = shapes_of_stored.DefinitionPage.model_validate_json(listed)
    assert [(one.flow_id, one.version) for one in page.definitions] == [("a", 2), ("b/c", 2)]
    rest = client.get("/definitions", params={"cursor": page.next_cursor}).json()
    assert [one["flow_id"] for one in rest["definitions"]] == ["b/versionsofmine"]
    assert rest["next_cursor"] is None
    place = page.definitions[1].links.versions
    listed = client.get(place, params={"limit": 1}).content
    versions = shapes_of_stored.VersionPage.model_validate_json(listed)
    assert ([one.version for one in versions.versions], versions.next_cursor) == ([2], "2")
    rest = client.get(place, params={"cursor": versions.next_cursor}).json()
    assert [one["version"] for one in rest["versions"]] == [1]


def test_a_deleted_flow_is_gone_for_new_runs_and_goes_on_counting(client: TestClient) -> None:
    _put(client)
    run = _run(client, {"flow_id": "intake"})
    assert client.delete(PLACE).status_code == 204
    for answer in (
        client.delete(PLACE),
        client.get(PLACE),
        client.get(PLACE, params={"version": 1}),
        client.get(f"{PLACE}/versions"),
    ):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"
    assert _findings(client.post("/run-flow", json={"flow_id": "intake"})) == [
        ("/flow_id", "unknown_flow")
    ]
    kept = client.get(run.links.self).json()
    assert (kept["status"], kept["definition"]) == ("running", FLOW)
    assert _put(client).version == 2


def test_the_version_that_is_the_newest_is_run_unless_one_is_named(client: TestClient) -> None:
    _put(client, _named("one"))
    body: dict[str, JsonValue] = {"flow_id": "intake", "input": {"x": 1}}
    first = _run(client, body)
    _put(client, _named("two"))
    # The very same body: what it means has changed.
    second = _run(client, body)
    assert (first.definition, second.definition) == (_named("one"), _named("two"))
    assert (second.flow_id, second.name, second.input) == ("intake", "two", {"x": 1})
    assert _run(client, body | {"version": 1}).definition == _named("one")
    assert _run(client, {"flow_id": "intake"}).input == {}


def test_a_key_gives_the_same_run_after_the_newest_version_changed(client: TestClient) -> None:
    _put(client, _named("one"))
    key = {"Idempotency-Key": "k"}
    first = _run(client, {"flow_id": "intake"}, **key)
    _put(client, _named("two"))
    assert _run(client, {"flow_id": "intake"}, **key).flow_run_id == first.flow_run_id
    other = client.post("/run-flow", json={"flow_id": "intake", "version": 1}, headers=key)
    assert _findings(other) == []
    assert other.json()["type"].endswith("idempotency-mismatch")


REFUSED: list[tuple[JsonValue, list[tuple[str, str]]]] = [
    ({"flow_id": "intakes"}, [("/flow_id", "unknown_flow")]),
    ({"flow_id": "intake", "version": 9}, [("/version", "unknown_version")]),
    ({"flow_id": 7}, [("/flow_id", "wrong_type")]),
    ({"flow_id": ""}, [("/flow_id", "wrong_value")]),
    (
        {"flow_id": "x" * 201, "version": 0},
        [("/flow_id", "wrong_value"), ("/version", "wrong_value")],
    ),
    ({"flow_id": "intake", "version": True}, [("/version", "wrong_type")]),
    ({"flow_id": "intake", "version": "1"}, [("/version", "wrong_type")]),
    ({"flow_id": "intake", "version": 2**40}, [("/version", "wrong_value")]),
    ({"flow_id": "intake", "inptu": {}}, [("", "unknown_field")]),
    ({"flow_id": "intake", "flow": FLOW}, [("", "unknown_field")]),
    ({"flow_id": "intake", "input": {"x": "one"}}, [("/input/x", "bad_input")]),
]


def test_a_run_that_cannot_be_started_is_refused_with_its_place(client: TestClient) -> None:
    _put(client, FLOW | {"input_schema": {"properties": {"x": {"type": "integer"}}}})
    for body, findings in REFUSED:
        assert _findings(client.post("/run-flow", json=body)) == findings, body


def test_the_nearest_stored_flow_is_suggested(client: TestClient) -> None:
    _put(client)
    (finding,) = client.post("/run-flow", json={"flow_id": "intkae"}).json()["errors"]
    assert finding["suggestion"] == 'did you mean "intake"?'


def test_what_is_stored_is_judged_as_by_validate(client: TestClient) -> None:
    bad = {
        "id": "intake",
        "start_task": "begin",
        "tasks": [{"name": "first", "type": "nope"}, {"name": "first", "type": "noop"}],
    }
    for body in (bad, {"flow": bad}):
        told = client.post("/flows/validate", json=body).json()["errors"]
        answer = client.put(PLACE, json=body)
        assert _findings(answer) == [(one["pointer"], one["code"]) for one in told]
        assert len(told) == 3
    assert client.get(PLACE).status_code == 404


def test_doubts_are_told_and_the_schema_of_an_input_asks_nothing(client: TestClient) -> None:
    tasks: JsonValue = [{"name": "first", "type": "noop"}, {"name": "lost", "type": "noop"}]
    needy: JsonValue = {"required": ["x"]}
    flow = FLOW | {"tasks": tasks, "conditions": [], "input_schema": needy}
    stored = _put(client, {"flow": flow, "input": {}})
    assert [(one.pointer, one.code) for one in stored.warnings] == [
        ("/flow/tasks/1", "unreachable_task")
    ]


def test_the_id_of_the_address_must_be_the_flows(client: TestClient) -> None:
    for body, place in ((FLOW, "/id"), ({"flow": FLOW}, "/flow/id")):
        answer = client.put("/definitions/outtake", json=body)
        assert _findings(answer) == [(place, "other_id")]
    answer = client.put("/definitions/a/versions", json=FLOW | {"id": "a/versions"})
    assert _findings(answer) == [("/id", "reserved_id")]


def test_an_address_that_can_be_no_flows_is_a_404(client: TestClient) -> None:
    for place in (
        "/definitions/",
        f"/definitions/{'x' * 201}",
        "/definitions/%00",
        "/definitions/a%0Ab",
    ):
        for method in ("GET", "PUT", "DELETE"):
            content = b"" if method != "PUT" else b"{}"
            answer = client.request(method, place, content=content)
            assert answer.status_code == 404, (method, place, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"


def test_a_body_that_names_a_stored_flow_is_no_definition(client: TestClient) -> None:
    assert _findings(client.put(PLACE, json={"flow_id": "intake"})) == [("", "missing_field")]
    verdict = client.post("/flows/validate", json={"flow_id": "intake"}).json()
    assert verdict["valid"] is False


def test_preconditions_keep_one_change_from_overwriting_another(client: TestClient) -> None:
    assert _put(client, _named("one"), **{"If-None-Match": "*"}).version == 1
    assert _put(client, _named("two"), **{"If-Match": '"1"'}).version == 2
    for headers in ({"If-None-Match": "*"}, {"If-Match": '"1"'}, {"If-Match": '"other"'}):
        answer = client.put(PLACE, json=_named("three"), headers=headers)
        assert _findings(answer, 412) == []
    assert _put(client, _named("three"), **{"If-Match": '"7", "2"'}).version == 3
    assert _put(client, _named("four"), **{"If-Match": "*"}).version == 4
    client.delete(PLACE)
    assert client.put(PLACE, json=FLOW, headers={"If-Match": "*"}).status_code == 412
    assert client.put(PLACE, json=FLOW, headers={"If-Match": '"4"'}).status_code == 412
    assert _put(client, **{"If-None-Match": "*"}).version == 5


def test_preconditions_that_mean_nothing_are_refused(client: TestClient) -> None:
    for headers, place in (
        ({"If-Match": "4"}, "/header/If-Match"),
        ({"If-None-Match": '"4"'}, "/header/If-None-Match"),
        ({"If-None-Match": "*", "If-Match": "*"}, "/header/If-Match"),
    ):
        answer = client.put(PLACE, json=FLOW, headers=headers)
        assert _findings(answer) == [(place, "invalid_header")]


def test_a_type_that_went_after_the_definition_was_stored_is_told_at_the_submit(
    client: TestClient, database: Database
) -> None:
    first = _register(database, "noop", "old")
    tasks: JsonValue = [{"name": "a", "type": "old"}]
    flow: JsonValue = {"id": "intake", "start_task": "a", "tasks": tasks}
    _put(client, flow)
    _run(client, {"flow_id": "intake"})
    _register(database, "noop")
    with database.write() as connection:
        leave(connection, first, "stopped")
    answers: list[Response] = []

    def is_refused() -> bool:
        answers.append(client.post("/run-flow", json={"flow_id": "intake"}))
        return answers[-1].status_code == 422

    block_until(is_refused, description="the service knows that the worker is gone")
    answer = answers[-1]
    assert _findings(answer) == [("/flow_id", "unknown_task_type")]
    (finding,) = answer.json()["errors"]
    assert "/tasks/0/type" in finding["message"]
    # And the other way round: it comes back, and the definition runs.
    _register(database, "noop", "old")
    assert _run(client, {"flow_id": "intake"}).flow_id == "intake"
