"""Ways in which a run ends other than by its branches, and data without code."""

from typing import Any

import orjson

from shared.status import Outcome, RunStatus
from tests.integration.engine_rig import Rig, rig

__all__ = ["rig"]


def _fork(*heads: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {
        "id": "endings",
        "start_task": "split",
        "tasks": [{"name": "split", "type": "echo"}, *heads],
        "conditions": [
            {"source_task": "split", "target_task_success": [head["name"] for head in heads]}
        ],
        **rest,
    }


async def test_finish_completes_the_run_and_stops_what_still_runs(rig: Rig) -> None:
    flow = _fork(
        {"name": "enough", "type": "finish", "params": {"found": "${input.x}"}},
        {"name": "slow", "type": "hangs"},
        {"name": "waiting", "type": "wait_for_signal", "params": {"signal": "never"}},
    )
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert orjson.loads(run.output) == {"found": 1}
    tasks = rig.tasks(run_id)
    assert tasks["enough"].status == "success"
    stopped = {name: tasks[name].reason for name in ("slow", "waiting") if name in tasks}
    assert set(stopped.values()) <= {"run_finished:enough"}


async def test_finish_gives_the_output_that_the_flow_asks_for(rig: Rig) -> None:
    flow = {
        "id": "early",
        "start_task": "a",
        "tasks": [
            {"name": "a", "type": "echo", "params": {"n": 7}},
            {"name": "b", "type": "finish"},
        ],
        "conditions": [{"source_task": "a", "target_task_success": "b"}],
        "output": "${tasks.a.data.n}",
    }
    run = await rig.ended(await rig.submit(flow))
    assert orjson.loads(run.output) == 7


async def test_cancel_ends_the_branches_at_a_task_and_joins_do_not_wait_for_them(rig: Rig) -> None:
    flow = _fork(
        {"name": "stop", "type": "cancel", "params": {"tasks": ["slow", "waiting"]}},
        {"name": "slow", "type": "hangs"},
        {"name": "waiting", "type": "wait_for_signal", "params": {"signal": "never"}},
        {"name": "good", "type": "echo"},
    )
    flow["tasks"].append({"name": "meet", "type": "scripted"})
    flow["conditions"] += [
        {"source_task": name, "target_task_success": "meet"}
        for name in ("stop", "slow", "waiting", "good")
    ]
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    tasks = rig.tasks(run_id)
    assert {tasks[n].reason for n in ("slow", "waiting") if n in tasks} <= {"cancelled_by:stop"}
    assert set(orjson.loads(tasks["meet"].data)["previous"]) == {"stop", "good"}


async def test_transform_gives_data_another_form(rig: Rig) -> None:
    flow = {
        "id": "reshape",
        "start_task": "a",
        "tasks": [
            {"name": "a", "type": "transform", "params": {"rows": [{"n": 1}, {"n": 2}]}},
            {
                "name": "b",
                "type": "transform",
                "params": {"sum": "${sum(row.n for row in tasks.a.data.rows)}"},
            },
        ],
        "conditions": [{"source_task": "a", "target_task_success": "b"}],
    }
    run = await rig.ended(await rig.submit(flow))
    assert orjson.loads(run.output) == {"sum": 3}


async def test_a_run_that_is_not_over_by_its_timeout_fails(rig: Rig) -> None:
    run_id = await rig.submit(_fork({"name": "slow", "type": "hangs"}, timeout="300ms"))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["type"] == "RunTimeout"
    assert rig.tasks(run_id)["slow"].reason == "run_timed_out"


async def test_a_run_that_waits_fails_by_its_timeout_too(rig: Rig) -> None:
    waits = {"name": "waiting", "type": "sleep", "params": {"for": "1h"}}
    run = await rig.ended(await rig.submit(_fork(waits, timeout=0.2)))
    assert orjson.loads(run.error)["type"] == "RunTimeout"
