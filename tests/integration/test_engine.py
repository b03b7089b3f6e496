"""The worker's engine on both databases: what a run comes to, step by step."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from sqlalchemy import select

from shared.database import upgrade
from shared.flow import Flow, prepare_flow
from shared.ids import BranchId, FlowRunId, new_id
from shared.models import Branch, FlowRun, Join, TaskRun
from shared.settings import Settings
from shared.simulator import simulate
from shared.status import BranchState, Outcome, RunStatus, TaskRunStatus
from shared.store.runs import Cancel, NewRun, cancel_runs, create_runs
from shared.validation import validate_definition
from tests.integration import engine_tasks
from tests.unit.strategies import flows
from tests.waiting import wait_until
from worker.engine import Engine

RANDOM_FLOWS = 40
MODULE = engine_tasks.__name__


class Rig:
    """An engine in this process, and what its tests ask of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def submit(self, definition: dict[str, Any]) -> FlowRunId:
        """Store a run and hand its branch over, as a ring would."""
        judged = validate_definition(definition, task_types=self.engine.registry.names())
        assert judged.flow is not None, judged.errors
        return await self.submit_flow(judged.flow, judged.definition_json)

    async def submit_flow(self, flow: Flow, content: bytes) -> FlowRunId:
        """The same for a flow that is known to be good."""
        start = flow.definition.start_task
        created = await self.engine.writer.call(
            create_runs,
            NewRun(
                flow_run_id=FlowRunId(new_id()),
                branch_id=BranchId(new_id()),
                flow_id=flow.definition.id,
                name="",
                definition_hash=flow.hash,
                definition_json=content,
                input_json=b'{"x": 1}',
                tags_json=b"[]",
                start_task=start,
                start_type=flow.tasks[start].task_type,
                created_at=datetime.now(UTC),
                ready_at=self.engine.clock.now(),
            ),
        )
        assert created.branch_id is not None
        await self.engine.claimer.hand_over([created.branch_id])
        return created.flow_run_id

    def run(self, run_id: FlowRunId) -> Any:
        """The run's row."""
        table = FlowRun.__table__
        with self.engine.database.read() as connection:
            return connection.execute(select(table).where(table.c.id == run_id)).one()

    def tasks(self, run_id: FlowRunId) -> dict[str, Any]:
        """The last task run of each task."""
        table = TaskRun.__table__
        with self.engine.database.read() as connection:
            rows = connection.execute(
                select(table).where(table.c.flow_run_id == run_id).order_by(table.c.id)
            )
            return {row.task: row for row in rows}

    def visits(self, run_id: FlowRunId) -> Counter[str]:
        """How often each task was visited."""
        table = TaskRun.__table__
        with self.engine.database.read() as connection:
            query = select(table.c.task).where(table.c.flow_run_id == run_id)
            return Counter(connection.execute(query).scalars())

    async def ended(self, run_id: FlowRunId) -> Any:
        """The run's row, once it is over; nothing of it may be left open."""
        await wait_until(
            lambda: self.run(run_id).status != RunStatus.RUNNING, description="the run is over"
        )
        branches, joins = Branch.__table__, Join.__table__
        with self.engine.database.read() as connection:
            open_branches = connection.execute(
                select(branches.c.id).where(
                    branches.c.flow_run_id == run_id, branches.c.state != BranchState.DONE
                )
            ).all()
            run = self.run(run_id)
            if run.status == RunStatus.COMPLETED:
                counts = connection.execute(
                    select(joins.c.upstream, joins.c.arrived, joins.c.missed).where(
                        joins.c.flow_run_id == run_id
                    )
                ).all()
                assert all(tuple(count) == (0, 0, 0) for count in counts)
        assert open_branches == []
        return run


@pytest.fixture
async def rig(database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    """A running engine."""
    chosen = Settings(
        database_url=database_url,
        redis_url=redis_url,
        task_modules=(MODULE,),
        sweep_seconds=0.1,
        heartbeat_seconds=0.2,
        grace_seconds=0.2,
    )
    await asyncio.to_thread(upgrade, chosen)
    engine = Engine(chosen)
    await engine.start()
    try:
        yield Rig(engine)
    finally:
        await engine.stop()


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
    await asyncio.to_thread(upgrade, chosen)
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
