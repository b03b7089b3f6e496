"""The worker's engine on both databases: what a run comes to, step by step."""

import random
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from sqlalchemy import select

from shared.flow import Flow, prepare_flow
from shared.ids import FlowRunId
from shared.models import Branch
from shared.settings import Settings
from shared.simulator import simulate
from shared.status import BranchState, Outcome, RunStatus, TaskRunStatus
from shared.store.step import Step
from shared.store.stopping import Cancel, cancel_runs
from shared.validation import validate_definition
from tests.integration import engine_tasks
from tests.integration.engine_rig import MODULE, Rig, rig
from tests.unit.strategies import flows
from tests.waiting import wait_until
from worker.engine import Engine

RANDOM_FLOWS = 40

__all__ = ["rig"]


def _flow(tasks: dict[str, dict[str, Any]], *edges: tuple[str, Any, Any]) -> dict[str, Any]:
    return {
        "id": "test",
        "start_task": next(iter(tasks)),
        "tasks": [{"name": name, **fields} for name, fields in tasks.items()],
        "conditions": [
            {"source_task": source, "target_task_success": good, "target_task_failure": bad}
            for source, good, bad in edges
        ],
    }


SCRIPTED = {"type": "scripted"}
FAILS = {"type": "scripted", "params": {"succeeds": False}}


async def test_a_join_sees_what_all_its_branches_came_to(rig: Rig) -> None:
    plain = {"type": "plain"}
    run_id = await rig.submit(
        _flow(
            {"split": plain, "a": plain, "b": plain, "c": FAILS, "d": plain, "meet": SCRIPTED},
            ("split", ["a", "b", "c"], "end"),
            ("a", "meet", "end"),
            ("b", "meet", "end"),
            ("c", "end", "d"),
            ("d", "meet", "end"),
        )
    )
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    tasks = rig.tasks(run_id)
    assert tasks["a"].branch == "main/split:a"
    assert tasks["d"].branch == "main/split:c"
    assert tasks["meet"].branch == "main"
    data = orjson.loads(tasks["meet"].data)
    assert data["seen"] == {"a": True, "b": True, "c": False, "d": True, "split": True}
    assert data["previous"] == {"a": {"from": "a"}, "b": {"from": "b"}, "d": {"from": "d"}}
    assert set(rig.visits(run_id).values()) == {1}


async def test_a_failure_that_turns_away_closes_the_join(rig: Rig) -> None:
    run_id = await rig.submit(
        _flow(
            {"split": SCRIPTED, "a": SCRIPTED, "b": FAILS, "meet": SCRIPTED, "after": SCRIPTED},
            ("split", ["a", "b"], "end"),
            ("a", "meet", "end"),
            ("b", "meet", "end"),
            ("meet", "after", "end"),
        )
    )
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.FAILURE)
    assert set(rig.visits(run_id)) == {"split", "a", "b"}


async def test_an_unhandled_error_fails_the_run_and_cancels_the_others(rig: Rig) -> None:
    engine_tasks.CANCELLED.clear()
    run_id = await rig.submit(
        _flow(
            {"split": SCRIPTED, "bad": {"type": "raises"}, "slow": {"type": "hangs"}},
            ("split", ["bad", "slow"], "end"),
        )
    )
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    error = orjson.loads(run.error)
    assert (error["task"], error["type"], error["message"]) == ("bad", "RuntimeError", "boom")
    assert "engine_tasks.py" in error["traceback"]
    slow = rig.tasks(run_id)["slow"]
    assert (slow.status, slow.reason) == (TaskRunStatus.CANCELLED, "sibling_failed:bad")
    await wait_until(lambda: engine_tasks.CANCELLED == ["slow"], description="slow was stopped")


async def test_a_cancel_stops_what_runs(rig: Rig) -> None:
    engine_tasks.CANCELLED.clear()
    run_id = await rig.submit(_flow({"slow": {"type": "hangs"}}))
    await wait_until(lambda: "slow" in rig.tasks(run_id), description="slow has begun")
    cancel = Cancel(run_id, datetime.now(UTC))
    assert await rig.engine.writer.call(cancel_runs, cancel) == "cancelled"
    assert await rig.engine.writer.call(cancel_runs, cancel) == "over"
    run = await rig.ended(run_id)
    assert run.status == RunStatus.CANCELLED
    assert rig.tasks(run_id)["slow"].reason == "run_cancelled"
    await wait_until(lambda: engine_tasks.CANCELLED == ["slow"], description="slow was stopped")


async def test_a_loop_counts_its_iterations(rig: Rig) -> None:
    run_id = await rig.submit(
        _flow(
            {"begin": SCRIPTED, "poll": {"type": "third"}, "done": SCRIPTED},
            ("begin", "poll", "end"),
            ("poll", "done", "begin"),
        )
    )
    run = await rig.ended(run_id)
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert rig.visits(run_id) == {"begin": 3, "poll": 3, "done": 1}
    assert rig.tasks(run_id)["poll"].iteration == 3


