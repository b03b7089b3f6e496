"""An engine in the process of a test, and what tests ask of it."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.flow import Flow
from shared.ids import BranchId, FlowRunId
from shared.models import Branch, FlowRun, Join, TaskRun
from shared.queue import redis_settings
from shared.replay import Point
from shared.settings import Settings
from shared.status import BranchState, RunStatus
from shared.store.new_runs import Start, new_run, runnable
from shared.store.reruns import NewRerun, create_reruns
from shared.store.runs import CreatedRun, NewRun, create_runs
from shared.store.stopping import Cancel, cancel_runs
from shared.validation import validate_definition
from tests.integration import engine_tasks
from tests.waiting import wait_until
from worker.bells import Bells
from worker.doorbell import DoorbellWorker
from worker.engine import Engine
from worker.rings import ring_function

MODULE = engine_tasks.__name__
INPUT = {"x": 1}


class Rig:
    """An engine in this process, and what its tests ask of it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def submit(self, definition: dict[str, Any], given: Any = INPUT) -> FlowRunId:
        """Store a run and hand its branch over, as a ring would."""
        judged = validate_definition(definition, task_types=self.engine.registry.names())
        assert judged.flow is not None, judged.errors
        return await self.submit_flow(judged.flow, judged.definition_json, given)

    async def submit_flow(self, flow: Flow, content: bytes, given: Any = INPUT) -> FlowRunId:
        """The same for a flow that is known to be good."""
        new_run = self._new_run(flow, content, given)
        return await self._begin(await self.engine.writer.call(create_runs, new_run))

    async def rerun(
        self,
        source: FlowRunId,
        definition: dict[str, Any],
        *,
        task: str | None = None,
        given: Any = INPUT,
    ) -> FlowRunId:
        """Run a run again from a task on or, without one, from what failed."""
        judged = validate_definition(definition, task_types=self.engine.registry.names())
        assert judged.flow is not None, judged.errors
        new_run = self._new_run(judged.flow, judged.definition_json, given)
        new = NewRerun(source, new_run, Point(task))
        created = await self.engine.writer.call(create_reruns, new)
        assert isinstance(created, CreatedRun)
        return await self._begin(created)

    async def _begin(self, created: CreatedRun) -> FlowRunId:
        assert created.branch_id is not None
        await self.engine.claimer.hand_over([created.branch_id])
        return created.flow_run_id

    def _new_run(self, flow: Flow, content: bytes, given: Any) -> NewRun:
        start = Start(orjson.dumps(given), datetime.now(UTC), self.engine.clock.now())
        return new_run(runnable(flow.definition, flow.hash, content), start)

    def answer_rings(self) -> None:
        """Claim what the engine rings for at once, as if somebody listened at the doorbell."""
        handed_over: set[asyncio.Task[None]] = set()

        def ring(branch_ids: Sequence[str], chunks: int = 1, **_: object) -> None:
            handing = self.engine.claimer.hand_over([BranchId(one) for one in branch_ids])
            task = asyncio.get_running_loop().create_task(handing, name="hand over")
            handed_over.add(task)
            task.add_done_callback(handed_over.discard)

        self.engine.ringer.ring = ring  # type: ignore[method-assign, assignment]  # of this engine only

    async def cancel(self, run_id: FlowRunId) -> str:
        """Cancel a run as the API does."""
        cancel = Cancel(run_id, datetime.now(UTC), ready_at=self.engine.clock.now())
        result = await self.engine.writer.call(cancel_runs, cancel)
        if result == "cancelling":
            await self.engine.claimer.hand_over([cancel.branch_id])
        return result

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
        try:
            await wait_until(
                lambda: self.run(run_id).status != RunStatus.RUNNING, description="the run is over"
            )
        except AssertionError as error:
            error.add_note(self._standing(run_id))
            raise
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

    def _standing(self, run_id: FlowRunId) -> str:
        """Where the branches and joins of a run stand, for who looks for what holds it up."""
        branches, joins = Branch.__table__, Join.__table__
        with self.engine.database.read() as connection:
            columns = ("path", "state", "task", "attempt", "claim", "losses", "wake_at")
            standing = connection.execute(
                select(*(branches.c[name] for name in columns)).where(
                    branches.c.flow_run_id == run_id, branches.c.state != BranchState.DONE
                )
            ).all()
            books = connection.execute(select(joins).where(joins.c.flow_run_id == run_id)).all()
        running = len(self.engine.runner.claims)
        return f"run {run_id}: {standing=} {books=} {running=} {self.run(run_id)}"


@pytest.fixture
async def rig(database_url: str, redis_url: str) -> AsyncIterator[Rig]:
    """A running engine."""
    async with open_rig(database_url, redis_url, (MODULE,)) as rig:
        yield rig


@asynccontextmanager
async def open_rig(
    database_url: str, redis_url: str, modules: tuple[str, ...], **others: Any
) -> AsyncIterator[Rig]:
    """An engine with these task modules, while the block runs."""
    chosen = Settings(
        database_url=database_url,
        redis_url=redis_url,
        task_modules=modules,
        sweep_seconds=0.1,
        heartbeat_seconds=0.2,
        grace_seconds=0.2,
        **others,
    )
    engine = Engine(chosen)
    bell = _doorbell(engine)
    async with asyncio.TaskGroup() as group:
        group.create_task(bell.async_run())
        try:
            await engine.start()
            yield Rig(engine)
        finally:
            await bell.stop_listening()
            await engine.stop()
    await bell.close()


def _doorbell(engine: Engine) -> DoorbellWorker:
    """What a worker's process hears rings with."""
    settings = engine.settings
    bells = Bells(settings.queue_name, settings.worker_queues)
    return DoorbellWorker(
        [ring_function()],
        bells=bells,
        queue_name=bells.first.key,
        redis_settings=redis_settings(settings.redis_url.get_secret_value()),
        ctx={
            "hand_over": engine.claimer.hand_over,
            "room": lambda: engine.claimer.room,
            "peers": lambda: engine.runner.peers,
        },
        handle_signals=False,
    )
