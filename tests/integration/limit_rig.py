"""Engines for the tests of limits, which ring for each other without Redis."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from sqlalchemy import select

from shared.afterwards import Ready
from shared.flow import Flow
from shared.ids import BranchId, FlowRunId, new_id
from shared.limits import run_limit
from shared.models import Branch
from shared.models_limits import LimitPlace, PlaceState
from shared.status import BranchState
from shared.store.runs import CreatedRun, NewRun, create_runs
from shared.validation import validate_definition
from tests.integration import limit_tasks
from tests.integration.engine_rig import Rig, open_rig
from tests.waiting import wait_until

MODULE = limit_tasks.__name__


def single(limit: dict[str, Any] | None = None, **task: Any) -> dict[str, Any]:
    """A flow of one task."""
    fields = {"name": "stay", "type": "stays", **task}
    if limit is not None:
        fields["limit"] = limit
    return {"id": "limited", "start_task": "stay", "tasks": [fields]}


@dataclass
class LimitRig(Rig):
    """Several engines on one database; the first is the one that tests speak to."""

    engines: Sequence[Any] = ()

    def __init__(self, rigs: Sequence[Rig]) -> None:
        super().__init__(rigs[0].engine)
        self.engines = [rig.engine for rig in rigs]
        self._ringing: set[asyncio.Task[None]] = set()
        for engine in self.engines:
            engine.writer.on_ready = self._ring

    def _ring(self, ready: Ready) -> None:
        loop = asyncio.get_running_loop()
        for engine in self.engines:
            task = loop.create_task(engine.claimer.hand_over(list(ready)), name="ring")
            self._ringing.add(task)
            task.add_done_callback(self._ringing.discard)

    async def create(
        self, definition: dict[str, Any], given: Any = None, **changes: Any
    ) -> CreatedRun:
        """Store a run as the API does, and ring for it."""
        judged = validate_definition(definition, task_types=self.engine.registry.names())
        assert judged.flow is not None, judged.errors
        new = self.new_run(judged.flow, judged.definition_json, given, **changes)
        created = await self.engine.writer.call(create_runs, new)
        if created.branch_id is not None:
            self._ring({created.branch_id: "default"})
        return created

    def new_run(self, flow: Flow, content: bytes, given: Any, **changes: Any) -> NewRun:
        """A run as the API would store it."""
        start, seconds, now = flow.definition.start_task, flow.definition.timeout, datetime.now(UTC)
        values: dict[str, Any] = {
            "flow_run_id": FlowRunId(new_id()),
            "branch_id": BranchId(new_id()),
            "flow_id": flow.definition.id,
            "name": "",
            "definition_hash": flow.hash,
            "definition_json": content,
            "input_json": orjson.dumps(given),
            "tags_json": b"[]",
            "start_task": start,
            "start_type": flow.tasks[start].task_type,
            "created_at": now,
            "deadline": None if seconds is None else now + timedelta(seconds=seconds),
            "ready_at": self.engine.clock.now(),
            "limit": run_limit(flow.definition, given),
        }
        return NewRun(**(values | changes))

    async def start(self, definition: dict[str, Any], given: Any = None) -> FlowRunId:
        """The id of a run that was stored."""
        return (await self.create(definition, given)).flow_run_id

    async def all_ended(self, run_ids: Sequence[FlowRunId]) -> list[Any]:
        """The rows of the runs, once they are over; nobody may have or want a place then."""
        ended = [await self.ended(run_id) for run_id in run_ids]
        await wait_until(lambda: not self.places(), description="no place is left")
        return ended

    def places(self, **where: Any) -> list[Any]:
        """Places that are in use or waited for, in the order of arrival."""
        table = LimitPlace.__table__
        query = select(table).order_by(table.c.arrived_at, table.c.number)
        for name, value in where.items():
            query = query.where(table.c[name] == value)
        with self.engine.database.read() as connection:
            return list(connection.execute(query))

    async def stands_in_line(self, run_id: FlowRunId) -> None:
        """Wait until a run's branch is parked."""
        branches = Branch.__table__

        def is_parked() -> bool:
            (place,) = self.places(flow_run_id=run_id) or [None]
            if place is None or place.state != PlaceState.WAITING:
                return False
            with self.engine.database.read() as connection:
                state = select(branches.c.state).where(branches.c.id == place.branch_id)
                return bool(connection.execute(state).scalar_one() == BranchState.WAITING)

        await wait_until(is_parked, description="the run stands in line")


@pytest.fixture(autouse=True)
def fresh_stays() -> None:
    """Forget what the tests before did."""
    limit_tasks.STAYS.clear()
    limit_tasks.INSIDE.clear()
    limit_tasks.LEAVE, limit_tasks.LEAVE_TOO = asyncio.Event(), asyncio.Event()


@pytest.fixture
async def limits(database_url: str, redis_url: str) -> AsyncIterator[LimitRig]:
    """One engine."""
    async with restarted(database_url, redis_url) as rig:
        yield rig


@asynccontextmanager
async def restarted(database_url: str, redis_url: str, **settings: Any) -> AsyncIterator[LimitRig]:
    """An engine for the length of a block."""
    async with open_rig(database_url, redis_url, (MODULE,), **settings) as rig:
        yield LimitRig([rig])


@pytest.fixture
async def crowd(database_url: str, redis_url: str) -> AsyncIterator[LimitRig]:
    """Three engines on one database."""
    async with AsyncExitStack() as stack:
        rigs = [
            await stack.enter_async_context(open_rig(database_url, redis_url, (MODULE,)))
            for _ in range(3)
        ]
        yield LimitRig(rigs)
