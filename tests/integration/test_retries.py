"""Attempts that go wrong: tried again, given up, and where an error leads, on both databases."""

from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.ids import FlowRunId
from shared.models import TaskRun
from shared.status import Outcome, Reason, RunStatus, TaskRunStatus
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

QUICK = {"delay": 0.01, "jitter": False}


def _flow(task: dict[str, Any], **condition: Any) -> dict[str, Any]:
    names = ["after", "rescue"]
    return {
        "id": "retries",
        "start_task": "shaky",
        "tasks": [
            {"name": "shaky", "type": "flaky", **task},
            *({"name": name, "type": "scripted"} for name in names),
        ],
        "conditions": [{"source_task": "shaky", "target_task_success": "after", **condition}],
    }


def _attempts(rig: Rig, run_id: FlowRunId) -> list[tuple[int, str, str | None]]:
    table = TaskRun.__table__
    query = select(table.c.attempt, table.c.status, table.c.reason).where(
        table.c.flow_run_id == run_id, table.c.task == "shaky"
    )
    with rig.engine.database.read() as connection:
        return sorted(tuple(row) for row in connection.execute(query))


@pytest.mark.parametrize("kind", ["error", "timeout"])
async def test_an_attempt_that_went_wrong_is_tried_again_until_it_is_good(
    rig: Rig, kind: str
) -> None:
    task = {"params": {"attempt": 3, "kind": kind}, "retry": QUICK, "timeout": "50ms"}
    run_id = await rig.submit(_flow(task))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    reason = Reason.TIMED_OUT if kind == "timeout" else Reason.RAISED
    assert _attempts(rig, run_id) == [
        (1, TaskRunStatus.FAILED, reason),
        (2, TaskRunStatus.FAILED, reason),
        (3, TaskRunStatus.SUCCESS, None),
    ]
    assert orjson.loads(rig.tasks(run_id)["after"].data)["previous"] == {"attempt": 3}


async def test_the_run_fails_when_all_attempts_are_used_up(rig: Rig) -> None:
    task = {"params": {"attempt": 9}, "retry": {"max_attempts": 2, **QUICK}}
    run_id = await rig.submit(_flow(task))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["type"] == "ConnectionError"
    assert len(_attempts(rig, run_id)) == 2


async def test_an_error_goes_where_the_condition_says(rig: Rig) -> None:
    task = {"params": {"attempt": 9}, "retry": {"max_attempts": 2, **QUICK}}
    run_id = await rig.submit(_flow(task, target_task_error="rescue"))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert set(rig.tasks(run_id)) == {"shaky", "rescue"}
    assert orjson.loads(rig.tasks(run_id)["rescue"].data)["seen"] == {"shaky": None}


async def test_an_error_that_ends_its_branch_is_a_failure_of_the_run(rig: Rig) -> None:
    run = await rig.ended(
        await rig.submit(_flow({"params": {"attempt": 9}}, target_task_error="end"))
    )
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.FAILURE)


async def test_a_failure_is_not_tried_again_unless_told(rig: Rig) -> None:
    params = {"attempt": 2, "kind": "failure"}
    told = await rig.submit(_flow({"params": params, "retry": {**QUICK, "on": ["failure"]}}))
    untold = await rig.submit(_flow({"params": params, "retry": QUICK}))
    assert (await rig.ended(told)).outcome == Outcome.SUCCESS
    assert (await rig.ended(untold)).outcome == Outcome.FAILURE
    assert len(_attempts(rig, told)) == 2
    assert len(_attempts(rig, untold)) == 1


async def test_a_budget_ends_the_attempts(rig: Rig) -> None:
    retry = {"max_attempts": 50, "delay": 0.2, "backoff": 1, "jitter": False, "budget": 0.5}
    run_id = await rig.submit(_flow({"params": {"attempt": 99}, "retry": retry}))
    assert (await rig.ended(run_id)).status == RunStatus.FAILED
    assert 2 <= len(_attempts(rig, run_id)) <= 3


async def test_a_wait_for_the_next_attempt_holds_no_slot_and_ends_with_its_run(rig: Rig) -> None:
    retry = {"delay": "1h", "max_delay": "1h", "jitter": False}
    run_id = await rig.submit(_flow({"params": {"attempt": 9}, "retry": retry}))
    await wait_until(lambda: len(_attempts(rig, run_id)) == 1, description="an attempt")
    await wait_until(lambda: not rig.engine.runner.claims, description="no slot is held")
    assert rig.run(run_id).status == RunStatus.RUNNING
    await rig.cancel(run_id)
    assert (await rig.ended(run_id)).status == RunStatus.CANCELLED


async def test_attempts_count_as_task_runs_of_the_run(rig: Rig) -> None:
    flow = _flow({"params": {"attempt": 99}, "retry": {"max_attempts": 50, "delay": 0}})
    run_id = await rig.submit({**flow, "max_task_runs": 5})
    run = await rig.ended(run_id)
    assert orjson.loads(run.error)["type"] == "TaskRunLimit"
    assert len(_attempts(rig, run_id)) == 5
