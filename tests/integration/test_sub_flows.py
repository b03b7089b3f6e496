"""Stored definitions that run as a part of another run, on both databases."""

import itertools
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.explanation import explain
from shared.ids import FlowRunId
from shared.models import FlowRun
from shared.queries.explain import Moment, read_standing
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.store.definitions import NewVersion, put_versions
from shared.validation import validate_definition
from tests.integration import engine_tasks
from tests.integration.engine_rig import Rig, rig
from tests.waiting import wait_until

__all__ = ["rig"]

runs = FlowRun.__table__


def _flow(flow_id: str, *tasks: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The tasks one after the other."""
    names = [task["name"] for task in tasks]
    return {
        "id": flow_id,
        "start_task": names[0],
        "tasks": list(tasks),
        "conditions": [
            {"source_task": one, "target_task_success": other}
            for one, other in itertools.pairwise(names)
        ],
        **others,
    }


def _call(flow_id: str, name: str = "call", **others: Any) -> dict[str, Any]:
    params = {"flow_id": flow_id, **others.pop("params", {})}
    return {"name": name, "type": "flow", "params": params, **others}


CHILD = _flow("child", {"name": "work", "type": "echo", "params": {"got": "${input}"}})


@pytest.fixture(autouse=True)
def _listening(rig: Rig) -> None:
    rig.answer_rings()


async def _store(rig: Rig, definition: dict[str, Any]) -> int:
    judged = validate_definition(definition, task_types=rig.engine.registry.names())
    assert judged.flow is not None, judged.errors
    content = judged.definition_json
    version = NewVersion(definition["id"], judged.flow.hash, content, datetime.now(UTC))
    put = await rig.engine.writer.call(put_versions, version)
    return int(put.version)


def _children(rig: Rig, run_id: FlowRunId) -> list[Any]:
    with rig.engine.database.read() as connection:
        query = select(runs).where(runs.c.parent_flow_run_id == run_id).order_by(runs.c.id)
        return list(connection.execute(query))


async def _child(rig: Rig, run_id: FlowRunId) -> Any:
    await wait_until(lambda: _children(rig, run_id), description="the sub-flow has begun")
    return _children(rig, run_id)[0]


async def test_the_output_of_a_sub_flow_is_the_data_of_its_task(rig: Rig) -> None:
    await _store(rig, CHILD)
    after = {"name": "after", "type": "echo", "params": {"x": "${previous.got.n + 1}"}}
    run_id = await rig.submit(_flow("parent", _call("child", params={"input": {"n": 41}}), after))
    run = await rig.ended(run_id)
    assert (run.outcome, orjson.loads(run.output)) == (Outcome.SUCCESS, {"x": 42})
    (child,) = _children(rig, run_id)
    assert (child.status, child.depth) == (RunStatus.COMPLETED, 1)
    assert child.parent_task_run_id == rig.tasks(run_id)["call"].id
    assert rig.visits(run_id) == {"call": 1, "after": 1}


async def test_a_run_waits_for_its_sub_flow_and_holds_no_slot(rig: Rig) -> None:
    wait = {"name": "wait", "type": "wait_for_signal", "params": {"signal": "go"}}
    await _store(rig, _flow("child", wait))
    run_id = await rig.submit(_flow("parent", _call("child")))
    await wait_until(
        lambda: (
            rig.tasks(run_id).get("call") is not None
            and rig.tasks(run_id)["call"].status == TaskRunStatus.WAITING
        ),
        description="the task waits for the sub-flow",
    )
    await wait_until(lambda: not rig.engine.runner.claims, description="no slot is held")
    assert rig.run(run_id).status == RunStatus.RUNNING
    await rig.cancel(run_id)


async def test_explain_names_the_run_that_is_waited_for(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "slow", "type": "hangs"}))
    run_id = await rig.submit(_flow("parent", _call("child")))
    child = await _child(rig, run_id)
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
    (reason,) = map(explain, standing.facts)
    assert (reason.code, reason.data["flow_run_id"]) == ("waits_for_run", child.id)
    assert f"run {child.id} of flow child, which is running" in reason.message


async def test_a_failure_of_a_sub_flow_is_a_failure_of_its_task(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "no", "type": "scripted", "params": {"succeeds": 0}}))
    flow = _flow("parent", _call("child"), {"name": "never", "type": "echo"})
    flow["tasks"].append({"name": "handled", "type": "echo"})
    flow["conditions"][0]["target_task_failure"] = "handled"
    run_id = await rig.submit(flow)
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert set(rig.visits(run_id)) == {"call", "handled"}


async def test_an_error_of_a_sub_flow_comes_up(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "bad", "type": "fail", "params": {"message": "no"}}))
    run_id = await rig.submit(_flow("parent", _call("child")))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    error = orjson.loads(run.error)
    assert (error["task"], error["type"]) == ("call", "SubFlowFailed")
    (child,) = _children(rig, run_id)
    assert error["message"] == (f"run {child.id} of flow 'child' failed at 'bad': TaskFailed: no")


async def test_a_retried_sub_flow_is_a_run_an_attempt(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "bad", "type": "fail"}))
    policy = {"max_attempts": 3, "delay": 0}
    run_id = await rig.submit(_flow("parent", _call("child", retry=policy)))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert [child.status for child in _children(rig, run_id)] == [RunStatus.FAILED] * 3


async def test_a_cancelled_sub_flow_is_an_error_above_it(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "slow", "type": "hangs"}))
    run_id = await rig.submit(_flow("parent", _call("child")))
    child = await _child(rig, run_id)
    await wait_until(lambda: rig.visits(child.id)["slow"], description="the child runs")
    await rig.cancel(child.id)
    run = await rig.ended(run_id)
    assert (run.status, orjson.loads(run.error)["type"]) == ("failed", "SubFlowCancelled")


async def test_cancelling_goes_down_to_the_last_run(rig: Rig) -> None:
    engine_tasks.CANCELLED.clear()
    await _store(rig, _flow("lowest", {"name": "slow", "type": "hangs"}))
    await _store(rig, _flow("middle", _call("lowest")))
    run_id = await rig.submit(_flow("top", _call("middle")))
    middle = await _child(rig, run_id)
    lowest = await _child(rig, middle.id)
    await wait_until(lambda: rig.visits(lowest.id)["slow"], description="the lowest runs")
    assert await rig.cancel(run_id) == "cancelled"
    for one in (middle, lowest):
        assert (await rig.ended(one.id)).status == RunStatus.CANCELLED
    await wait_until(lambda: engine_tasks.CANCELLED == ["slow"], description="its task was told")


async def test_a_branch_that_is_stopped_stops_its_sub_flow(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "slow", "type": "hangs"}))
    flow = _flow("parent", {"name": "split", "type": "echo"}, _call("child"))
    flow["tasks"] += [
        {"name": "nap", "type": "sleep", "params": {"for": "200ms"}},
        {"name": "first", "type": "echo", "join": "any"},
    ]
    flow["conditions"] = [
        {"source_task": "split", "target_task_success": ["call", "nap"]},
        {"source_task": "call", "target_task_success": "first"},
        {"source_task": "nap", "target_task_success": "first"},
    ]
    run_id = await rig.submit(flow)
    child = await _child(rig, run_id)
    assert (await rig.ended(run_id)).outcome == Outcome.SUCCESS
    assert (await rig.ended(child.id)).status == RunStatus.CANCELLED


async def test_a_timeout_of_the_task_bounds_its_sub_flow(rig: Rig) -> None:
    await _store(rig, _flow("child", {"name": "slow", "type": "hangs"}))
    run_id = await rig.submit(_flow("parent", _call("child", timeout=0.2)))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert "RunTimeout" in orjson.loads(run.error)["message"]


async def test_a_map_of_sub_flows_keeps_the_order_of_its_items(rig: Rig) -> None:
    await _store(rig, CHILD)
    call = _call("child", params={"input": {"n": "${item}"}}, for_each="[3, 1, 2]")
    run_id = await rig.submit(_flow("parent", call))
    run = await rig.ended(run_id)
    assert [one["got"]["n"] for one in orjson.loads(run.output)] == [3, 1, 2]
    assert len(_children(rig, run_id)) == 3


async def test_the_version_that_is_named_is_run(rig: Rig) -> None:
    for number in (1, 2):
        changed = {"name": "work", "type": "echo", "params": {"number": number}}
        assert await _store(rig, _flow("child", changed)) == number
    calls = [_call("child"), _call("child", "old", params={"version": 1})]
    run_id = await rig.submit(_flow("parent", *calls))
    await rig.ended(run_id)
    told = [orjson.loads(rig.tasks(run_id)[name].data) for name in ("call", "old")]
    assert told == [{"number": 2}, {"number": 1}]


@pytest.mark.parametrize(
    ("params", "told"),
    [
        ({"flow_id": "nobody"}, "no flow 'nobody' is stored"),
        ({"flow_id": "child", "version": 7}, "no flow 'child' is stored in version 7"),
        ({"flow_id": "child", "input": {"n": "x"}}, "/input/n must be of type number"),
        ({"flow_id": "${'par' + 'ent'}"}, "'parent' would contain itself: 'parent' -> 'parent'"),
    ],
)
async def test_what_cannot_be_started_is_refused_with_the_reason(
    rig: Rig, params: dict[str, Any], told: str
) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "number"}}}
    await _store(rig, {**CHILD, "input_schema": schema})
    parent = _flow("parent", {"name": "call", "type": "flow", "params": params})
    await _store(rig, parent)
    run_id = await rig.submit(parent)
    run = await rig.ended(run_id)
    error = orjson.loads(run.error)
    assert (run.status, error["type"]) == (RunStatus.FAILED, "SubFlowRefused")
    assert told in error["message"]
    assert _children(rig, run_id) == []


async def test_a_flow_that_calls_itself_in_a_circle_is_refused(rig: Rig) -> None:
    await _store(rig, _flow("b", {"name": "call", "type": "flow", "params": {"flow_id": "a"}}))
    parent = _flow("a", {"name": "call", "type": "flow", "params": {"flow_id": "b"}})
    await _store(rig, parent)
    run = await rig.ended(await rig.submit(parent))
    assert "would contain itself: 'a' -> 'b' -> 'a'" in orjson.loads(run.error)["message"]


async def test_depth_is_limited(rig: Rig) -> None:
    deepest = rig.engine.settings.max_flow_depth
    for number in range(deepest + 2):
        await _store(rig, _flow(f"f{number}", _call(f"f{number + 1}")))
    run = await rig.ended(await rig.submit(_flow("top", _call("f0"))))
    assert f"max_flow_depth ({deepest})" in orjson.loads(run.error)["message"]


async def test_a_hundred_sub_flows_at_once_all_come_back(rig: Rig) -> None:
    await _store(rig, CHILD)
    flow = _flow("parent", _call("child", for_each="input.numbers"))
    run = await rig.ended(await rig.submit(flow, {"numbers": list(range(100))}))
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
