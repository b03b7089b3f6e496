"""Runs: stored once with their definition, and stopped whole by a cancel, on both databases."""

from collections.abc import Iterator
from datetime import timedelta
from functools import partial

import pytest

from shared.ids import FlowRunId, new_id
from shared.models import Branch, FlowRun, StoredDefinition, TaskRun
from shared.status import BranchState, Outcome, RunStatus, TaskRunStatus
from shared.store.freeing import Release, release_branches
from shared.store.runs import CreatedRun, create_runs
from shared.store.steps import Recorded, record_steps
from shared.store.stopping import Cancel, CancelResult, cancel_runs
from tests.integration.store_rig import (
    CHAIN,
    DATABASES,
    LEASE_NOW,
    NOW,
    SINGLE,
    TYPE,
    Begun,
    Store,
    at_once,
    flow_of,
    new_run,
    opened_for_module,
)

RACES = 12
FORK = flow_of(("split", ["a", "b", "c"], "end"), ("a", "meet", "end"), ("b", "meet", "end"))


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def test_a_run_is_stored_with_a_branch_that_is_ready_at_its_start(store: Store) -> None:
    created = store.create(CHAIN, name="Take in", input_json=b'{"a": 1.50}', tags_json=b'["x"]')
    run, branch = store.run(created.flow_run_id), store.row(Branch)
    assert created == CreatedRun(run.id, branch.id)
    assert (run.status, run.outcome, run.active, run.failed) == (RunStatus.RUNNING, None, 1, 0)
    assert (run.name, run.input, run.tags) == ("Take in", b'{"a": 1.50}', b'["x"]')
    assert (run.created_at, run.started_at, run.finished_at) == (NOW, None, None)
    assert branch.flow_run_id == run.id
    assert (branch.state, branch.path, branch.queue) == (BranchState.READY, "main", "default")
    assert (branch.task, branch.task_type, branch.attempt) == ("first", TYPE, 0)
    assert (branch.claim, branch.losses, branch.ready_at) == (0, 0, LEASE_NOW)
    assert not branch.tracked


def test_a_definition_is_stored_once_for_all_its_runs(store: Store) -> None:
    store.batch(create_runs, new_run(SINGLE), new_run(CHAIN), new_run(SINGLE))
    store.create(SINGLE, created_at=NOW + timedelta(days=1))
    found = {row.hash: row.content for row in store.rows(StoredDefinition)}
    assert found == {
        flow.hash: flow.definition.model_dump_json(by_alias=True).encode()
        for flow in (SINGLE, CHAIN)
    }
    assert {row.created_at for row in store.rows(StoredDefinition)} == {NOW}
    assert len(store.rows(FlowRun)) == 4


def test_a_definition_that_two_store_at_once_fails_neither(store: Store) -> None:
    for number in range(RACES):
        flow = flow_of(others=[f"first-{number}"])
        at_once(partial(store.create, flow), partial(store.create, flow))
    assert len(store.rows(StoredDefinition)) == RACES
    assert len(store.rows(FlowRun)) == len(store.rows(Branch)) == 2 * RACES


def test_results_come_in_the_order_of_the_items(store: Store) -> None:
    items = [
        new_run(idempotency_key="a"),
        new_run(),
        new_run(idempotency_key="b"),
        new_run(),
    ]
    created = store.batch(create_runs, *items)
    assert [one.flow_run_id for one in created] == [item.flow_run_id for item in items]
    assert [one.branch_id for one in created] == [item.branch_id for item in items]


def test_a_key_gives_the_same_run_again(store: Store) -> None:
    first = store.create(idempotency_key="k", request_hash="h")
    again = store.create(idempotency_key="k", request_hash="h")
    assert (first.replayed, first.mismatch) == (False, False)
    assert again == CreatedRun(first.flow_run_id, None, replayed=True)
    assert len(store.rows(FlowRun)) == len(store.rows(Branch)) == 1


def test_a_key_twice_in_one_batch_makes_one_run(store: Store) -> None:
    items = [new_run(idempotency_key="k", request_hash="h") for _ in range(3)]
    created = store.batch(create_runs, *items)
    assert [one.replayed for one in created] == [False, True, True]
    assert {one.flow_run_id for one in created} == {items[0].flow_run_id}
    assert [one.branch_id for one in created] == [items[0].branch_id, None, None]
    assert len(store.rows(FlowRun)) == len(store.rows(Branch)) == 1


def test_a_key_with_another_body_is_told_and_makes_nothing(store: Store) -> None:
    first = store.create(idempotency_key="k", request_hash="h")
    other = store.create(idempotency_key="k", request_hash="another")
    assert (other.replayed, other.mismatch) == (True, True)
    assert other.flow_run_id == first.flow_run_id
    assert len(store.rows(FlowRun)) == 1


def test_runs_without_a_key_are_never_taken_for_each_other(store: Store) -> None:
    created = store.batch(create_runs, new_run(), new_run())
    assert len({one.flow_run_id for one in created}) == len(store.rows(FlowRun)) == 2


