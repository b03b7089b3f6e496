"""Data that moves by expressions: params, conditions, outputs, on both databases."""

from typing import Any

import orjson
from pydantic import SecretStr
from sqlalchemy import select
from sqlmodel import SQLModel

from shared.models import LogLine
from shared.status import Outcome, RunStatus
from tests.integration.engine_rig import MODULE, Rig, open_rig, rig

__all__ = ["rig"]

ECHO = {"type": "echo"}


def _flow(tasks: dict[str, dict[str, Any]], *conditions: dict[str, Any], **rest: Any) -> Any:
    return {
        "id": "data",
        "start_task": next(iter(tasks)),
        "tasks": [{"name": name, **fields} for name, fields in tasks.items()],
        "conditions": list(conditions),
        **rest,
    }


def _on(source: str, good: Any, bad: Any = "end", **rest: Any) -> dict[str, Any]:
    return {
        "source_task": source,
        "target_task_success": good,
        "target_task_failure": bad,
        **rest,
    }


def _data(rig: Rig, run_id: Any, task: str) -> Any:
    return orjson.loads(rig.tasks(run_id)[task].data)


async def test_params_see_the_input_and_what_ran_before(rig: Rig) -> None:
    flow = _flow(
        {
            "first": {**ECHO, "params": {"x": "${input.x + 1}", "text": "x is ${input.x}"}},
            "second": {
                **ECHO,
                "params": {"twice": "${tasks.first.data.x * 2}", "run": "${run.id}", "plain": 1},
            },
        },
        _on("first", "second"),
    )
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert _data(rig, run_id, "first") == {"x": 2, "text": "x is 1"}
    assert _data(rig, run_id, "second") == {"twice": 4, "run": run_id, "plain": 1}
    assert orjson.loads(run.output) == _data(rig, run_id, "second")


async def test_results_of_parallel_branches_are_there_behind_their_join(rig: Rig) -> None:
    flow = _flow(
        {
            "split": ECHO,
            "left": {**ECHO, "params": {"n": 1}},
            "right": {**ECHO, "params": {"n": 2}},
            "meet": {**ECHO, "params": {"sum": "${tasks.left.data.n + tasks.right.data.n}"}},
        },
        _on("split", ["left", "right"]),
        _on("left", "meet"),
        _on("right", "meet"),
        output={"sum": "${tasks.meet.data.sum}", "by": "${run.flow_id}"},
    )
    run = await rig.ended(await rig.submit(flow))
    assert orjson.loads(run.output) == {"sum": 3, "by": "data"}


async def test_the_first_condition_that_holds_decides(rig: Rig) -> None:
    flow = _flow(
        {"ask": {**ECHO, "params": {"n": "${input.x}"}}, "low": ECHO, "high": ECHO, "other": ECHO},
        _on("ask", "high", when="previous.n > 10"),
        _on("ask", "low", when="tasks.ask.data.n == 1"),
        _on("ask", "other"),
    )
    run_id = await rig.submit(flow)
    await rig.ended(run_id)
    assert set(rig.tasks(run_id)) == {"ask", "low"}


async def test_every_condition_that_holds_fires_when_told(rig: Rig) -> None:
    flow = _flow(
        {"ask": {**ECHO, "route": "all"}, "a": ECHO, "b": ECHO, "c": ECHO, "meet": ECHO},
        _on("ask", "a", when="input.x == 1"),
        _on("ask", "b", when="input.x == 2"),
        _on("ask", "c", when="true"),
        *(_on(task, "meet") for task in "abc"),
    )
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    assert rig.visits(run_id) == {"ask": 1, "a": 1, "c": 1, "meet": 1}


async def test_a_loop_ends_by_its_condition(rig: Rig) -> None:
    flow = _flow(
        {"count": {**ECHO, "params": {"n": "${iteration}"}}, "done": ECHO},
        _on("count", "done", when="previous.n >= 4"),
        _on("count", "count"),
    )
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert run.status == RunStatus.COMPLETED
    assert rig.visits(run_id) == {"count": 4, "done": 1}


async def test_params_that_cannot_be_evaluated_fail_the_task_and_say_where(rig: Rig) -> None:
    flow = _flow({"bad": {**ECHO, "retry": 5, "params": {"a": {"b": "${input.y.z}"}}}})
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    error = orjson.loads(run.error)
    assert error["type"] == "ExpressionError"
    assert error["message"].startswith("params/a/b: ")
    assert "'y'" in error["message"]
    assert rig.visits(run_id) == {"bad": 1}


async def test_a_condition_that_cannot_be_evaluated_is_an_error_of_its_task(rig: Rig) -> None:
    flow = _flow(
        {"ask": ECHO, "rescue": ECHO},
        _on("ask", "end", when="input.x", target_task_error="end"),
        _on("ask", "end", target_task_error="rescue"),
    )
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert run.status == RunStatus.COMPLETED
    task = rig.tasks(run_id)["ask"]
    assert (task.status, task.reason) == ("failed", "expression_failed")
    assert "must give true or false, and gives number" in orjson.loads(task.error)["message"]
    assert "rescue" in rig.tasks(run_id)


async def test_an_output_that_cannot_be_evaluated_fails_the_run(rig: Rig) -> None:
    run = await rig.ended(await rig.submit(_flow({"a": ECHO}, output="${tasks.a.data.no}")))
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["message"].startswith("output: ")


async def test_only_the_results_that_are_named_are_loaded(rig: Rig) -> None:
    """The second worker's step reads one result of two, and what came before it."""
    flow = _flow(
        {
            "a": {**ECHO, "params": {"n": 1}},
            "b": {**ECHO, "params": {"n": 2}},
            "split": ECHO,
            "one": {**ECHO, "params": {"a": "${tasks.a.data.n}", "before": "${previous}"}},
            "two": ECHO,
        },
        _on("a", "b"),
        _on("b", "split"),
        _on("split", ["one", "two"]),
    )
    run_id = await rig.submit(flow)
    await rig.ended(run_id)
    assert _data(rig, run_id, "one") == {"a": 1, "before": {}}


SECRET = "canary-0a1b2c3d4e5f"


async def test_a_secret_reaches_its_task_and_nothing_that_is_stored(
    database_url: str, redis_url: str
) -> None:
    secrets = {"token": SecretStr(SECRET)}
    async with open_rig(database_url, redis_url, (MODULE,), secrets=secrets) as rig:
        params = {"token": "${secrets.token}", "raises": False}
        flow = _flow(
            {"tell": {"type": "tells", "params": params}, "boom": {"type": "tells"}},
            _on("tell", "boom"),
        )
        flow["tasks"][1]["params"] = {**params, "raises": True}
        run_id = await rig.submit(flow)
        run = await rig.ended(run_id)
        assert _data(rig, run_id, "tell") == {"said": "***", "length": len(SECRET)}
        assert orjson.loads(run.error)["message"] == "cannot log in with ***"
        with rig.engine.database.read() as connection:
            for table in SQLModel.metadata.sorted_tables:
                for row in connection.execute(select(table)):
                    assert SECRET not in str(row), table.name
            assert "***" in str(connection.execute(select(LogLine.__table__)).all())


async def test_a_secret_that_a_worker_does_not_have_fails_the_task(rig: Rig) -> None:
    run = await rig.ended(
        await rig.submit(_flow({"a": {**ECHO, "params": {"x": "${secrets.token}"}}}))
    )
    assert "no secret 'token'" in orjson.loads(run.error)["message"]
