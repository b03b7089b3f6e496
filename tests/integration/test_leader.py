"""What the leader tells of its rounds: what is ready is rung for, what is over is told."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.events import Publisher, cancelled_channel, ended_channel
from shared.flow import Flow
from shared.ids import BranchId, FlowRunId
from shared.lease_clock import LeaseClock
from shared.models import Branch, FlowRun
from shared.models_workers import WorkerRow
from shared.queue import Ringer
from shared.settings import Settings, load_settings
from shared.status import BranchState
from shared.store.runs import ParentVisit
from shared.store.stopping import Cancel, cancel_runs
from shared.store.workers import beat
from shared.writer import Writer
from tests.integration import undoing_rig
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    NOW,
    SINGLE,
    Begun,
    Store,
    new_run,
    opened_for_module,
)
from tests.waiting import wait_until
from worker.leader import Leader, Report, Round, look_around

SETTINGS = load_settings(lease_seconds=4.0, max_losses=3, retention_days=30)
LATER = LEASE_NOW + 2
LONG_AGO = datetime.now(UTC) - timedelta(days=100)
QUEUE = "leader"
TIDY = undoing_rig.flow_of([{"name": "first"}, {"name": "tidy"}], [], **{"finally": "tidy"})


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _round(store: Store, *, at: float = LATER, settings: Settings = SETTINGS, **of: Any) -> Report:
    """A round of upkeep by the store's worker, as the leader has it done."""
    item = Round(store.worker, at, settings, **({"prunes": False} | of))
    (report,) = store.batch(look_around, item)
    assert report.is_leading
    return report


def _sleeper(store: Store, wake_at: datetime) -> BranchId:
    begun = store.begin()
    store.record(SINGLE, begun.visit, kind="suspended", data=None, wake_at=wake_at)
    return begun.visit.branch_id


def _parent(store: Store, flow: Flow = SINGLE, **changes: Any) -> tuple[Begun, FlowRunId]:
    """A visit that waits for the run of a sub-flow, and that run."""
    begun = store.begin()
    waiting = ParentVisit(begun.run, begun.visit.task_run_id, 1)
    child = new_run(flow, parent=waiting, **changes)
    store.record(SINGLE, begun.visit, kind="suspended", data=None, sub_flow=child)
    return begun, child.flow_run_id


def test_what_it_gives_up_in_the_same_round_is_not_rung_for(store: Store) -> None:
    victim, at = store.register(), LEASE_NOW + SETTINGS.lease_seconds + 1
    (held,) = store.claim(store.create().branch_id, worker_id=victim)
    store.set(WorkerRow, store.worker, heartbeat=at)
    once = SETTINGS.model_copy(update={"max_losses": 1})
    report = _round(store, at=at, settings=once)
    assert (report.lost, report.rescued) == ([victim], [])
    assert report.failed == [held.visit.flow_run_id]


def test_what_it_made_ready_is_told_with_its_queue(store: Store) -> None:
    due, early = _sleeper(store, NOW), _sleeper(store, datetime.now(UTC) + timedelta(hours=1))
    store.set(Branch, due, queue="slow")
    report = _round(store)
    assert (report.woken, report.queues) == ([due], {due: "slow"})
    assert (store.branch(due).state, store.branch(due).ready_at) == (BranchState.READY, LATER)
    assert store.branch(early).state == BranchState.WAITING


def test_runs_that_undo_first_what_they_did_are_told_with_their_branches(store: Store) -> None:
    overdue = store.begin(TIDY, deadline=NOW)
    parent, child = _parent(store, TIDY)
    store.batch(cancel_runs, Cancel(parent.run, NOW))
    report = _round(store)
    assert (report.failed, report.cancelled) == ([], [])
    assert sorted(report.stopped) == sorted([overdue.run, child])
    endings = [
        row for row in store.rows(Branch) if row.task == "tidy" and row.state == BranchState.READY
    ]
    assert sorted(report.begun) == sorted(row.id for row in endings)
    assert {row.flow_run_id for row in endings} == {overdue.run, child}


def test_without_a_retention_it_keeps_every_run(store: Store) -> None:
    old = store.begin()
    store.batch(cancel_runs, Cancel(old.run, LONG_AGO))
    for_ever = SETTINGS.model_copy(update={"retention_days": None})
    assert _round(store, settings=for_ever, prunes=True).pruned == 0
    assert store.rows(FlowRun, id=old.run) != []


# At work.


class Heard(Ringer):
    """Keeps what it should ring for and publish."""

    def __init__(self) -> None:
        super().__init__("redis://127.0.0.1:1/0", QUEUE, 0.1)
        self.rung: set[BranchId] = set()
        self.published: dict[str, set[str]] = {}

    def ring(self, branch_ids: Sequence[Any], *_: object, **__: object) -> None:
        self.rung.update(branch_ids)

    def publish(self, channel: str, ids: Sequence[str]) -> None:
        self.published.setdefault(channel, set()).update(ids)


@asynccontextmanager
async def _leading(store: Store) -> AsyncIterator[Heard]:
    """A leader at work, and what it tells."""
    heard, writer = Heard(), Writer(store.database, store.settings)
    writer.start()
    settings = SETTINGS.model_copy(update={"sweep_seconds": 0.1})
    clock, publisher = LeaseClock(store.database), Publisher(heard, QUEUE)
    store.do(beat, store.worker, clock.now())
    leader = Leader(store.worker, writer, clock, settings, heard, publisher)
    leading = asyncio.create_task(leader.lead_for_ever(), name="leader")
    try:
        yield heard
    finally:
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        writer.close()
        await heard.close()


async def test_it_rings_for_what_it_made_ready_and_tells_of_runs_that_are_over(
    store: Store,
) -> None:
    due, overdue = _sleeper(store, NOW), store.begin(deadline=NOW)
    parent, child = _parent(store)
    store.batch(cancel_runs, Cancel(parent.run, NOW))
    ended = {overdue.run, child}
    async with _leading(store) as heard:
        await wait_until(lambda: heard.published, description="the leader told of its round")
    assert heard.rung == {due}
    assert heard.published == {ended_channel(QUEUE): ended, cancelled_channel(QUEUE): ended}


async def test_its_first_round_prunes(store: Store) -> None:
    old = store.begin()
    store.batch(cancel_runs, Cancel(old.run, LONG_AGO))
    async with _leading(store):
        await wait_until(
            lambda: not store.rows(FlowRun, id=old.run), description="the old run is deleted"
        )
