"""Killing workers at random moments changes nothing of what runs come to but their attempts.

Random flows (``tests/random_work.py``) run while engines are killed and others take their place:
now, or between a commit and its answer. What was visited must be what the pure simulation says,
and what was recorded what the same runs record when nobody disturbs them.
"""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from sqlalchemy import func, select

from shared.ids import BranchId, FlowRunId
from shared.models import NO_INDEX, FlowRun, TaskRun
from shared.settings import Settings
from shared.status import Reason, RunStatus, TaskRunStatus
from shared.store.signals import NewSignal, send_signals
from shared.store.step import Step
from tests import random_tasks
from tests.integration.engine_rig import Rig
from tests.random_work import Work, random_work
from tests.waiting import wait_until
from worker.engine import Engine

pytestmark = pytest.mark.timeout(60)

WORKS = 20
KILLS = 5
SEED = 1
"""Of the kills, and of the works; other ones were tried by changing it."""
Visit = tuple[str, int, int]
"""Task, iteration, and the place in the list, -1 for what is no item."""
Story = dict[Visit, tuple[str, Any]]
"""What each visit came to in the end, and its data."""


class Doomed(Rig):
    """Two engines on one database, any of which may be killed; others take their place."""

    def __init__(self, settings: Settings, draw: random.Random) -> None:
        self._settings = settings
        self._draw = draw
        self._engines: list[Engine] = []
        self._handing_over: set[asyncio.Task[None]] = set()
        self._at_a_commit: set[Engine] = set()
        """Those that die at their next commit."""
        self._dying: asyncio.Queue[Engine] = asyncio.Queue()

    async def begin(self) -> None:
        """Start an engine that the others ring for."""
        engine = Engine(self._settings)
        await engine.start()
        engine.ringer.ring = self._ring  # type: ignore[method-assign]  # of this engine only
        call = engine.writer.call

        async def call_and_die(function: Any, item: Any) -> Any:
            answer = await call(function, item)
            if isinstance(item, Step) and engine in self._at_a_commit:
                self._at_a_commit.discard(engine)
                self._dying.put_nowait(engine)
                await asyncio.Event().wait()
            return answer

        engine.writer.call = call_and_die  # type: ignore[method-assign]
        self._engines.append(engine)
        self.engine = self._engines[0]

    async def kill_one(self) -> None:
        """Kill an engine and start another one."""
        victim = self._draw.choice(self._engines)
        if self._draw.random() < 0.5:
            self._at_a_commit.add(victim)
            try:
                async with asyncio.timeout(0.2):
                    victim = await self._dying.get()
            except TimeoutError:
                # It records nothing at the moment: it dies where it stands.
                self._at_a_commit.discard(victim)
        self._engines.remove(victim)
        self.engine = self._engines[0]
        await _kill(victim)
        await self.begin()

    async def end(self) -> None:
        """Stop what lives."""
        for engine in self._engines:
            await engine.stop()

    def _ring(self, branch_ids: Sequence[str], chunks: int = 1, queues: Any = None) -> None:
        # Some rings are lost, as they are when whoever answered them is killed.
        if not self._engines or self._draw.random() < 0.1:
            return
        claimer = self._draw.choice(self._engines).claimer
        handing = claimer.hand_over([BranchId(one) for one in branch_ids])
        task = asyncio.get_running_loop().create_task(handing, name="hand over")
        self._handing_over.add(task)
        task.add_done_callback(self._handing_over.discard)


async def _kill(engine: Engine) -> None:
    """Leave of an engine what kill -9 leaves: its row and its claims, and nothing that runs.

    What was on its way to the database may be committed or not; nobody hears the answer.
    """
    branches = list(engine.runner._branches.values())
    for branch in branches:
        branch.is_dropped = True
    tasks = [*engine._loops, *engine._last_loops, *(b.task for b in branches if b.task)]
    for task in tasks:
        task.remove_done_callback(_any_callback)
        task.cancel()
    await asyncio.to_thread(engine._heart.stop)
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(engine.writer.close)
    engine.runner._executor.close()
    await engine._subscriber.close()
    await engine.ringer.close()
    engine.database.close()


def _any_callback(_: object) -> None:
    """Stands for no callback at all."""


@pytest.fixture
async def doomed(database_url: str, redis_url: str) -> AsyncIterator[Doomed]:
    async with _opened(database_url, redis_url) as doomed:
        yield doomed