async def test_a_loop_without_end_fails_at_its_limit(rig: Rig) -> None:
    flow = _flow({"a": SCRIPTED, "b": FAILS}, ("a", "b", "end"), ("b", "end", "a"))
    run_id = await rig.submit({**flow, "max_task_runs": 7})
    run = await rig.ended(run_id)
    assert run.status == RunStatus.FAILED
    assert orjson.loads(run.error)["type"] == "TaskRunLimit"
    assert sum(rig.visits(run_id).values()) <= 8


async def test_a_task_that_sleeps_holds_no_slot_and_is_woken(rig: Rig) -> None:
    run_id = await rig.submit(
        _flow({"nap": {"type": "naps"}, "after": SCRIPTED}, ("nap", "after", "end"))
    )
    await wait_until(
        lambda: (
            rig.tasks(run_id).get("nap") is not None
            and rig.tasks(run_id)["nap"].status != TaskRunStatus.RUNNING
        ),
        description="it sleeps, or has slept",
    )
    run = await rig.ended(run_id)
    assert run.outcome == Outcome.SUCCESS
    nap = rig.tasks(run_id)["nap"]
    assert orjson.loads(nap.data) == {"woken": True}
    assert nap.attempt == 1


async def test_a_graceful_stop_gives_back_what_runs(database_url: str, redis_url: str) -> None:
    chosen = Settings(
        database_url=database_url,
        redis_url=redis_url,
        task_modules=(MODULE,),
        grace_seconds=0.1,
    )
    rig = Rig(Engine(chosen))
    await rig.engine.start()
    run_id = await rig.submit(_flow({"slow": {"type": "hangs"}}))
    await wait_until(lambda: "slow" in rig.tasks(run_id), description="slow has begun")
    await rig.engine.stop()
    branches = Branch.__table__
    reader = Engine(chosen)
    with reader.database.read() as connection:
        row = connection.execute(select(branches)).one()
    assert (row.state, row.losses, row.worker_id) == (BranchState.READY, 0, None)
    assert Rig(reader).tasks(run_id)["slow"].reason == "worker_stopped"
    reader.database.close()


async def test_what_a_step_began_is_not_lost_to_a_beat_between_its_commit_and_its_answer(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the branch has moved on in the database, and looks as if it were not ours."""
    runner, call = rig.engine.runner, rig.engine.writer.call

    async def call_and_beat(function: Any, item: Any) -> Any:
        answer = await call(function, item)
        if isinstance(item, Step):
            # Only this one: another may be in the middle of its task, and is rightly dropped.
            runner.drop([item.visit.branch_id])
        return answer

    monkeypatch.setattr(rig.engine.writer, "call", call_and_beat)
    flow = _flow(
        dict.fromkeys(("split", "left", "right", "meet"), SCRIPTED),
        ("split", ["left", "right"], "end"),
        ("left", "meet", "end"),
        ("right", "meet", "end"),
    )
    run = await rig.ended(await rig.submit(flow))
    assert (run.status, run.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)


async def test_the_engine_agrees_with_the_simulator(rig: Rig) -> None:
    """On path, status and outcome, for random graphs with random outcomes."""
    expected: dict[FlowRunId, tuple[Counter[str], Outcome | None]] = {}
    for seed in range(RANDOM_FLOWS):
        flow = _random_flow(seed)
        succeeds = {name: (seed * 31 + i * 7) % 10 < 7 for i, name in enumerate(flow.tasks)}
        definition = flow.definition.model_dump(mode="json", exclude_none=True)
        for task in definition["tasks"]:
            task |= {"type": "scripted", "params": {"succeeds": succeeds[task["name"]]}}
        run = simulate(
            flow,
            lambda task, _, succeeds=succeeds: (  # type: ignore[misc]  # bound for the loop
                Outcome.SUCCESS if succeeds[task] else Outcome.FAILURE
            ),
        )
        visited = Counter(visit.task for visit in run.visits)
        expected[await rig.submit(definition)] = (visited, run.outcome)
    for run_id, (visited, outcome) in expected.items():
        row = await rig.ended(run_id)
        assert (row.status, row.outcome) == (RunStatus.COMPLETED, outcome)
        assert rig.visits(run_id) == visited


def _random_flow(seed: int) -> Flow:
    """A random flow with a fork, the same for a seed."""

    try:
        return find(
            flows(),
            lambda flow: len(flow.graph.joins) > 0 and len(flow.graph.order) > 4,
            random=random.Random(seed),
            settings=settings(
                max_examples=200,
                phases=[Phase.generate],
                database=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    except NoSuchExample:
        definition = validate_definition(_flow({"t0": {"type": "noop"}})).flow
        assert definition is not None
        return prepare_flow(definition.definition, "")
