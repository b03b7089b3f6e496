"""One attempt: whatever a task does, the worker gets a result and lives on."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import BaseModel

from shared.errors import NotFound
from shared.task_context import EarlierResult, TaskContext
from shared.tasks import BaseTask, Suspend, TaskOutput, task
from tests.unit.execution_rig import error_of, executor, registry, run
from worker.execution import Execution, Executor

__all__ = ["executor", "registry"]


async def test_success_failure_and_data(executor: Executor) -> None:
    @task("double")
    async def double(x: int) -> dict[str, Any]:
        return {"success": x < 5, "data": {"x": 2 * x}}

    good = await run(executor, double, params={"x": 2})
    assert (good.kind, good.data, good.reason, good.error) == ("success", b'{"x":4}', None, None)
    bad = await run(executor, double, params={"x": 7})
    assert (bad.kind, bad.data, bad.reason) == ("failure", b'{"x":14}', "returned_failure")


async def test_context_carries_what_the_execution_says(executor: Executor) -> None:
    seen: list[TaskContext] = []

    @task("look")
    async def look(context: TaskContext) -> None:
        seen.append(context)

    earlier = {"a": EarlierResult(success=True, data={"x": 1})}
    await run(
        executor, look, input={"i": 1}, tasks=earlier, previous=[1], item="x", index=3, run_id="r",
        flow_id="f", branch="main/a", attempt=2, iteration=4, idempotency_key="k",
    )  # fmt: skip
    (context,) = seen
    assert (context.task_name, context.input, context.previous) == ("look", {"i": 1}, [1])
    assert context.tasks["a"].data == {"x": 1}
    assert (context.item, context.index, context.run_id, context.flow_id) == ("x", 3, "r", "f")
    assert (context.branch, context.attempt, context.iteration) == ("main/a", 2, 4)
    assert context.idempotency_key == "k"


async def test_params_that_do_not_fit_name_each_field_and_no_value(executor: Executor) -> None:
    @task("resize")
    async def resize(width: int, secret: int) -> None: ...

    error = error_of(await run(executor, resize, params={"secret": "hunter2", "hieght": 1}))
    assert error["type"] == "InvalidParams"
    for place in ("params.width: Field required", "params.secret: ", "params.hieght: Extra"):
        assert place in error["message"]
    assert "hunter2" not in str(error)


async def test_strict_model_takes_a_date_from_its_json_text(executor: Executor) -> None:
    class Params(BaseModel, strict=True):
        day: datetime

    class Dated(BaseTask):
        name = "dated"

        async def run(self, context: TaskContext) -> TaskOutput:
            return {"success": True, "data": {"year": context.params.day.year}}

    Dated.Params = Params
    result = await run(executor, Dated, params={"day": "2031-01-01T00:00:00Z"})
    assert result.data == b'{"year":2031}'


async def test_result_that_is_not_json_is_an_error_that_names_the_key(executor: Executor) -> None:
    @task("dated")
    async def dated() -> Any:
        return {"success": True, "data": {"rows": [{"when": datetime.now(UTC)}]}}

    error = error_of(await run(executor, dated))
    assert error["type"] == "InvalidTaskResult"
    assert error["message"] == "data.rows[0].when: datetime is not JSON"


async def test_lines_can_be_taken_while_the_task_runs_and_the_rest_comes_with_its_result(
    executor: Executor,
) -> None:
    told, goes_on = asyncio.Event(), asyncio.Event()

    @task("tells")
    async def tells(context: TaskContext) -> None:
        context.log.info("first")
        told.set()
        await goes_on.wait()
        context.log.info("second")

    async with asyncio.TaskGroup() as group:
        running = group.create_task(run(executor, tells, run_id="r", task_run_id="t"))
        await told.wait()
        (line,) = executor.captured.take(time.monotonic(), 10)
        goes_on.set()
    assert (line.message, line.flow_run_id, line.task_run_id, line.task) == (
        "first",
        "r",
        "t",
        "tells",
    )
    assert [line.message for line in running.result().logs] == ["second"]


async def test_suspend_and_resume(executor: Executor) -> None:
    class Poll(BaseTask):
        name = "poll"

        async def run(self, context: TaskContext) -> TaskOutput:
            return Suspend(seconds=30)

        def resume(self, context: TaskContext) -> TaskOutput:
            return {"success": True, "data": {"woken": True}}

    suspended = await run(executor, Poll)
    assert suspended.kind == "suspended"
    assert suspended.wake_at is not None
    assert timedelta() < suspended.wake_at - datetime.now(UTC) <= timedelta(seconds=30)
    assert (await run(executor, Poll, resumed=True)).data == b'{"woken":true}'


async def test_unknown_type_is_the_callers_mistake(executor: Executor) -> None:
    with pytest.raises(NotFound):
        await executor.execute(Execution(task_type="nothing", name="nothing"))