def test_a_key_that_races_makes_one_run(store: Store) -> None:
    for number in range(RACES):
        submit = partial(store.create, idempotency_key=f"k{number}", request_hash="h")
        created = at_once(submit, submit, submit)
        assert sorted(one.replayed for one in created) == [False, True, True]
        assert len({one.flow_run_id for one in created}) == 1
    assert len(store.rows(FlowRun)) == len(store.rows(Branch)) == RACES


def test_a_cancel_ends_the_run_and_all_that_is_open(store: Store) -> None:
    run, visits = store.fork(FORK)
    arrived = store.record(FORK, visits["a"])
    store.record(FORK, visits["b"], kind="suspended", data=None, wake_at=NOW)
    assert (arrived.accepted, arrived.started) == (True, [])
    assert store.states(run) == ["done", "running", "waiting", "waiting"]
    at = NOW + timedelta(hours=1)
    assert store.batch(cancel_runs, Cancel(run, at)) == ["cancelled"]
    row = store.run(run)
    assert (row.status, row.finished_at, row.active) == (RunStatus.CANCELLED, at, 0)
    assert (row.outcome, row.output, row.error) == (None, None, None)
    assert set(store.states(run)) == {"done"}
    told = {task.task: (task.status, task.reason) for task in store.rows(TaskRun)}
    stopped = (TaskRunStatus.CANCELLED, "run_cancelled")
    done = (TaskRunStatus.SUCCESS, None)
    assert told == {"split": done, "a": done, "b": stopped, "c": stopped}
    assert {task.finished_at for task in store.rows(TaskRun, status="cancelled")} == {at}
    for branch in store.rows(Branch):
        assert (branch.worker_id, branch.task_run_id, branch.wake_at) == (None, None, None)


def test_a_cancel_voids_the_claims_of_whoever_still_runs(store: Store) -> None:
    begun = store.begin()
    store.batch(cancel_runs, Cancel(begun.run, NOW))
    assert store.branch(begun.visit.branch_id).claim > begun.visit.claim
    assert not store.record(SINGLE, begun.visit).accepted
    visit = begun.visit
    release = Release(visit.branch_id, visit.claim, visit.task_run_id, LEASE_NOW)
    assert store.batch(release_branches, release) == [False]
    assert store.claim() == []
    assert store.run(begun.run).status == RunStatus.CANCELLED
    assert store.task_run(visit).status == TaskRunStatus.CANCELLED


def test_a_cancel_leaves_other_runs_alone(store: Store) -> None:
    other, begun = store.begin(), store.begin()
    store.batch(cancel_runs, Cancel(begun.run, NOW))
    assert store.run(other.run).status == RunStatus.RUNNING
    assert store.task_run(other.visit).status == TaskRunStatus.RUNNING
    assert store.record(SINGLE, other.visit).ended == RunStatus.COMPLETED


def test_a_cancel_of_what_is_over_or_unknown_says_so_and_changes_nothing(store: Store) -> None:
    begun = store.begin()
    store.record(SINGLE, begun.visit)
    before = store.run(begun.run)
    cancels = [Cancel(begun.run, NOW), Cancel(FlowRunId(new_id()), NOW)]
    assert store.batch(cancel_runs, *cancels) == ["over", "unknown"]
    assert store.run(begun.run) == before
    assert (before.status, before.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)


def test_all_who_cancel_in_one_batch_are_told_the_same(store: Store) -> None:
    run = store.create().flow_run_id
    later = Cancel(run, NOW + timedelta(minutes=1))
    assert store.batch(cancel_runs, Cancel(run, NOW), later) == ["cancelled", "cancelled"]
    assert store.run(run).finished_at == NOW
    assert store.batch(cancel_runs, later) == ["over"]


def test_a_cancel_and_a_finish_have_one_winner(store: Store) -> None:
    for number in range(RACES):
        begun = store.begin()
        cancelled: list[CancelResult] = []
        recorded: list[Recorded] = []
        works = [
            partial(_cancel, store, begun, cancelled),
            partial(_finish, store, begun, recorded),
        ]
        # Threads do not begin at quite the same moment: each is the first one half of the time.
        at_once(*works[:: -1 if number % 2 else 1])
        status, (result,) = store.run(begun.run).status, recorded
        if status == RunStatus.CANCELLED:
            assert (cancelled, result.accepted, result.ended) == (["cancelled"], False, None)
        else:
            assert (status, cancelled, result.ended) == ("completed", ["over"], status)
        expected = {"cancelled": TaskRunStatus.CANCELLED, "completed": TaskRunStatus.SUCCESS}
        assert store.task_run(begun.visit).status == expected[status]


def _cancel(store: Store, begun: Begun, results: list[CancelResult]) -> None:
    results += store.batch(cancel_runs, Cancel(begun.run, NOW))


def _finish(store: Store, begun: Begun, results: list[Recorded]) -> None:
    results += store.batch(record_steps, store.step(begun.flow, begun.visit))
