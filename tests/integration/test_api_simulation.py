"""``POST /flows/simulate``: a run in memory, its bounds, and what is wrong with a request."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api.simulation_shapes import SimulatedRun
from shared.settings import Settings
from tests.api_client import open_client, settings_for
from tests.unit.simulating import flow_of

FLOW = flow_of(
    {"fetch": {"type": "not_written_yet", "retry": 2}, "store": {"params": {"n": "${previous.n}"}}},
    ("fetch", "store"),
)


@pytest.fixture
def client(sqlite_url: str, tmp_path: Path) -> Iterator[TestClient]:
    chosen = settings_for(
        sqlite_url, tmp_path, simulation_max_attempts=200, simulation_max_bytes=5_000
    )
    with open_client(chosen) as client:
        yield client


def _ask(client: TestClient, **body: Any) -> Any:
    return client.post("/flows/simulate", json=body)


def test_the_way_for_given_outcomes_is_answered(client: TestClient) -> None:
    outcomes = {"fetch": ["timeout", {"data": {"n": 3}}], "store": False}
    answer = _ask(client, flow=FLOW, input={}, outcomes=outcomes)
    assert answer.status_code == 200
    run = answer.json()
    SimulatedRun.model_validate(run)
    assert (run["status"], run["outcome"], run["path"]) == (
        "completed",
        "failure",
        ["fetch", "store"],
    )
    assert [task["attempt"] for task in run["tasks"]] == [1, 2, 1]
    assert run["tasks"][2]["params"] == {"n": 3}
    assert client.get("/flows").json()["flows"] == []


def test_a_bare_definition_will_do(client: TestClient) -> None:
    run = client.post("/flows/simulate", json=flow_of({"a": {}})).json()
    assert (run["outcome"], run["assumed"]) == ("success", ["a"])


def test_warnings_of_the_definition_come_along(client: TestClient) -> None:
    run = _ask(client, flow=flow_of({"a": {}, "b": {}})).json()
    assert [warning["code"] for warning in run["warnings"]] == ["unreachable_task"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"flow": {**FLOW, "start_task": "x"}}, "/flow/start_task"),
        ({"flow": FLOW, "outcomes": {"fetsh": True}}, "/outcomes/fetsh"),
        ({"flow": FLOW, "outcomes": {"fetch": [1]}}, "/outcomes/fetch/0"),
        ({"flow": FLOW, "signals": []}, "/signals"),
        ({"flow": {**FLOW, "input_schema": {"type": "object"}}, "input": 1}, "/input"),
        ({"flow": FLOW, "outcome": {}}, ""),
        (
            {"flow": flow_of({"a": {"type": "sleep", "params": {"fro": 1}}})},
            "/flow/tasks/0/params/fro",
        ),
        ([], ""),
    ],
)
def test_what_is_wrong_is_located(client: TestClient, body: Any, pointer: str) -> None:
    answer = client.post("/flows/simulate", json=body)
    assert answer.status_code == 422
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.mark.parametrize(
    ("outcome", "detail"),
    [(False, "200 attempts"), ({"success": False, "data": "x" * 999}, "5000")],
)
def test_a_run_beyond_the_bounds_is_refused(client: TestClient, outcome: Any, detail: str) -> None:
    answer = _ask(client, flow=flow_of({"a": {}}, ("a", "end", "a")), outcomes={"a": outcome})
    assert answer.status_code == 422
    assert detail in answer.json()["detail"]


def test_a_run_that_takes_too_long_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    chosen: Settings = settings_for(sqlite_url, tmp_path, simulation_timeout_seconds=1e-9)
    with open_client(chosen) as client:
        answer = _ask(client, flow=flow_of({"a": {}}, ("a", "end", "a")), outcomes={"a": False})
    assert answer.status_code == 422
    assert "takes longer than" in answer.json()["detail"]
