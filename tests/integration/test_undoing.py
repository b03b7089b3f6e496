"""The store's part in endings: exactly what succeeded is undone, once, whatever gets lost."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any

import orjson
import pytest

from shared.flow import Flow
from shared.ids import BranchId, FlowRunId
from shared.models import Compensation, FlowRun, TaskRun
from shared.status import BranchState, RunStatus, TaskRunStatus
from shared.store.branches import Visit
from shared.store.freeing import rescue_branches
from shared.store.step import Recorded
from shared.store.stopping import Cancel, cancel_runs
from shared.store.undoing import Begun
from shared.store.upkeep import fail_overdue, give_up
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    MAX_LOSSES,
    NOW,
    Store,
    at_once,
    opened_for_module,
)
from tests.integration.undoing_rig import ERROR, ending_rows, flow_of, take

RACES = 10


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _chain(*names: str, last: str | None = None) -> Flow:
    """Tasks one after another, each of which has another one that undoes it."""
    tasks = [{"name": name, "compensate": f"un{name}"} for name in names]
    tasks += [{"name": f"un{name}"} for name in names]
    fields = {}
    if last is not None:
        tasks.append({"name": last})
        fields["finally"] = last
    return flow_of(
        tasks,
        [
            {"source_task": source, "target_task_success": target}
            for source, target in pairwise(names)
        ],
        **fields,
    )


CHAIN = _chain("a", "b", "c", last="tidy")


def _at_c(store: Store) -> tuple[FlowRunId, Visit]:
    """A run of the chain of which two tasks have succeeded."""
    begun = store.begin(CHAIN)
    (second,) = store.record(CHAIN, begun.visit).started
    (third,) = store.record(CHAIN, second).started
    return begun.run, third


def _fail(store: Store, flow: Flow, visit: Visit) -> Recorded:
    return store.record(flow, visit, kind="error", data=None, error=ERROR, targets=None)


def _finish(store: Store, flow: Flow, visit: Visit) -> list[str]:
    """Let a run's ending go on from ``visit`` with successes; what ran."""
    ran = []
    while True:
        ran.append(visit.task)
        recorded = store.record(flow, visit, targets=())
        assert recorded.accepted
        if recorded.ended is not None:
            return ran
        (visit,) = recorded.started


def test_the_step_that_fails_a_run_begins_its_ending(store: Store) -> None:
    run, visit = _at_c(store)
    recorded = _fail(store, CHAIN, visit)
    assert (recorded.ended, recorded.stops_others) == (None, True)
    (first,) = recorded.started
    assert (first.task, first.path, first.iteration) == ("unb", "ending/undo:b", 1)
    row = store.run(run)
    assert (row.status, row.active, row.error) == (RunStatus.RUNNING, 1, None)
    assert orjson.loads(row.ending)["error"]["message"] == "no"
    assert [r.task for r in store.rows(Compensation)] == ["una"]
    assert _finish(store, CHAIN, first) == ["unb", "una", "tidy"]
    row = store.run(run)
    assert (row.status, row.active, row.ending) == (RunStatus.FAILED, 0, None)
    assert orjson.loads(row.error)["message"] == "no"
    assert store.rows(Compensation) == []
    assert set(store.states(run)) == {BranchState.DONE}


def test_a_worker_that_cannot_run_what_undoes_hands_it_over(store: Store) -> None:
    tasks = [{"name": "a", "compensate": "una"}, {"name": "b"}, {"name": "una"}]
    flow = flow_of(tasks, [{"source_task": "a", "target_task_success": "b"}])
    begun = store.begin(flow)
    (second,) = store.record(flow, begun.visit).started
    recorded = store.record(
        flow, second, kind="error", data=None, error=ERROR, targets=None, task_types=()
    )
    assert recorded.started == []
    (branch,) = recorded.ready
    row = store.branch(branch)
    assert (row.state, row.task, row.attempt) == (BranchState.READY, "una", 0)
    assert _finish(store, flow, take(store, branch)) == ["una"]


def test_of_two_who_undo_only_the_one_with_the_claim_is_recorded(store: Store) -> None:
    run, visit = _at_c(store)
    (first,) = _fail(store, CHAIN, visit).started
    store.do(rescue_branches, [store.worker], LEASE_NOW)
    again = take(store, first.branch_id)
    assert (again.task, again.attempt, again.iteration) == ("unb", 2, 1)
    assert not store.record(CHAIN, first, targets=()).accepted
    assert _finish(store, CHAIN, again) == ["unb", "una", "tidy"]
    assert [(r.task, r.attempt, r.status) for r in ending_rows(store, run)] == [
        ("unb", 1, TaskRunStatus.CANCELLED),
        ("unb", 2, TaskRunStatus.SUCCESS),
        ("una", 1, TaskRunStatus.SUCCESS),
        ("tidy", 1, TaskRunStatus.SUCCESS),
    ]


def _kill_for(store: Store, branch: BranchId) -> None:
    """Lose as many workers to a branch as it is allowed to cost."""
    for _ in range(MAX_LOSSES):
        victim = store.register()
        store.claim(branch, worker_id=victim) or store.claim(
            branch, worker_id=victim, suspects=True
        )
        store.do(rescue_branches, [victim], LEASE_NOW)


