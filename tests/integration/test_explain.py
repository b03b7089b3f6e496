"""Explanations of runs that stand still, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from api import shapes
from shared.explanation import Reason, explain
from shared.ids import FlowRunId
from shared.queries.explain import Moment, read_standing
from tests.api_client import FLOW, open_client, settings_for
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

UNKNOWN = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        yield client


def _reasons(rig: Rig, run_id: FlowRunId) -> dict[str, Reason]:
    settings = rig.engine.settings
    with rig.engine.database.read() as connection:
        moment = Moment(
            datetime.now(UTC),
            rig.engine.clock.now(),
            settings.lease_seconds,
            settings.heartbeat_seconds,
            settings.max_losses,
        )
        standing = read_standing(connection, run_id, moment)
    assert standing is not None
    return {reason.code: reason for reason in map(explain, standing.facts)}


async def _told(rig: Rig, run_id: FlowRunId, code: str) -> Reason:
    await wait_until(lambda: code in _reasons(rig, run_id), description=code)
    return _reasons(rig, run_id)[code]


def _single(**task: Any) -> dict[str, Any]:
    return {"id": "one", "start_task": "a", "tasks": [{"name": "a", **task}], "conditions": []}


def _diamond(left: dict[str, Any], right: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "diamond",
        "start_task": "split",
        "tasks": [
            {"name": "split", "type": "plain"},
            {"name": "left", **left},
            {"name": "right", **right},
            {"name": "meet", "type": "plain"},
        ],
        "conditions": [
            {"source_task": "split", "target_task_success": ["left", "right"]},
            {"source_task": "left", "target_task_success": "meet"},
            {"source_task": "right", "target_task_success": "meet"},
        ],
    }


def test_an_unknown_run_is_not_found(client: TestClient) -> None:
    assert client.get(f"/flows/{UNKNOWN}/explain").status_code == 404


def test_without_workers_a_run_waits_for_one(client: TestClient) -> None:
    run_id = client.post("/run-flow", json={"flow": FLOW}).json()["flow_run_id"]
    answer = client.get(f"/flows/{run_id}/explain")
    told = shapes.Explanation.model_validate_json(answer.content)
    assert [reason.code for reason in told.reasons] == ["no_worker"]
    assert told.summary == told.reasons[0].message


async def test_a_sleep_and_an_attempt_and_a_signal_are_told(rig: Rig) -> None:
    sleep = await rig.submit(_single(type="sleep", params={"for": "1h"}))
    assert "sleeps in a until" in (await _told(rig, sleep, "sleeps")).message
    retry = {"max_attempts": 3, "delay": 600, "jitter": False}
    again = await rig.submit(_single(type="flaky", retry=retry))
    assert "attempt 2 of 3 of a" in (await _told(rig, again, "waits_for_attempt")).message
    signal = await rig.submit(_single(type="wait_for_signal", params={"signal": "go"}))
    assert "signal go" in (await _told(rig, signal, "waits_for_signal")).message


async def test_a_join_tells_whom_it_waits_for(rig: Rig) -> None:
    run_id = await rig.submit(_diamond({"type": "plain"}, {"type": "hangs"}))
    reason = await _told(rig, run_id, "waits_at_join")
    assert reason.data["waits_for"] == [{"branch": "main/split:right", "task": "right"}]
    assert (await _told(rig, run_id, "running")).task == "right"
    assert await rig.cancel(run_id)


async def test_a_join_that_was_missed_says_by_whom(rig: Rig) -> None:
    failing = {"type": "scripted", "params": {"succeeds": False}}
    run_id = await rig.submit(_diamond({"type": "plain"}, failing))
    await rig.ended(run_id)
    reason = _reasons(rig, run_id)["join_not_run"]
    assert reason.data["missed_by"] == [{"branch": "main/split:right", "task": "right"}]
    assert "over" in _reasons(rig, run_id)


async def test_a_branch_tells_of_those_that_go_before_it_and_of_queues_that_nobody_takes(
    rig: Rig,
) -> None:
    rig.engine.claimer.stop()
    await rig.submit(_single(type="plain", priority=5))
    await rig.submit(_single(type="plain", priority=-5))
    run_id = await rig.submit(_single(type="plain"))
    reason = await _told(rig, run_id, "waits_for_slot")
    assert reason.data["ahead"] == 1
    elsewhere = await rig.submit(_single(type="plain", queue="gpu"))
    assert "no live worker serves queue gpu" in (await _told(rig, elsewhere, "no_worker")).message
