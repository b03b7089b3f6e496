"""One round of the leader does each part of the upkeep, on both databases.

What each part does has tests of its own. These say that the leader asks for it: nobody else does,
so what it forgot would stand for ever.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from shared.ids import BranchId, FlowRunId
from shared.models import FlowRun, StoredDefinition, TaskRun
from shared.models_workers import WorkerRow
from shared.settings import Settings, load_settings
from shared.status import BranchState, RunStatus
from shared.store.freeing import rescue_branches
from shared.store.stopping import Cancel, cancel_runs
from shared.store.workers import leave
from tests.integration.store_rig import (
    CHAIN,
    DATABASES,
    LEASE_NOW,
    MAX_LOSSES,
    NOW,
    SINGLE,
    Store,
    opened_for_module,
    table_of,
)
from worker.leader import Report, Round, look_around

LONG_AGO = datetime.now(UTC) - timedelta(days=40)


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _look(
    store: Store,
    lease_now: float = LEASE_NOW,
    *,
    prunes: bool = False,
    settings: Settings | None = None,
) -> Report:
    settings = settings or load_settings(max_losses=MAX_LOSSES)
    item = Round(store.worker, lease_now, settings, prunes=prunes)
    (report,) = store.batch(look_around, item)
    assert report.is_leading
    return report


def _waiting(store: Store, wake_at: datetime) -> tuple[FlowRunId, BranchId, str]:
    """A run whose first visit waits."""
    begun = store.begin(CHAIN)
    store.record(CHAIN, begun.visit, kind="suspended", data=None, wake_at=wake_at)
    return begun.run, begun.visit.branch_id, begun.visit.task_run_id


def test_a_silent_worker_is_lost_and_its_branches_go_on(store: Store) -> None:
    silent = store.register()
    created = store.create()
    store.claim(created.branch_id, worker_id=silent)
    later = LEASE_NOW + 100
    store.set(WorkerRow, store.worker, heartbeat=later)
    report = _look(store, later)
    assert (report.lost, report.rescued) == ([silent], [created.branch_id])
    assert store.branch(created.branch_id).state == BranchState.READY


def test_nobody_is_lost_in_a_round_in_which_silence_says_nothing(store: Store) -> None:
    item = Round(store.worker, LEASE_NOW + 100, Settings(), prunes=False, declares=False)
    (report,) = store.batch(look_around, item)
    assert report.lost == []


def test_what_cost_too_many_workers_is_given_up(store: Store) -> None:
    created = store.create()
    for _ in range(MAX_LOSSES):
        victim = store.register()
        store.claim(created.branch_id, worker_id=victim) or store.claim(
            created.branch_id, worker_id=victim, suspects=True
        )
        store.do(rescue_branches, [victim], LEASE_NOW)
    assert _look(store).failed == [created.flow_run_id]
    assert store.run(created.flow_run_id).status == RunStatus.FAILED


def test_a_run_past_its_deadline_fails(store: Store) -> None:
    run = store.begin(SINGLE, deadline=NOW).run
    assert _look(store).failed == [run]
    assert orjson.loads(store.run(run).error)["type"] == "RunTimeout"


def test_what_is_due_is_woken(store: Store) -> None:
    _, due, _ = _waiting(store, datetime.now(UTC) - timedelta(seconds=1))
    _waiting(store, datetime.now(UTC) + timedelta(hours=1))
    assert _look(store).woken == [due]


def test_who_waits_for_a_run_that_fails_is_woken(store: Store) -> None:
    _, parent, task_run = _waiting(store, datetime.now(UTC) + timedelta(hours=1))
    child = store.begin(SINGLE, deadline=NOW).run
    store.set(FlowRun, child, parent_task_run_id=task_run)
    report = _look(store)
    assert (report.failed, report.woken) == ([child], [parent])


def test_what_nobody_waits_for_any_more_is_cancelled(store: Store) -> None:
    begun = store.begin(CHAIN)
    child = store.begin(SINGLE).run
    store.set(FlowRun, child, parent_task_run_id=begun.visit.task_run_id)
    assert _look(store).cancelled == []
    store.record(CHAIN, begun.visit)
    assert _look(store).cancelled == [child]


def test_what_is_old_is_deleted_in_the_rounds_that_prune(store: Store) -> None:
    run = store.begin(SINGLE).run
    store.batch(cancel_runs, Cancel(run, LONG_AGO))
    gone = store.register()
    store.do(leave, gone, "stopped")
    store.set(WorkerRow, gone, stopped_at=LONG_AGO)
    with store.database.write() as connection:
        connection.execute(table_of(StoredDefinition).update().values(created_at=LONG_AGO))
    settings = load_settings(retention_days=30)
    assert _look(store, settings=settings).pruned == 0
    assert len(store.rows(TaskRun)) == 1
    assert _look(store, prunes=True, settings=settings).pruned == 1
    assert store.rows(FlowRun) == store.rows(TaskRun) == []
    assert [row.id for row in store.rows(WorkerRow)] == [store.worker]
    _look(store, prunes=True, settings=settings)
    assert store.rows(StoredDefinition) == []
