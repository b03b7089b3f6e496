"""Params that do not fit the schemas that the workers advertise, refused at the submit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.api_client import open_client, settings_for


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        yield client


def _flow(**params: Any) -> dict[str, Any]:
    task = {"name": "nap", "type": "sleep", "params": params}
    return {"id": "naps", "start_task": "nap", "tasks": [task]}


def test_params_that_do_not_fit_are_refused_with_their_place(client: TestClient) -> None:
    for body, prefix in (
        (_flow(untl="2030-01-01T00:00:00Z"), ""),
        ({"flow": _flow(untl="2030-01-01T00:00:00Z")}, "/flow"),
    ):
        answer = client.post("/run-flow", json=body)
        assert answer.status_code == 422
        (error,) = answer.json()["errors"]
        assert (error["pointer"], error["code"]) == (
            f"{prefix}/tasks/0/params/untl",
            "unknown_param",
        )
        assert error["suggestion"] == 'did you mean "until"?'


def test_params_that_fit_run(client: TestClient) -> None:
    for params in ({"for": "5s"}, {"for": "${input.seconds}"}):
        assert client.post("/run-flow", json=_flow(**params)).status_code == 202


def test_the_verdict_and_the_store_judge_params_too(client: TestClient) -> None:
    verdict = client.post("/flows/validate", json=_flow(until=3)).json()
    assert [e["pointer"] for e in verdict["errors"]] == ["/tasks/0/params/until"]
    assert client.put("/definitions/naps", json=_flow(until=3)).status_code == 422
