"""Waits for signals, and signals that are sent to runs, on both databases."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.testclient import TestClient

from shared.ids import FlowRunId
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.store.signals import NewSignal, SentSignal, send_signals
from tests.api_client import open_client, settings_for
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]


def _flow(**params: Any) -> dict[str, Any]:
    wait = {"type": "wait_for_signal", "params": {"signal": "approve", **params}}
    return {
        "id": "approval",
        "start_task": "ask",
        "tasks": [
            {"name": "ask", "type": "echo"},
            {"name": "wait", **wait},
            {"name": "yes", "type": "echo", "params": {"by": "${tasks.wait.data.by}"}},
            {"name": "no", "type": "echo"},
        ],
        "conditions": [
            {"source_task": "ask", "target_task_success": "wait"},
            {"source_task": "wait", "target_task_success": "yes", "when": "previous.approved"},
            {"source_task": "wait", "target_task_success": "no", "target_task_error": "no"},
        ],
    }


async def _send(rig: Rig, run_id: FlowRunId, data: Any, key: str | None = None) -> SentSignal:
    sent = await rig.engine.writer.call(
        send_signals,
        NewSignal(
            flow_run_id=run_id,
            name="approve",
            data=orjson.dumps(data),
            received_at=datetime.now(UTC),
            ready_at=rig.engine.clock.now(),
            idempotency_key=key,
        ),
    )
    if sent.branch_id is not None:
        await rig.engine.claimer.hand_over([sent.branch_id])
    return sent


async def _waiting(rig: Rig, run_id: FlowRunId) -> None:
    await wait_until(
        lambda: "wait" in (tasks := rig.tasks(run_id)) and tasks["wait"].status == "waiting",
        description="the run waits for its signal",
    )


async def test_a_signal_lets_the_run_go_on_with_its_data(rig: Rig) -> None:
    run_id = await rig.submit(_flow())
    await _waiting(rig, run_id)
    await wait_until(lambda: not rig.engine.runner.claims, description="no slot is held")
    sent = await _send(rig, run_id, {"approved": True, "by": "ada"})
    assert (sent.result, sent.branch_id is None) == ("sent", False)
    run = await rig.ended(run_id)
    assert (run.outcome, orjson.loads(run.output)) == (Outcome.SUCCESS, {"by": "ada"})
    assert rig.visits(run_id) == {"ask": 1, "wait": 1, "yes": 1}


async def test_a_signal_that_comes_before_its_wait_is_kept(rig: Rig) -> None:
    flow = _flow()
    flow["tasks"][0] = {"name": "ask", "type": "sleep", "params": {"for": "300ms"}}
    run_id = await rig.submit(flow)
    assert (await _send(rig, run_id, {"approved": False})).branch_id is None
    assert (await rig.ended(run_id)).status == RunStatus.COMPLETED
    assert "no" in rig.tasks(run_id)


async def test_a_signal_counts_once_for_its_key(rig: Rig) -> None:
    flow = _flow()
    flow["tasks"].insert(2, {**flow["tasks"][1], "name": "again"})
    flow["conditions"][1] = {"source_task": "wait", "target_task_success": "again"}
    flow["conditions"][2] = {"source_task": "again", "target_task_success": "no"}
    run_id = await rig.submit(flow)
    await _waiting(rig, run_id)
    assert (await _send(rig, run_id, 1, "key")).result == "sent"
    assert (await _send(rig, run_id, 1, "key")).result == "again"
    await wait_until(
        lambda: "again" in (tasks := rig.tasks(run_id)) and tasks["again"].status == "waiting",
        description="the second wait has begun",
    )
    assert rig.run(run_id).status == RunStatus.RUNNING
    await _send(rig, run_id, 2)
    await rig.ended(run_id)
    data = {task: orjson.loads(row.data) for task, row in rig.tasks(run_id).items()}
    assert (data["wait"], data["again"]) == (1, 2)


async def test_a_wait_that_takes_too_long_is_an_error_that_can_be_handled(rig: Rig) -> None:
    run_id = await rig.submit(_flow(timeout=0.1))
    await rig.ended(run_id)
    task = rig.tasks(run_id)["wait"]
    assert (task.status, orjson.loads(task.error)["type"]) == (TaskRunStatus.FAILED, "TaskTimeout")
    assert "no" in rig.tasks(run_id)


async def test_a_signal_and_a_wait_that_begin_at_once_find_each_other(rig: Rig) -> None:
    for round_ in range(15):
        run_id = await rig.submit(_flow())
        await asyncio.sleep(0.002 * round_)
        await _send(rig, run_id, {"approved": True, "by": round_})
        assert orjson.loads((await rig.ended(run_id)).output) == {"by": round_}


async def test_nobody_takes_a_signal_of_a_run_that_is_over(rig: Rig) -> None:
    run_id = await rig.submit(_flow())
    await _waiting(rig, run_id)
    await rig.cancel(run_id)
    assert (await rig.ended(run_id)).status == RunStatus.CANCELLED
    assert (await _send(rig, run_id, None)).result == "over"


@pytest.fixture
def client(database_url: str, tmp_path: Path) -> Iterator[TestClient]:
    with open_client(settings_for(database_url, tmp_path)) as client:
        yield client


SCHEMA = {
    "type": "object",
    "required": ["approved"],
    "properties": {"approved": {"type": "boolean"}},
}


def _submitted(client: TestClient, **params: Any) -> str:
    wait = {"name": "wait", "type": "wait_for_signal", "params": {"signal": "ok", **params}}
    answer = client.post("/run-flow", json={"id": "f", "start_task": "wait", "tasks": [wait]})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["flow_run_id"])


def test_signals_are_accepted_over_http_and_say_when_they_were_sent_before(
    client: TestClient,
) -> None:
    url = f"/flows/{_submitted(client)}/signals/ok"
    first = client.post(url, json={"n": 1}, headers={"Idempotency-Key": "k"})
    assert (first.status_code, first.json()["status"]) == (202, "running")
    second = client.post(url, json={"n": 1}, headers={"Idempotency-Key": "k"})
    assert second.headers["Idempotent-Replayed"] == "true"
    assert client.post(url).status_code == 202


def test_data_that_does_not_fit_the_schema_is_refused_with_its_place(client: TestClient) -> None:
    url = f"/flows/{_submitted(client, schema=SCHEMA)}/signals/ok"
    answer = client.post(url, json={"approved": "yes"})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/approved"
    assert client.post(url, json={"approved": True}).status_code == 202
    # Another signal of the run is none of this schema's business.
    assert client.post(url.replace("/ok", "/other"), json=5).status_code == 202


def test_signals_that_nobody_can_take_are_refused(client: TestClient) -> None:
    run = _submitted(client)
    unknown = "01980f2e-8a00-7000-8000-3f1b5d7a9c24"
    assert client.post(f"/flows/{unknown}/signals/ok").status_code == 404
    assert client.post("/flows/x/signals/ok").status_code == 404
    assert client.post(f"/flows/{run}/signals/{'x' * 300}").status_code == 422
    assert client.post(f"/flows/{run}/signals/ok", content=b"{").status_code == 400
    assert client.post(f"/flows/{run}/cancel").status_code == 202
    assert client.post(f"/flows/{run}/signals/ok").status_code == 409