@asynccontextmanager
async def _opened(database_url: str, redis_url: str) -> AsyncIterator[Doomed]:
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        task_modules=(random_tasks.__name__,),
        lease_seconds=0.8,
        heartbeat_seconds=0.2,
        sweep_seconds=0.1,
        grace_seconds=0.2,
        # However often a visit loses its worker here, it is not the one that kills it.
        max_losses=1_000,
    )
    doomed = Doomed(settings, random.Random(SEED))
    for _ in range(2):
        await doomed.begin()
    try:
        yield doomed
    finally:
        await doomed.end()


async def _submit(rig: Rig, work: Work) -> FlowRunId:
    run_id = await rig.submit(work.definition, work.input)
    now = datetime.now(UTC)
    for name in work.signals:
        signal = NewSignal(run_id, name, orjson.dumps(name), now, rig.engine.clock.now())
        await rig.engine.writer.call(send_signals, signal)
    return run_id


def _task_runs(rig: Rig, run_id: FlowRunId) -> list[Any]:
    table = TaskRun.__table__
    query = select(table).where(table.c.flow_run_id == run_id).order_by(table.c.id)
    with rig.engine.database.read() as connection:
        return list(connection.execute(query))


def _story(rig: Rig, run_id: FlowRunId) -> Story:
    """What each visit came to; what was lost, stopped or tried again is no part of it."""
    story: Story = {}
    for row in _task_runs(rig, run_id):
        if row.status in (TaskRunStatus.SUCCESS, TaskRunStatus.FAILED):
            data = None if row.data is None else orjson.loads(row.data)
            story[row.task, row.iteration, row.item_index] = (row.status, data)
    return story


def _check(rig: Rig, work: Work, run_id: FlowRunId, undisturbed: FlowRunId) -> None:
    """Compare a run with what it must come to, and with one that nobody disturbed."""
    expected, row = work.expected(), rig.run(run_id)
    assert row.status == expected.status
    story, quiet = _story(rig, run_id), _story(rig, undisturbed)
    if expected.status is RunStatus.FAILED:
        # The first error ends everything else wherever it stands, between two attempts, too.
        assert _disagreements(story, quiet) == []
        return
    assert row.outcome == expected.outcome
    visits = Counter((task, iteration) for task, iteration, index in story if index == NO_INDEX)
    assert visits == expected.visits
    assert story == quiet
    for task, values in work.lists.items():
        if (whole := story.get((task, 1, NO_INDEX))) is not None:
            assert [item and item["value"] for item in whole[1]] == values
    _check_attempts(_task_runs(rig, run_id))


def _disagreements(one: Story, other: Story) -> list[Visit]:
    """The visits that succeeded in both runs, and with other data."""
    good = TaskRunStatus.SUCCESS
    both = [v for v in one.keys() & other.keys() if one[v][0] == other[v][0] == good]
    return [visit for visit in both if one[visit] != other[visit]]


def _check_attempts(rows: Sequence[Any]) -> None:
    """A visit has one result, and it is that of its last attempt."""
    attempts: dict[Visit, list[Any]] = {}
    for row in rows:
        attempts.setdefault((row.task, row.iteration, row.item_index), []).append(row)
    for visit, of_visit in attempts.items():
        of_visit.sort(key=lambda row: row.attempt)
        assert [row.attempt for row in of_visit] == list(range(1, len(of_visit) + 1)), visit
        assert TaskRunStatus.SUCCESS not in {row.status for row in of_visit[:-1]}, visit


async def test_kills_change_nothing_but_attempts(doomed: Doomed) -> None:
    works = [random_work(1_000 * SEED + number) for number in range(WORKS)]
    quiet = [await _submit(doomed, work) for work in works]
    await _all_ended(doomed)
    runs = [await _submit(doomed, work) for work in works]
    draw = random.Random(SEED)
    for _ in range(KILLS):
        await asyncio.sleep(draw.uniform(0, 0.15))
        await doomed.kill_one()
    await _all_ended(doomed)
    for number, (work, run_id, undisturbed) in enumerate(zip(works, runs, quiet, strict=True)):
        await doomed.ended(run_id)
        try:
            _check(doomed, work, run_id, undisturbed)
        except AssertionError as error:
            error.add_note(f"random_work({1_000 * SEED + number})")
            raise
    table = TaskRun.__table__
    lost = select(table.c.id).where(table.c.reason == Reason.WORKER_LOST)
    with doomed.engine.database.read() as connection:
        assert connection.execute(lost).all(), "no kill has cost an attempt"


async def _all_ended(rig: Rig) -> None:
    query = select(func.count()).where(FlowRun.__table__.c.status == RunStatus.RUNNING)

    def nothing_runs() -> bool:
        with rig.engine.database.read() as connection:
            return not connection.execute(query).scalar_one()

    await wait_until(nothing_runs, description="every run is over", timeout=25)