def test_a_compensation_that_kills_its_workers_is_passed_over(store: Store) -> None:
    run, _ = _at_c(store)
    cancel = Cancel(run, NOW, ready_at=LEASE_NOW)
    assert store.batch(cancel_runs, cancel) == ["cancelling"]
    _kill_for(store, cancel.branch_id)
    begun = Begun(LEASE_NOW)
    assert store.do(give_up, MAX_LOSSES, begun) == []
    assert (begun.ready, begun.runs) == ([cancel.branch_id], [])
    following = take(store, cancel.branch_id)
    assert (following.task, following.attempt) == ("una", 1)
    assert _finish(store, CHAIN, following) == ["una", "tidy"]
    row = store.run(run)
    error = orjson.loads(row.error)
    assert (row.status, error["type"]) == (RunStatus.FAILED, "CompensationFailed")
    assert error["failures"][0]["type"] == "WorkerLost"


def test_a_last_task_that_kills_its_workers_ends_the_run(store: Store) -> None:
    flow = flow_of([{"name": "a"}, {"name": "tidy"}], [], **{"finally": "tidy"})
    begun = store.begin(flow)
    recorded = store.record(flow, begun.visit, task_types=())
    (branch,) = recorded.ready
    _kill_for(store, branch)
    assert store.do(give_up, MAX_LOSSES, Begun(LEASE_NOW)) == [begun.run]
    row = store.run(begun.run)
    assert (row.status, row.active, row.output) == (RunStatus.FAILED, 0, None)
    assert orjson.loads(row.error)["type"] == "FinallyFailed"
    assert store.branch(branch).state == BranchState.DONE


def test_a_run_that_is_given_up_is_undone(store: Store) -> None:
    run, visit = _at_c(store)
    store.do(rescue_branches, [store.worker], LEASE_NOW)
    _kill_for(store, visit.branch_id)
    begun = Begun(LEASE_NOW)
    assert store.do(give_up, MAX_LOSSES, begun) == []
    assert begun.runs == [run]
    assert _finish(store, CHAIN, take(store, begun.ready[0])) == ["unb", "una", "tidy"]
    assert orjson.loads(store.run(run).error)["type"] == "WorkerLost"


def test_a_deadline_ends_a_run_once_and_not_its_ending(store: Store) -> None:
    begun = store.begin(CHAIN, deadline=NOW)
    (second,) = store.record(CHAIN, begun.visit).started
    endings = Begun(LEASE_NOW)
    assert store.do(fail_overdue, endings) == []
    assert store.do(fail_overdue, endings) == []
    assert endings.runs == [begun.run]
    assert not store.record(CHAIN, second).accepted
    assert store.run(begun.run).deadline is None
    assert _finish(store, CHAIN, take(store, endings.ready[0])) == ["una", "tidy"]
    assert orjson.loads(store.run(begun.run).error)["type"] == "RunTimeout"


def test_nothing_else_ends_a_run_in_its_ending(store: Store) -> None:
    run, visit = _at_c(store)
    (first,) = _fail(store, CHAIN, visit).started
    # As if both had looked before they had to wait for the lock of the run.
    store.set(FlowRun, run, deadline=NOW)
    endings = Begun(LEASE_NOW)
    assert store.do(fail_overdue, endings) == []
    assert store.batch(cancel_runs, Cancel(run, NOW)) == ["ending"]
    assert (endings.runs, endings.ready) == ([], [])
    assert _finish(store, CHAIN, first) == ["unb", "una", "tidy"]
    assert store.run(run).status == RunStatus.FAILED


def test_a_cancel_and_a_failing_step_begin_one_ending(store: Store) -> None:
    for _ in range(RACES):
        run, visit = _at_c(store)
        cancel = Cancel(run, NOW, ready_at=LEASE_NOW)
        results: list[Any] = at_once(
            lambda v=visit: _fail(store, CHAIN, v),  # type: ignore[misc]  # bound in the loop
            lambda c=cancel: store.batch(cancel_runs, c)[0],  # type: ignore[misc]  # the same
        )
        recorded, told = results
        if recorded.accepted:
            assert told == "ending"
            (visit,) = recorded.started
        else:
            assert told == "cancelling"
            visit = take(store, cancel.branch_id)
        assert _finish(store, CHAIN, visit) == ["unb", "una", "tidy"]
        status = RunStatus.FAILED if recorded.accepted else RunStatus.CANCELLED
        assert store.run(run).status == status


def test_a_run_without_a_result_that_can_be_undone_is_cancelled_at_once(store: Store) -> None:
    flow = _chain("a", "b")
    begun = store.begin(flow)
    assert store.batch(cancel_runs, Cancel(begun.run, NOW)) == ["cancelled"]
    row = store.run(begun.run)
    assert (row.status, row.active, row.ending) == (RunStatus.CANCELLED, 0, None)


def test_no_clock_of_a_host_changes_the_order(store: Store) -> None:
    run, _ = _at_c(store)
    # The first task was recorded by a worker whose clock is an hour ahead.
    (first,) = store.rows(TaskRun, flow_run_id=run, task="a")
    store.set(TaskRun, first.id, finished_at=first.finished_at + timedelta(hours=1))
    cancel = Cancel(run, NOW)
    store.batch(cancel_runs, cancel)
    assert _finish(store, CHAIN, take(store, cancel.branch_id)) == ["unb", "una", "tidy"]


def test_results_without_a_place_are_undone_last(store: Store) -> None:
    run, _ = _at_c(store)
    (kept,) = store.rows(TaskRun, flow_run_id=run, task="b")
    store.set(TaskRun, kept.id, position=None, finished_at=NOW)
    cancel = Cancel(run, NOW)
    store.batch(cancel_runs, cancel)
    assert _finish(store, CHAIN, take(store, cancel.branch_id)) == ["una", "unb", "tidy"]
