"""Joins that do not wait for everybody, on both databases."""

import hashlib
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample

from shared.definition import FlowDefinition
from shared.flow import Flow, prepare_flow
from shared.simulator import simulate
from shared.status import Outcome, RunStatus
from tests.integration.engine_rig import Rig, rig
from tests.unit.strategies import flows
from tests.waiting import wait_until

__all__ = ["rig"]


def _flow(join: Any, heads: list[dict[str, Any]], **meet: Any) -> dict[str, Any]:
    return {
        "id": "joins",
        "start_task": "split",
        "tasks": [
            {"name": "split", "type": "echo"},
            *heads,
            {"name": "meet", "type": "scripted", "join": join, **meet},
            {"name": "last", "type": "echo"},
        ],
        "conditions": [
            {"source_task": "split", "target_task_success": [head["name"] for head in heads]},
            *({"source_task": h["name"], "target_task_success": "meet"} for h in heads),
            {"source_task": "meet", "target_task_success": "last"},
        ],
    }


def _quick(name: str) -> dict[str, Any]:
    return {"name": name, "type": "echo"}


def _hangs(name: str) -> dict[str, Any]:
    return {"name": name, "type": "hangs"}


def _fails(name: str) -> dict[str, Any]:
    return {"name": name, "type": "scripted", "params": {"succeeds": False}}


async def test_any_goes_on_with_the_first_and_cancels_the_others(rig: Rig) -> None:
    run_id = await rig.submit(_flow("any", [_quick("a"), _hangs("b"), _hangs("c")]))
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert rig.visits(run_id)["meet"] == 1
    tasks = rig.tasks(run_id)
    assert {tasks[name].reason for name in "bc" if name in tasks} <= {"join_met:meet"}
    assert orjson.loads(tasks["meet"].data)["previous"] == {}


async def test_so_many_start_the_task_and_the_rest_may_run_on(rig: Rig) -> None:
    late = {"name": "late", "type": "sleep", "params": {"for": "300ms"}}
    rule = {"wait_for": 2, "rest": "run"}
    run_id = await rig.submit(_flow(rule, [_quick("a"), _quick("b"), late]))
    await wait_until(lambda: "last" in rig.tasks(run_id), description="it went on with two")
    assert rig.run(run_id).status == RunStatus.RUNNING
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    assert rig.visits(run_id) == {"split": 1, "a": 1, "b": 1, "late": 1, "meet": 1, "last": 1}
    assert rig.tasks(run_id)["late"].status == "success"


async def test_a_join_that_too_few_can_reach_fails_the_run(rig: Rig) -> None:
    run_id = await rig.submit(_flow(2, [_quick("a"), _fails("b"), _fails("c")]))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    error = orjson.loads(run.error)
    assert (error["type"], error["task"]) == ("JoinUnmet", "meet")


async def test_each_runs_once_for_every_branch_that_comes(rig: Rig) -> None:
    run_id = await rig.submit(_flow("each", [_quick("a"), _quick("b"), _quick("c")]))
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    visits = rig.visits(run_id)
    assert (visits["meet"], visits["last"]) == (3, 3)
    assert rig.tasks(run_id)["last"].iteration in (1, 2, 3)


@pytest.mark.parametrize(
    ("tolerate", "runs"), [(0, False), (1, True), ("40%", True), ("10%", False)]
)
async def test_so_many_may_miss_a_join(rig: Rig, tolerate: Any, runs: bool) -> None:
    heads = [_quick("a"), _quick("b"), _fails("c")]
    run_id = await rig.submit(_flow("all", heads, tolerate=tolerate))
    run = await rig.ended(run_id)
    assert run.status == RunStatus.COMPLETED
    assert ("meet" in rig.tasks(run_id)) == runs


async def test_waits_and_lists_of_cancelled_branches_end_with_them(rig: Rig) -> None:
    heads: list[dict[str, Any]] = [
        {"name": "slow", "type": "sleep", "params": {"for": "200ms"}},
        {"name": "each", "type": "hangs", "for_each": "[1, 2]"},
        {"name": "wait", "type": "wait_for_signal", "params": {"signal": "never"}},
        {"name": "again", "type": "flaky", "params": {"attempt": 9}, "retry": {"delay": "1h"}},
    ]
    run_id = await rig.submit(_flow("any", heads))
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    assert rig.visits(run_id)["meet"] == 1


async def test_random_flows_with_such_joins_end_and_leave_nothing_open(
    rig: Rig, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)
    record_property("seed", seed)
    dice = random.Random(seed)
    runs = []
    for _ in range(25):
        flow = _random_flow(dice.randrange(2**32))
        script = random.Random(dice.randrange(2**32))
        succeeds = {name: script.random() < 0.75 for name in flow.tasks}
        definition = flow.definition.model_dump(mode="json", exclude_none=True)
        for task in definition["tasks"]:
            task |= {"type": "scripted", "params": {"succeeds": succeeds[task["name"]]}}
        simulated = simulate(
            flow,
            lambda task, _, succeeds=succeeds: (  # type: ignore[misc]  # bound for the loop
                Outcome.SUCCESS if succeeds[task] else Outcome.FAILURE
            ),
        )
        early = any(t.join not in ("all", "each") for t in flow.tasks.values())
        content = orjson.dumps(definition)
        scripted = prepare_flow(
            FlowDefinition.model_validate(definition), hashlib.sha256(content).hexdigest()
        )
        runs.append((await rig.submit_flow(scripted, content), simulated, early))
    for run_id, simulated, early in runs:
        # ``ended`` asserts that no branch is open and that the books of the joins are closed.
        run = await rig.ended(run_id)
        if not early:
            assert run.status == simulated.status
            assert rig.visits(run_id) == _counted(simulated)


def _counted(simulated: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for visit in simulated.visits:
        counts[visit.task] = counts.get(visit.task, 0) + 1
    return counts


def _random_flow(seed: int) -> Flow:
    wanted = settings(
        max_examples=200,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        derandomize=False,
    )
    try:
        return find(
            flows(early=True),
            lambda flow: len(flow.graph.joins) > 0,
            settings=wanted,
            random=random.Random(seed),
        )
    except NoSuchExample:
        return _random_flow(seed + 1)
