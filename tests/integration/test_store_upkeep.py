"""Upkeep and workers: who is due, lost, hopeless, old or the leader, on both databases."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial

import orjson
import pytest

from shared.ids import BranchId, FlowRunId, WorkerId, new_id
from shared.models import Branch, FlowRun, Join, LogLine, StoredDefinition, TaskRun
from shared.models_workers import TaskType, WorkerRow
from shared.settings import load_settings
from shared.status import BranchState, RunStatus, TaskRunStatus
from shared.store.freeing import rescue_branches
from shared.store.logs import LoggedLine, add_lines
from shared.store.stopping import Cancel, cancel_runs
from shared.store.upkeep import give_up, prune_definitions, prune_runs, wake_due
from shared.store.workers import (
    beat,
    count_live,
    declare_lost,
    forget_workers,
    held_branches,
    leave,
    resign,
    revive,
    try_lead,
)
from tests.integration.store_rig import (
    CHAIN,
    DATABASES,
    LEASE_NOW,
    MAX_LOSSES,
    NOW,
    OF_A_RUN,
    SINGLE,
    Store,
    at_once,
    flow_of,
    opened_for_module,
)
from worker.leader import Round, look_around

LEASE_SECONDS = 4.0
RACES = 15
FORK = flow_of(("split", ["a", "b"], "end"), ("a", "meet", "end"), ("b", "meet", "end"))


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


# Waking.


def _sleeper(store: Store, wake_at: datetime) -> BranchId:
    begun = store.begin(CHAIN)
    store.record(CHAIN, begun.visit, kind="suspended", data=None, wake_at=wake_at)
    return begun.visit.branch_id


def test_only_what_is_due_is_woken_and_only_once(store: Store) -> None:
    due = _sleeper(store, datetime.now(UTC) - timedelta(microseconds=1))
    early = _sleeper(store, datetime.now(UTC) + timedelta(hours=1))
    assert store.do(wake_due, LEASE_NOW + 9) == [due]
    assert store.do(wake_due, LEASE_NOW + 10) == []
    woken, asleep = store.branch(due), store.branch(early)
    assert (woken.state, woken.ready_at) == (BranchState.READY, LEASE_NOW + 9)
    assert asleep.state == BranchState.WAITING


def test_sleepers_of_a_run_that_is_over_are_not_woken(store: Store) -> None:
    branch = _sleeper(store, NOW)
    store.batch(cancel_runs, Cancel(store.branch(branch).flow_run_id, NOW))
    assert store.do(wake_due, LEASE_NOW) == []
    assert store.branch(branch).state == BranchState.DONE


def test_two_who_wake_at_once_do_not_wake_the_same(store: Store) -> None:
    branches = [_sleeper(store, NOW) for _ in range(RACES)]
    wake = partial(store.do, wake_due, LEASE_NOW)
    woken = [branch for part in at_once(wake, wake) for branch in part]
    assert sorted(woken) == sorted(branches)


# Giving up.


def _hopeless(store: Store) -> FlowRunId:
    created = store.create()
    for _ in range(MAX_LOSSES):
        victim = store.register()
        store.claim(created.branch_id, worker_id=victim) or store.claim(
            created.branch_id, worker_id=victim, suspects=True
        )
        store.do(rescue_branches, [victim], LEASE_NOW)
    return created.flow_run_id


def test_a_run_that_cost_too_many_workers_fails_and_says_why(store: Store) -> None:
    run = _hopeless(store)
    assert store.do(give_up, MAX_LOSSES) == [run]
    row, (*lost, last) = store.run(run), store.rows(TaskRun)
    assert (row.status, row.active) == (RunStatus.FAILED, 0)
    assert orjson.loads(row.error)["type"] == "WorkerLost"
    assert orjson.loads(row.error)["task"] == "first"
    assert {task.status for task in lost} == {TaskRunStatus.CANCELLED}
    assert len(lost) == MAX_LOSSES
    assert (last.status, last.reason) == (TaskRunStatus.FAILED, "worker_lost")
    assert orjson.loads(last.error)["type"] == "WorkerLost"
    assert store.states(run) == ["done"]
    assert store.do(give_up, MAX_LOSSES) == []


def test_what_may_still_be_tried_is_not_given_up(store: Store) -> None:
    run, running = _hopeless(store), store.begin()
    assert store.do(give_up, MAX_LOSSES + 1) == []
    assert {store.run(one).status for one in (run, running.run)} == {RunStatus.RUNNING}


def test_two_who_give_up_at_once_fail_the_run_once(store: Store) -> None:
    for _ in range(RACES // 3):
        run = _hopeless(store)
        failed = at_once(*(partial(store.do, give_up, MAX_LOSSES),) * 2)
        assert [one for part in failed for one in part] == [run]
        assert len(store.rows(TaskRun, flow_run_id=run, status="failed")) == 1


# Deleting.


def _finished(store: Store, at: datetime) -> FlowRunId:
    """A run that was cancelled with rows in every table."""
    run, visits = store.fork(FORK)
    store.record(FORK, visits["a"])
    line = LoggedLine(new_id(), run, visits["a"].task_run_id, "a", NOW, "info", "-")
    store.batch(add_lines, [line])
    store.batch(cancel_runs, Cancel(run, at))
    assert all(store.rows(model, **_of(model, run)) for model in OF_A_RUN)
    return run


def _of(model: type, run: FlowRunId) -> dict[str, object]:
    return {"id" if model is FlowRun else "flow_run_id": run}


def test_pruning_deletes_all_of_old_runs_and_nothing_else(store: Store) -> None:
    old, fresh = _finished(store, NOW), _finished(store, NOW + timedelta(hours=2))
    exact, running = _finished(store, NOW + timedelta(hours=1)), store.begin().run
    kept = {
        (model, run): store.rows(model, **_of(model, run))
        for model in (FlowRun, Branch, Join, TaskRun, LogLine)
        for run in (fresh, exact, running)
    }
    assert store.do(prune_runs, NOW + timedelta(hours=1)) == 1
    for model in OF_A_RUN:
        assert store.rows(model, **_of(model, old)) == []
    for (model, run), rows in kept.items():
        assert store.rows(model, **_of(model, run)) == rows
    assert store.do(prune_runs, NOW + timedelta(hours=1)) == 0


def test_definitions_are_deleted_once_no_run_uses_them(store: Store) -> None:
    store.begin(SINGLE)
    _finished(store, NOW)
    later = NOW + timedelta(days=1)
    store.do(prune_runs, later)
    assert store.do(prune_definitions, NOW) == 0
    assert store.do(prune_definitions, later) == 1
    assert [row.hash for row in store.rows(StoredDefinition)] == [SINGLE.hash]


# Leases of workers.


def test_a_worker_is_stored_with_what_it_can_run(store: Store) -> None:
    worker = store.register("a", "b")
    row = store.row(WorkerRow, id=worker)
    assert (row.state, row.heartbeat, row.stopped_at) == ("live", LEASE_NOW, None)
    assert orjson.loads(row.queues) == ["default"]
    assert [kind.name for kind in store.rows(TaskType, worker_id=worker)] == ["a", "b"]


def test_a_worker_that_is_silent_for_a_lease_is_lost(store: Store) -> None:
    silent, fresh = store.worker, store.register(lease_now=LEASE_NOW + 2)
    lost = store.do(declare_lost, LEASE_NOW + LEASE_SECONDS + 1, LEASE_SECONDS)
    assert lost == [silent]
    assert store.row(WorkerRow, id=silent).state == "lost"
    assert store.row(WorkerRow, id=silent).stopped_at is not None
    assert store.row(WorkerRow, id=fresh).state == "live"
    assert store.do(declare_lost, LEASE_NOW + LEASE_SECONDS + 1, LEASE_SECONDS) == []


def test_a_lease_holds_until_it_is_over(store: Store) -> None:
    assert store.do(declare_lost, LEASE_NOW + LEASE_SECONDS, LEASE_SECONDS) == []
    store.do(beat, store.worker, LEASE_NOW + 3)
    assert store.do(declare_lost, LEASE_NOW + LEASE_SECONDS + 2, LEASE_SECONDS) == []


def test_a_heartbeat_from_before_a_reboot_is_lost(store: Store) -> None:
    old = store.register(lease_now=LEASE_NOW + 1_000_000)
    assert store.do(declare_lost, LEASE_NOW, LEASE_SECONDS) == [old]


def test_who_is_stopping_can_be_lost_and_who_has_stopped_cannot(store: Store) -> None:
    stopped = store.register()
    store.do(leave, store.worker, "stopping")
    store.do(leave, stopped, "stopped")
    assert store.do(declare_lost, LEASE_NOW + 100, LEASE_SECONDS) == [store.worker]
    assert store.row(WorkerRow, id=stopped).state == "stopped"


def test_two_who_look_at_once_do_not_declare_the_same_loss(store: Store) -> None:
    for _ in range(RACES):
        worker = store.register()
        store.do(beat, store.worker, LEASE_NOW + 100)
        look = partial(store.do, declare_lost, LEASE_NOW + 100, LEASE_SECONDS)
        assert [one for part in at_once(look, look) for one in part] == [worker]


def test_the_heartbeat_of_a_lost_worker_is_refused_until_it_revives(store: Store) -> None:
    assert store.do(beat, store.worker, LEASE_NOW + 1)
    assert store.row(WorkerRow).heartbeat == LEASE_NOW + 1
    store.do(declare_lost, LEASE_NOW + 100, LEASE_SECONDS)
    assert not store.do(beat, store.worker, LEASE_NOW + 101)
    assert store.do(count_live) == 0
    store.do(revive, store.worker, LEASE_NOW + 102)
    row = store.row(WorkerRow)
    assert (row.state, row.heartbeat, row.stopped_at) == ("live", LEASE_NOW + 102, None)
    assert store.do(beat, store.worker, LEASE_NOW + 103)
    assert store.do(count_live) == 1


def test_who_has_stopped_is_not_revived(store: Store) -> None:
    store.do(leave, store.worker, "stopped")
    store.do(revive, store.worker, LEASE_NOW + 1)
    assert store.row(WorkerRow).state == "stopped"
    assert not store.do(beat, store.worker, LEASE_NOW + 1)


def test_a_worker_is_told_what_it_holds(store: Store) -> None:
    held, ended = store.begin(), store.begin()
    store.record(SINGLE, ended.visit)
    other = store.register()
    store.claim(store.create().branch_id, worker_id=other)
    assert store.do(held_branches, store.worker) == {held.visit.branch_id: held.visit.claim}


def test_workers_that_ended_long_ago_are_forgotten_with_their_types(store: Store) -> None:
    stopped, lost = store.register("a"), store.register("b")
    store.do(leave, stopped, "stopped")
    store.set(WorkerRow, lost, state="lost", stopped_at=datetime.now(UTC))
    assert store.do(forget_workers, NOW) == 0
    assert store.do(forget_workers, datetime.now(UTC) + timedelta(seconds=1)) == 2
    assert [row.id for row in store.rows(WorkerRow)] == [store.worker]
    assert {row.worker_id for row in store.rows(TaskType)} == {store.worker}


# The lead.


def _leads(store: Store, worker: WorkerId, lease_now: float) -> bool:
    return store.do(try_lead, worker, lease_now, LEASE_SECONDS)


def test_one_worker_leads_and_keeps_the_lead_by_asking_again(store: Store) -> None:
    other = store.register()
    assert _leads(store, store.worker, LEASE_NOW)
    assert not _leads(store, other, LEASE_NOW + 1)
    assert _leads(store, store.worker, LEASE_NOW + 3)
    assert not _leads(store, other, LEASE_NOW + 6)


def test_the_lead_falls_to_another_when_it_runs_out_or_is_given_back(store: Store) -> None:
    second, third = store.register(), store.register()
    assert _leads(store, store.worker, LEASE_NOW)
    assert _leads(store, second, LEASE_NOW + LEASE_SECONDS + 1)
    assert not _leads(store, store.worker, LEASE_NOW + LEASE_SECONDS + 2)
    store.do(resign, store.worker)
    assert not _leads(store, third, LEASE_NOW + LEASE_SECONDS + 2)
    store.do(resign, second)
    assert _leads(store, third, LEASE_NOW + LEASE_SECONDS + 2)


def test_a_leader_is_replaced_long_before_its_lease_as_a_worker_is_over(store: Store) -> None:
    first, second = store.register(), store.register()
    settings = load_settings(lease_seconds=LEASE_SECONDS, sweep_seconds=1.0)

    def leads(worker: WorkerId, lease_now: float) -> bool:
        (report,) = store.batch(look_around, Round(worker, lease_now, settings, prunes=False))
        return report.is_leading

    assert leads(first, LEASE_NOW)
    assert not leads(second, LEASE_NOW + 1.0)
    assert leads(second, LEASE_NOW + 2.0)


def test_a_lead_from_before_a_reboot_does_not_last(store: Store) -> None:
    assert _leads(store, store.register(), LEASE_NOW + 1_000_000)
    assert _leads(store, store.worker, LEASE_NOW)


def test_of_many_who_ask_at_once_one_leads(store: Store) -> None:
    workers = [store.register() for _ in range(4)]
    for number in range(RACES):
        lease_now = LEASE_NOW + number * 2 * LEASE_SECONDS
        answers = at_once(*(partial(_leads, store, worker, lease_now) for worker in workers))
        assert sorted(answers) == [False, False, False, True]
