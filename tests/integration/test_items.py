"""``for_each``: a task that runs once an item, on both databases."""

from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.ids import FlowRunId
from shared.models import Branch, TaskRun
from shared.status import BranchState, Outcome, RunStatus, TaskRunStatus
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

PICKY = {"type": "picky", "params": {"item": "${item}", "index": "${index}"}}


def _flow(each: dict[str, Any], **condition: Any) -> dict[str, Any]:
    names = ["after", "rescue", "sorry"]
    rules = {"target_task_success": "after", "target_task_failure": "sorry", **condition}
    return {
        "id": "items",
        "start_task": "each",
        "tasks": [
            {"name": "each", **PICKY, **each},
            *({"name": name, "type": "echo", "params": {"all": "${previous}"}} for name in names),
        ],
        "conditions": [{"source_task": "each", **rules}],
        "max_task_runs": 30_000,
    }


def _items(rig: Rig, run_id: FlowRunId) -> list[tuple[int, int, str, str | None]]:
    table = TaskRun.__table__
    query = (
        select(table.c.item_index, table.c.attempt, table.c.status, table.c.reason)
        .where(table.c.flow_run_id == run_id, table.c.task == "each", table.c.item_index >= 0)
        .order_by(table.c.item_index, table.c.attempt)
    )
    with rig.engine.database.read() as connection:
        return [tuple(row) for row in connection.execute(query)]


async def test_the_task_runs_once_an_item_and_gives_their_data_in_order(rig: Rig) -> None:
    run_id = await rig.submit(_flow({"for_each": "[3, 1, 2]"}))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    expected = [{"item": 3, "index": 0}, {"item": 1, "index": 1}, {"item": 2, "index": 2}]
    assert orjson.loads(rig.tasks(run_id)["after"].data) == {"all": expected}
    assert _items(rig, run_id) == [(i, 1, TaskRunStatus.SUCCESS, None) for i in range(3)]


async def test_an_empty_list_is_a_success_with_no_data(rig: Rig) -> None:
    run_id = await rig.submit(_flow({"for_each": "${[n for n in [1] if n > 1]}"}))
    assert (await rig.ended(run_id)).outcome == Outcome.SUCCESS
    assert orjson.loads(rig.tasks(run_id)["after"].data) == {"all": []}


async def test_many_items_all_run(rig: Rig) -> None:
    ten = "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"
    text = f"[a * 100 + b * 10 + c for a in {ten} for b in {ten} for c in {ten}]"
    run_id = await rig.submit(_flow({"for_each": text}))
    assert (await rig.ended(run_id)).outcome == Outcome.SUCCESS
    found = orjson.loads(rig.tasks(run_id)["after"].data)["all"]
    assert found == [{"item": n, "index": n} for n in range(1_000)]


async def test_no_more_items_run_at_a_time_than_told(rig: Rig) -> None:
    each = {"for_each": "[0, 1, 2, 3, 4, 5, 6, 7]", "concurrency": 2, "type": "counting"}
    run_id = await rig.submit(_flow({**each, "params": {}}))
    assert (await rig.ended(run_id)).outcome == Outcome.SUCCESS
    most = [item["most"] for item in orjson.loads(rig.tasks(run_id)["after"].data)["all"]]
    assert max(most) == 2
    assert len(most) == 8


@pytest.mark.parametrize(
    ("tolerate", "goes_to"), [(0, "sorry"), (1, "after"), ("25%", "after"), ("all", "after")]
)
async def test_so_many_items_may_fail(rig: Rig, tolerate: Any, goes_to: str) -> None:
    items = '["ok", "no", "ok", "ok"]'
    run_id = await rig.submit(_flow({"for_each": items, "tolerate": tolerate}))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.COMPLETED
    assert set(rig.tasks(run_id)) == {"each", goes_to}


async def test_an_item_that_raises_fails_the_run_and_stops_the_others(rig: Rig) -> None:
    each = {"for_each": '["hang", "boom", "hang"]'}
    run_id = await rig.submit(_flow(each))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    error = orjson.loads(run.error)
    assert (error["task"], error["type"]) == ("each", "RuntimeError")
    assert error["message"].startswith("item 1: ")
    stopped = [reason for _, _, status, reason in _items(rig, run_id) if status == "cancelled"]
    assert stopped == ["sibling_failed:each[1]"] * 2


async def test_an_error_of_an_item_goes_where_the_condition_says(rig: Rig) -> None:
    run_id = await rig.submit(_flow({"for_each": '["boom"]'}, target_task_error="rescue"))
    assert (await rig.ended(run_id)).status == RunStatus.COMPLETED
    assert set(rig.tasks(run_id)) == {"each", "rescue"}


async def test_an_item_is_tried_again_by_itself(rig: Rig) -> None:
    retry = {"max_attempts": 3, "delay": 0.01}
    each = {"for_each": "[1, 3, 2]", "type": "flaky", "params": {"attempt": "${item}"}}
    run_id = await rig.submit(_flow({**each, "retry": retry}))
    assert (await rig.ended(run_id)).outcome == Outcome.SUCCESS
    attempts = [attempt for _, attempt, status, _ in _items(rig, run_id) if status == "success"]
    assert attempts == [1, 3, 2]


async def test_what_gives_no_list_is_an_error(rig: Rig) -> None:
    run = await rig.ended(await rig.submit(_flow({"for_each": "input.x"})))
    assert run.status == RunStatus.FAILED
    assert "must give a list, and gives number" in orjson.loads(run.error)["message"]


async def test_items_count_as_task_runs(rig: Rig) -> None:
    run = await rig.ended(
        await rig.submit({**_flow({"for_each": "[1, 2, 3]"}), "max_task_runs": 3})
    )
    assert orjson.loads(run.error)["type"] == "TaskRunLimit"


async def test_a_cancel_ends_every_item(rig: Rig) -> None:
    run_id = await rig.submit(_flow({"for_each": '["hang", "hang"]', "concurrency": 1}))
    await wait_until(lambda: len(_items(rig, run_id)) == 1, description="an item runs")
    await rig.cancel(run_id)
    assert (await rig.ended(run_id)).status == RunStatus.CANCELLED
    table = Branch.__table__
    with rig.engine.database.read() as connection:
        states = set(connection.execute(select(table.c.state)).scalars())
    assert states == {BranchState.DONE}


async def test_parallel_branches_each_go_through_a_list_and_meet(rig: Rig) -> None:
    flow = {
        "id": "two-lists",
        "start_task": "split",
        "tasks": [
            {"name": "split", "type": "echo"},
            {"name": "left", **PICKY, "for_each": "[1, 2]"},
            {"name": "right", **PICKY, "for_each": "[3]"},
            {
                "name": "meet",
                "type": "echo",
                "params": {"n": "${len(tasks.left.data) + len(tasks.right.data)}"},
            },
        ],
        "conditions": [
            {"source_task": "split", "target_task_success": ["left", "right"]},
            {"source_task": "left", "target_task_success": "meet"},
            {"source_task": "right", "target_task_success": "meet"},
        ],
    }
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    assert orjson.loads(run.output) == {"n": 3}
