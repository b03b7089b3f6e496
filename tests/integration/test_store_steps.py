"""Steps: each is recorded once, and what follows is begun with it, on both databases."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import orjson
import pytest

from shared.ids import TaskRunId, new_id
from shared.models import Branch, FlowRun, LogLine, TaskRun
from shared.status import BranchState, Outcome, RunStatus, TaskRunStatus
from shared.store.branches import Visit
from shared.store.freeing import rescue_branches
from shared.store.logs import LoggedLine
from shared.store.steps import Recorded, record_steps
from shared.store.upkeep import wake_due
from tests.integration.store_rig import (
    CHAIN,
    DATABASES,
    LEASE_NOW,
    NOW,
    SINGLE,
    Store,
    at_once,
    flow_of,
    opened_for_module,
)

ROUNDS = 36
MEET = flow_of(
    ("split", ["a", "b", "c"], "end"),
    ("a", "meet", "end"),
    ("b", "meet", "end"),
    ("c", "meet", "end"),
    ("meet", "after", "end"),
)
OTHERS = flow_of(("split", ["a", "b"], "end"))
"""A fork without a join."""
LOOP = flow_of(("begin", "check", "end"), ("check", "end", "begin"), max_task_runs=6)
ERROR = orjson.dumps({"type": "ValueError", "message": "boom", "traceback": None})


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _error(store: Store, visit: Visit, flow: Any) -> Recorded:
    return store.record(flow, visit, kind="error", data=None, error=ERROR, reason="raised")


# The fence.


def test_a_step_is_recorded_with_its_result(store: Store) -> None:
    begun = store.begin()
    recorded = store.record(SINGLE, begun.visit, data=b'{"rows": 3.10}')
    assert (recorded.accepted, recorded.ended) == (True, RunStatus.COMPLETED)
    task_run, run = store.task_run(begun.visit), store.run(begun.run)
    assert (task_run.status, task_run.data) == (TaskRunStatus.SUCCESS, b'{"rows": 3.10}')
    assert (task_run.error, task_run.reason) == (None, None)
    assert task_run.started_at <= task_run.finished_at <= run.finished_at
    assert (run.status, run.outcome, run.active) == (RunStatus.COMPLETED, Outcome.SUCCESS, 0)
    assert run.output == b'{"rows": 3.10}'
    branch = store.row(Branch)
    assert (branch.state, branch.worker_id, branch.task_run_id) == (BranchState.DONE, None, None)


def test_a_step_that_is_sent_twice_is_recorded_once(store: Store) -> None:
    begun = store.begin(CHAIN)
    assert store.record(CHAIN, begun.visit).accepted
    again = store.record(CHAIN, begun.visit, data=b'"another"')
    assert again == Recorded(accepted=False)
    assert store.task_run(begun.visit).data == b'{"n":1}'
    assert [row.task for row in store.rows(TaskRun)] == ["first", "second"]


def test_a_step_under_another_claim_is_refused_and_writes_nothing(store: Store) -> None:
    begun = store.begin(CHAIN)
    before = [store.rows(model) for model in (FlowRun, Branch, TaskRun)]
    for changes in (
        {"claim": begun.visit.claim + 1},
        {"claim": begun.visit.claim - 1},
        {"task_run_id": TaskRunId(new_id())},
    ):
        line = LoggedLine(new_id(), begun.run, begun.visit.task_run_id, "first", NOW, "info", "-")
        refused = store.record(CHAIN, begun.visit._replace(**changes), logs=[line])
        assert refused == Recorded(accepted=False)
    assert [store.rows(model) for model in (FlowRun, Branch, TaskRun)] == before
    assert store.rows(LogLine) == []


def test_a_refused_step_does_not_touch_its_neighbours(store: Store) -> None:
    good, late, forked = store.begin(CHAIN), store.begin(CHAIN), store.begin(MEET)
    store.do(rescue_branches, [store.worker], LEASE_NOW)
    mine = [store.claim(one.visit.branch_id)[0].visit for one in (good, forked)]
    results = store.batch(
        record_steps,
        store.step(CHAIN, late.visit),
        store.step(CHAIN, mine[0]),
        store.step(MEET, mine[1], keep=3),
    )
    assert [one.accepted for one in results] == [False, True, True]
    assert [one.task for one in results[1].started] == ["second"]
    assert [one.task for one in results[2].started] == ["a", "b", "c"]
    assert store.branch(late.visit.branch_id).state == BranchState.READY
    assert store.run(late.run).status == RunStatus.RUNNING


def test_a_late_step_of_a_run_that_another_step_ends_counts_for_nothing(store: Store) -> None:
    run, visits = store.fork(MEET)
    _error(store, visits["a"], MEET)
    assert not store.record(MEET, visits["b"]).accepted
    row = store.run(run)
    assert (row.status, row.active) == (RunStatus.FAILED, 0)


def test_log_lines_are_stored_with_their_step(store: Store) -> None:
    begun = store.begin()
    lines = [
        LoggedLine(new_id(), begun.run, begun.visit.task_run_id, "first", NOW, "info", str(n))
        for n in range(3)
    ]
    store.record(SINGLE, begun.visit, logs=lines)
    assert [row.message for row in store.rows(LogLine)] == ["0", "1", "2"]


# On, or over to others.


def test_a_branch_goes_on_in_place_under_its_claim(store: Store) -> None:
    begun = store.begin(CHAIN)
    (following,) = store.record(CHAIN, begun.visit).started
    branch = store.branch(begun.visit.branch_id)
    assert (following.task, following.branch_id) == ("second", begun.visit.branch_id)
    assert (following.claim, following.previous_id) == (begun.visit.claim, begun.visit.task_run_id)
    assert (branch.state, branch.worker_id) == (BranchState.RUNNING, store.worker)
    assert (branch.task, branch.task_run_id) == ("second", following.task_run_id)
    assert store.task_run(following).status == TaskRunStatus.RUNNING
    assert store.record(CHAIN, following).ended == RunStatus.COMPLETED


def test_a_task_that_the_worker_cannot_run_is_handed_over(store: Store) -> None:
    begun = store.begin(CHAIN)
    recorded = store.record(CHAIN, begun.visit, task_types={"another"})
    assert (recorded.started, recorded.ready) == ([], [begun.visit.branch_id])
    branch = store.branch(begun.visit.branch_id)
    assert (branch.state, branch.worker_id, branch.task_run_id) == (BranchState.READY, None, None)
    assert (branch.task, branch.attempt, branch.ready_at) == ("second", 0, LEASE_NOW)
    (taken,) = store.claim(begun.visit.branch_id, worker_id=store.register())
    assert (taken.visit.task, taken.visit.previous_id) == ("second", begun.visit.task_run_id)
    assert not store.record(CHAIN, begun.visit).accepted


def test_a_failure_takes_the_other_way(store: Store) -> None:
    flow = flow_of(("first", "good", "bad"))
    begun = store.begin(flow)
    (following,) = store.record(flow, begun.visit, kind="failure", reason="returned").started
    assert following.task == "bad"
    task_run = store.task_run(begun.visit)
    assert (task_run.status, task_run.reason) == (TaskRunStatus.FAILED, "returned")
    assert store.record(flow, following).ended == RunStatus.COMPLETED
    assert store.run(begun.run).outcome == Outcome.SUCCESS


def test_a_branch_that_ends_after_a_failure_makes_the_outcome_a_failure(store: Store) -> None:
    run, visits = store.fork(OTHERS)
    store.record(OTHERS, visits["a"], kind="failure", reason="returned_failure")
    assert (store.run(run).active, store.run(run).failed) == (1, 1)
    assert store.record(OTHERS, visits["b"]).ended == RunStatus.COMPLETED
    assert store.run(run).outcome == Outcome.FAILURE


@pytest.mark.parametrize("keep", [1, 2, 3, 99])
def test_a_fork_begins_as_many_as_the_worker_keeps_and_leaves_the_rest(
    store: Store, keep: int
) -> None:
    begun = store.begin(MEET)
    recorded = store.record(MEET, begun.visit, keep=keep)
    kept = min(keep, 3)
    assert [visit.task for visit in recorded.started] == ["a", "b", "c"][:kept]
    assert len(recorded.ready) == 3 - kept
    rows = {row.id: row for row in store.rows(Branch) if row.id != begun.visit.branch_id}
    assert sorted(row.path for row in rows.values()) == [f"main/split:{task}" for task in "abc"]
    assert {rows[branch].state for branch in recorded.ready} <= {BranchState.READY}
    assert {rows[visit.branch_id].state for visit in recorded.started} == {BranchState.RUNNING}
    assert {row.tracked for row in rows.values()} == {True}
    assert {row.previous_id for row in rows.values()} == {begun.visit.task_run_id}
    assert store.branch(begun.visit.branch_id).state == BranchState.DONE
    assert store.run(begun.run).active == 3
    others = [one.visit.task for one in store.claim(*recorded.ready)] if recorded.ready else []
    assert sorted([visit.task for visit in recorded.started] + others) == ["a", "b", "c"]


def test_a_wide_fork_makes_every_branch_once(store: Store) -> None:
    heads = [f"head-{number}" for number in range(1_205)]
    wide = flow_of(("split", heads, "end"))
    begun = store.begin(wide)
    recorded = store.record(wide, begun.visit, keep=2)
    assert len(recorded.started) + len(set(recorded.ready)) == len(heads)
    tasks = [row.task for row in store.rows(Branch) if row.tracked]
    assert sorted(tasks) == sorted(heads)
    assert store.run(begun.run).active == len(heads)


def test_the_last_branches_of_a_run_that_end_at_once_end_it_once(store: Store) -> None:
    for _ in range(ROUNDS // 2):
        run, visits = store.fork(OTHERS)
        results = at_once(*(partial(store.record, OTHERS, visit) for visit in visits.values()))
        assert sorted(str(one.ended) for one in results) == ["None", "completed"]
        row = store.run(run)
        assert (row.status, row.active) == (RunStatus.COMPLETED, 0)


# Errors and limits.


def test_an_error_fails_the_run_and_cancels_its_other_branches_with_the_reason(
    store: Store,
) -> None:
    run, visits = store.fork(MEET)
    store.record(MEET, visits["a"])
    recorded = _error(store, visits["b"], MEET)
    assert (recorded.accepted, recorded.ended) == (True, RunStatus.FAILED)
    row = store.run(run)
    assert (row.status, row.outcome, row.active) == (RunStatus.FAILED, Outcome.FAILURE, 0)
    assert orjson.loads(row.error) == {"task": "b", **orjson.loads(ERROR)}
    failed, stopped = store.task_run(visits["b"]), store.task_run(visits["c"])
    assert (failed.status, failed.reason, failed.error) == ("failed", "raised", ERROR)
    assert (stopped.status, stopped.reason) == ("cancelled", "sibling_failed:b")
    assert store.task_run(visits["a"]).status == TaskRunStatus.SUCCESS
    assert set(store.states(run)) == {"done"}


def test_an_error_that_is_handled_leads_on_and_the_run_goes_on(store: Store) -> None:
    flow = flow_of(("first", "good", "bad", "rescue"))
    begun = store.begin(flow)
    recorded = _error(store, begun.visit, flow)
    assert ([visit.task for visit in recorded.started], recorded.ended) == (["rescue"], None)
    failed = store.task_run(begun.visit)
    assert (failed.status, failed.reason, failed.error) == ("failed", "raised", ERROR)
    assert store.record(flow, recorded.started[0]).ended == RunStatus.COMPLETED
    assert (store.run(begun.run).outcome, store.run(begun.run).error) == ("success", None)


def test_an_error_stops_what_its_neighbours_of_the_batch_began(store: Store) -> None:
    flow = flow_of(("split", ["a", "b"], "end"), ("b", "next", "end"))
    run, visits = store.fork(flow)
    other = store.begin(CHAIN)
    failing = store.step(flow, visits["a"], kind="error", data=None, error=ERROR, reason="raised")
    results = store.batch(
        record_steps,
        store.step(flow, visits["b"]),
        failing,
        store.step(CHAIN, other.visit),
    )
    assert [one.accepted for one in results] == [True, True, True]
    assert (results[0].started, results[0].ready) == ([], [])
    assert [visit.task for visit in results[2].started] == ["second"]
    assert store.run(run).status == RunStatus.FAILED
    assert store.task_run(visits["b"]).status == TaskRunStatus.SUCCESS
    assert {row.status for row in store.rows(TaskRun, task="next")} <= {"cancelled"}
    assert store.run(other.run).status == RunStatus.RUNNING


def test_a_run_that_passes_its_limit_of_task_runs_fails_and_says_so(store: Store) -> None:
    begun = store.begin(LOOP)
    visit, recorded = begun.visit, None
    for _ in range(LOOP.definition.max_task_runs + 1):
        kind = "failure" if visit.task == "check" else "success"
        recorded = store.record(LOOP, visit, kind=kind)
        if recorded.ended is not None:
            break
        (visit,) = recorded.started
    assert recorded is not None
    assert (recorded.ended, recorded.started) == (RunStatus.FAILED, [])
    row = store.run(begun.run)
    error = orjson.loads(row.error)
    assert (error["type"], "6" in error["message"]) == ("TaskRunLimit", True)
    finished = [task for task in store.rows(TaskRun) if task.status != TaskRunStatus.CANCELLED]
    assert len(finished) == LOOP.definition.max_task_runs
    cut_off = store.rows(TaskRun, status="cancelled")
    assert {task.reason for task in cut_off} <= {"limit_passed"}


def test_a_fork_beyond_the_limit_fails_the_run_too(store: Store) -> None:
    flow = flow_of(("split", ["a", "b", "c"], "end"), max_task_runs=3)
    begun = store.begin(flow)
    recorded = store.record(flow, begun.visit, keep=2)
    assert (recorded.ended, recorded.started, recorded.ready) == (RunStatus.FAILED, [], [])
    assert set(store.states(begun.run)) == {"done"}


# Loops and waits.


def test_a_loop_counts_the_iterations_of_each_task(store: Store) -> None:
    begun = store.begin(LOOP)
    seen = []
    visit: Visit | None = begun.visit
    while visit is not None:
        seen.append((visit.task, visit.iteration))
        turns_back = visit.task == "check" and visit.iteration < 3
        recorded = store.record(LOOP, visit, kind="failure" if turns_back else "success")
        visit = recorded.started[0] if recorded.started else None
    assert seen == [(task, n) for n in (1, 2, 3) for task in ("begin", "check")]
    stored = [(row.task, row.iteration, row.attempt) for row in store.rows(TaskRun)]
    assert stored == [(task, iteration, 1) for task, iteration in seen]
    assert store.run(begun.run).status == RunStatus.COMPLETED


def test_a_visit_that_is_handed_over_in_a_loop_keeps_its_iteration(store: Store) -> None:
    begun = store.begin(LOOP)
    (check,) = store.record(LOOP, begun.visit).started
    recorded = store.record(LOOP, check, kind="failure", task_types=set())
    (claimed,) = store.claim(*recorded.ready)
    assert (claimed.visit.task, claimed.visit.iteration) == ("begin", 2)
    (check,) = store.record(LOOP, claimed.visit).started
    assert (check.task, check.iteration) == ("check", 2)


def test_another_attempt_waits_for_its_time_and_is_the_same_visit(store: Store) -> None:
    begun = store.begin(CHAIN)
    retry = {"kind": "retry", "data": None, "error": ERROR, "reason": "raised", "wake_at": NOW}
    recorded = store.record(CHAIN, begun.visit, **retry)
    assert (recorded.accepted, recorded.started, recorded.ended) == (True, [], None)
    branch, first = store.branch(begun.visit.branch_id), store.task_run(begun.visit)
    assert (first.status, first.reason, first.error) == ("failed", "raised", ERROR)
    assert (branch.state, branch.worker_id, branch.wake_at) == (BranchState.WAITING, None, NOW)
    assert (branch.task, branch.failed_attempts) == ("first", 1)
    assert not store.record(CHAIN, begun.visit).accepted
    assert store.do(wake_due, LEASE_NOW) == [branch.id]
    (claimed,) = store.claim(branch.id, worker_id=store.register())
    again = claimed.visit
    assert (again.task, again.iteration, again.attempt) == ("first", 1, 2)
    assert (again.failed_attempts, again.resumed) == (1, False)
    assert again.task_run_id != begun.visit.task_run_id


def test_failed_attempts_are_those_of_one_visit(store: Store) -> None:
    begun = store.begin(CHAIN)
    store.record(CHAIN, begun.visit, kind="retry", data=None, error=ERROR, wake_at=NOW)
    store.do(wake_due, LEASE_NOW)
    (claimed,) = store.claim(begun.visit.branch_id)
    (following,) = store.record(CHAIN, claimed.visit).started
    assert (following.failed_attempts, following.attempt) == (0, 1)
    assert store.branch(following.branch_id).failed_attempts == 0


def test_attempts_count_against_the_limit_of_task_runs(store: Store) -> None:
    flow = flow_of(("first", "second", "end"), max_task_runs=1)
    begun = store.begin(flow)
    recorded = store.record(
        flow, begun.visit, kind="retry", data=None, error=ERROR, reason="raised", wake_at=NOW
    )
    assert recorded.ended == RunStatus.FAILED
    assert orjson.loads(store.run(begun.run).error)["type"] == "TaskRunLimit"
    assert store.states(begun.run) == ["done"]


def test_a_suspended_visit_holds_no_worker_until_its_time(store: Store) -> None:
    begun = store.begin(CHAIN)
    wake_at = NOW + timedelta(days=400 * 365)
    recorded = store.record(CHAIN, begun.visit, kind="suspended", data=None, wake_at=wake_at)
    assert (recorded.accepted, recorded.started, recorded.ready) == (True, [], [])
    branch, task_run = store.branch(begun.visit.branch_id), store.task_run(begun.visit)
    assert (branch.state, branch.worker_id) == (BranchState.WAITING, None)
    assert (branch.wake_at, branch.task_run_id) == (wake_at, begun.visit.task_run_id)
    assert (task_run.status, task_run.finished_at) == (TaskRunStatus.WAITING, None)
    assert store.claim(begun.visit.branch_id) == []
    assert not store.record(CHAIN, begun.visit).accepted
    assert store.run(begun.run).status == RunStatus.RUNNING
