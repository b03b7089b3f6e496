"""Schedules over HTTP: made, looked at, changed, paused, started by hand and refused."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from httpx2 import Response
from pydantic import JsonValue
from starlette.testclient import TestClient

from api import shapes
from api.schedule_shapes import Schedule, SchedulePage
from shared.database import Database, create_database
from shared.models_schedules import ScheduleRow
from shared.settings import Settings
from tests.api_client import FLOW, open_client, settings_for

NIGHTLY: dict[str, JsonValue] = {
    "id": "nightly",
    "flow_id": "intake",
    "input": {"x": 1},
    "cron": "30 2 * * *",
    "time_zone": "Europe/Berlin",
}


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return settings_for(database_url, tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with open_client(settings) as client:
        schema: JsonValue = {"properties": {"x": {"type": "integer"}}}
        assert client.put("/definitions/intake", json=FLOW | {"input_schema": schema}).is_success
        yield client


@pytest.fixture
def database(settings: Settings, client: TestClient) -> Iterator[Database]:
    database = create_database(settings)
    yield database
    database.close()


def _made(answer: Response, status: int = 201) -> Schedule:
    assert answer.status_code == status, answer.text
    return Schedule.model_validate_json(answer.content)


def _findings(answer: Response, status: int = 422) -> list[tuple[str, str]]:
    assert answer.status_code == status, answer.text
    problem = shapes.Problem.model_validate_json(answer.content)
    return [(finding.pointer, finding.code) for finding in problem.errors]


def test_a_schedule_is_made_with_its_next_ticks(client: TestClient) -> None:
    answer = client.post("/schedules", json=NIGHTLY)
    made = _made(answer)
    assert answer.headers["location"] == made.links.self == "/schedules/nightly"
    assert (made.flow_id, made.version, made.input) == ("intake", None, {"x": 1})
    assert (made.overlap, made.catch_up, made.paused) == ("skip", True, False)
    assert len(made.next_ticks) == 5
    assert made.next_tick == made.next_ticks[0] > datetime.now(UTC)
    assert {tick.hour for tick in made.next_ticks} <= {0, 1}
    assert (made.last_start, made.last_error, made.waiting) == (None, None, None)
    assert _made(client.get("/schedules/nightly"), 200) == made
    assert _findings(client.post("/schedules", json=NIGHTLY), 409) == []


def test_an_interval_begins_at_its_start(client: TestClient) -> None:
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    body = {"flow_id": "intake", "every": "90m", "start": start.isoformat()}
    made = _made(client.post("/schedules", json=body))
    assert (made.every, made.start, made.cron) == (5_400.0, start, None)
    assert made.next_ticks[:2] == [start, start + timedelta(minutes=90)]
    assert made.input == {}


def test_schedules_are_listed_by_page_and_by_flow(client: TestClient) -> None:
    client.put("/definitions/other", json=FLOW | {"id": "other"})
    for schedule_id, flow_id in (("a", "intake"), ("b", "other"), ("c", "intake")):
        body = {"flow_id": flow_id, "every": 60}
        _made(client.put(f"/schedules/{schedule_id}", json=body))
    page = SchedulePage.model_validate_json(client.get("/schedules?limit=2").content)
    assert ([one.id for one in page.schedules], page.next_cursor) == (["a", "b"], "b")
    rest = client.get("/schedules", params={"cursor": page.next_cursor}).json()
    assert ([one["id"] for one in rest["schedules"]], rest["next_cursor"]) == (["c"], None)
    ours = client.get("/schedules", params={"flow_id": "intake"}).json()
    assert [one["id"] for one in ours["schedules"]] == ["a", "c"]


def test_a_put_changes_and_keeps_a_pause(client: TestClient) -> None:
    _made(client.put("/schedules/nightly", json=NIGHTLY))
    paused = _made(client.post("/schedules/nightly/pause"), 200)
    assert (paused.paused, paused.next_tick, paused.next_ticks) == (True, None, [])
    changed = {**NIGHTLY, "overlap": "queue", "catch_up": False}
    put = _made(client.put("/schedules/nightly", json=changed), 200)
    assert (put.overlap, put.catch_up, put.paused) == ("queue", False, True)
    resumed = _made(client.post("/schedules/nightly/resume"), 200)
    assert not resumed.paused
    assert resumed.next_tick is not None
    assert client.delete("/schedules/nightly").status_code == 204


def test_what_does_not_exist_is_a_404(client: TestClient) -> None:
    for schedule_id in ("nobody", "%00", "x" * 101, "a%2Fb"):
        place = f"/schedules/{schedule_id}"
        for method, path in (
            ("GET", place),
            ("DELETE", place),
            ("POST", f"{place}/pause"),
            ("POST", f"{place}/resume"),
            ("POST", f"{place}/trigger"),
        ):
            assert _findings(client.request(method, path), 404) == []


def test_a_start_by_hand_is_a_run_of_the_schedule(client: TestClient, database: Database) -> None:
    _made(client.post("/schedules", json={**NIGHTLY, "paused": True}))
    key = {"Idempotency-Key": "once"}
    first = client.post("/schedules/nightly/trigger", headers=key)
    again = client.post("/schedules/nightly/trigger", headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.headers["idempotent-replayed"] == "true"
    run_id = first.json()["flow_run_id"]
    assert again.json()["flow_run_id"] == run_id
    run = client.get(f"/flows/{run_id}").json()
    assert (run["input"], run["schedule_id"]) == ({"x": 1}, "nightly")
    client.post("/run-flow", json={"flow_id": "intake"})
    started = client.get(_made(client.get("/schedules/nightly"), 200).links.runs).json()["flows"]
    assert [one["flow_run_id"] for one in started] == [run_id]
    shown = _made(client.get("/schedules/nightly"), 200)
    assert shown.last_start is not None
    assert (shown.last_start.flow_run_id, shown.last_start.tick) == (run_id, None)
    assert shown.last_start.status == "running"
    other = client.post("/schedules/nightly/trigger").json()["flow_run_id"]
    assert other != run_id
    client.delete("/definitions/intake")
    assert _findings(client.post("/schedules/nightly/trigger")) == [("/flow_id", "unknown_flow")]


def test_what_went_wrong_is_shown(client: TestClient, database: Database) -> None:
    _made(client.post("/schedules", json=NIGHTLY))
    table, now = ScheduleRow.__table__, datetime.now(UTC)
    with database.write() as connection:
        connection.execute(
            table.update().values(
                error="no flow", error_at=now, left_out_tick=now, left_out_reason="running"
            )
        )
    shown = _made(client.get("/schedules/nightly"), 200)
    assert shown.last_error is not None
    assert (shown.last_error.message, shown.last_error.at) == ("no flow", now)
    assert shown.last_left_out is not None
    assert shown.last_left_out.reason == "running"


def _wrong(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**NIGHTLY, **changes}.items() if value is not None}


REFUSED: list[tuple[Any, list[tuple[str, str]]]] = [
    ([], [("", "wrong_type")]),
    ({}, [("", "missing_field"), ("", "bad_schedule")]),
    (_wrong(flow_id="intakes"), [("/flow_id", "unknown_flow")]),
    (_wrong(version=3), [("/version", "unknown_flow")]),
    (_wrong(version="3"), [("/version", "wrong_type")]),
    (_wrong(input={"x": "one"}), [("/input/x", "bad_input")]),
    (_wrong(crom="* * * * *"), [("", "unknown_field")]),
    (_wrong(every=60), [("/every", "bad_schedule")]),
    (_wrong(cron="61 * * * *"), [("/cron", "bad_schedule")]),
    (_wrong(cron="0 0 30 2 *"), [("/cron", "bad_schedule")]),
    (_wrong(cron="* * * * * *"), [("/cron", "bad_schedule")]),
    (_wrong(cron=7), [("/cron", "bad_schedule")]),
    (_wrong(time_zone="Europe/Berln"), [("/time_zone", "bad_schedule")]),
    (_wrong(cron=None, time_zone=None, every=0.5), [("/every", "bad_schedule")]),
    (_wrong(cron=None, time_zone=None, every="11000d"), [("/every", "bad_schedule")]),
    (_wrong(cron=None, time_zone=None, every=True), [("/every", "bad_schedule")]),
    (_wrong(cron=None, time_zone=None, every=60, start="today"), [("/start", "bad_schedule")]),
    (
        _wrong(id="a/b", overlap="stop", catch_up=1, paused="no"),
        [
            ("/id", "wrong_value"),
            ("/overlap", "wrong_value"),
            ("/catch_up", "wrong_type"),
            ("/paused", "wrong_type"),
        ],
    ),
]


def test_what_cannot_be_a_schedule_is_refused_with_its_place(client: TestClient) -> None:
    for body, findings in REFUSED:
        for answer in (
            client.post("/schedules", json=body),
            client.put("/schedules/nightly", json=body),
        ):
            assert _findings(answer) == findings, body
    assert client.get("/schedules").json()["schedules"] == []
    answer = client.post("/schedules", json=_wrong(input={"text": "x" * 1_000_000}))
    assert _findings(answer) == [("/input", "too_large")]
    answer = client.put("/schedules/daily", json=NIGHTLY)
    assert _findings(answer) == [("/id", "other_id")]


def test_the_nearest_time_zone_is_suggested(client: TestClient) -> None:
    answer = client.post("/schedules", json=_wrong(time_zone="berlin"))
    assert answer.json()["errors"][0]["suggestion"] == 'did you mean "Europe/Berlin"?'


def test_keys_of_schedules_are_not_for_submits(client: TestClient) -> None:
    key = {"Idempotency-Key": "schedule:nightly:2026-01-02T01:30:00Z"}
    answer = client.post("/run-flow", json={"flow_id": "intake"}, headers=key)
    assert _findings(answer) == [("/header/Idempotency-Key", "invalid_header")]
