"""Joins: fired once all are there, closed where somebody turned away, on both databases."""

import random
from collections.abc import Iterator
from functools import partial

import pytest

from shared.ids import FlowRunId
from shared.models import Branch, Join, TaskRun
from shared.status import Outcome, RunStatus, TaskRunStatus
from shared.store.steps import record_steps
from shared.store.upkeep import wake_due
from tests.integration.store_rig import (
    DATABASES,
    LEASE_NOW,
    NOW,
    TYPE,
    Store,
    at_once,
    flow_of,
    opened_for_module,
    waits_at_join,
)

ROUNDS = 36
MEET = flow_of(
    ("split", ["a", "b", "c"], "end"),
    ("a", "meet", "end"),
    ("b", "meet", "end"),
    ("c", "meet", "end"),
    ("meet", "after", "end"),
)

FIRST_COME = flow_of(
    ("split", ["a", "b"], "end"),
    ("a", "meet", "end"),
    ("b", "meet", "end"),
    joins={"meet": "any"},
)


@pytest.fixture(scope="module", params=DATABASES)
def shared_store(request: pytest.FixtureRequest) -> Iterator[Store]:
    with opened_for_module(request) as store:
        yield store


@pytest.fixture
def store(shared_store: Store) -> Store:
    return shared_store.empty()


def _no_books_are_open(store: Store, run: FlowRunId) -> bool:
    rows = store.rows(Join, flow_run_id=run)
    return all((row.upstream, row.arrived, row.missed) == (0, 0, 0) for row in rows)


def test_a_join_fires_once_all_are_there_and_sees_them_all(store: Store) -> None:
    run, visits = store.fork(MEET)
    for task in ("a", "b"):
        recorded = store.record(MEET, visits[task])
        assert (recorded.accepted, recorded.started, recorded.ready) == (True, [], [])
        assert waits_at_join(store.branch(visits[task].branch_id))
    (meeting,) = store.record(MEET, visits["c"]).started
    assert (meeting.task, meeting.path, meeting.attempt) == ("meet", "main", 1)
    merged = store.rows(Branch, joined_by=meeting.task_run_id)
    assert len(merged) == 3
    assert {row.previous_id for row in merged} == {one.task_run_id for one in visits.values()}
    assert (store.run(run).active, _no_books_are_open(store, run)) == (1, True)
    (after,) = store.record(MEET, meeting).started
    assert store.record(MEET, after).ended == RunStatus.COMPLETED
    assert store.states(run) == ["done"] * 4


def test_steps_of_one_batch_may_all_be_at_the_same_join(store: Store) -> None:
    run, visits = store.fork(MEET)
    results = store.batch(record_steps, *(store.step(MEET, one) for one in visits.values()))
    assert all(one.accepted for one in results)
    (meeting,) = [visit for one in results for visit in one.started]
    assert meeting.task == "meet"
    assert len(store.rows(TaskRun, task="meet")) == 1
    assert store.run(run).active == 1


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_join_that_goes_on_early_cancels_who_goes_to_sleep_in_the_same_batch(
    store: Store, order: str
) -> None:
    run, visits = store.fork(FIRST_COME)
    sleep = {"kind": "suspended", "targets": None, "wake_at": NOW}
    steps = {
        "a": store.step(FIRST_COME, visits["a"]),
        "b": store.step(FIRST_COME, visits["b"], **sleep),
    }
    results = store.batch(record_steps, *(steps[task] for task in order))
    (meeting,) = [visit for one in results for visit in one.started]
    row = store.task_run(visits["b"])
    assert (row.status, row.reason) == (TaskRunStatus.CANCELLED, "join_met:meet")
    assert store.record(FIRST_COME, meeting).ended == RunStatus.COMPLETED
    assert store.states(run) == ["done"] * 3


def test_a_join_that_the_worker_cannot_run_is_handed_over(store: Store) -> None:
    _, visits = store.fork(MEET)
    steps = [store.step(MEET, one, task_types=set()) for one in visits.values()]
    results = store.batch(record_steps, *steps)
    (ready,) = [branch for one in results for branch in one.ready]
    assert [one.started for one in results] == [[], [], []]
    (claimed,) = store.claim(ready, worker_id=store.register())
    visit = claimed.visit
    assert (visit.task, visit.attempt, visit.resumed) == ("meet", 1, False)
    assert visit.joined_by is not None
    assert len(store.rows(Branch, joined_by=visit.joined_by)) == 3


def test_the_claim_of_who_waited_at_a_join_is_void_once_it_fires(store: Store) -> None:
    _, visits = store.fork(MEET)
    for visit in visits.values():
        store.record(MEET, visit)
    for visit in visits.values():
        assert not store.record(MEET, visit).accepted
    assert [row.status for row in store.rows(TaskRun, task="meet")] == [TaskRunStatus.RUNNING]


def test_a_join_that_was_missed_closes_and_ends_who_waits(store: Store) -> None:
    run, visits = store.fork(MEET)
    store.record(MEET, visits["a"])
    store.record(MEET, visits["b"], kind="failure", reason="returned_failure")
    recorded = store.record(MEET, visits["c"])
    assert (recorded.ended, recorded.started) == (RunStatus.COMPLETED, [])
    row = store.run(run)
    assert (row.outcome, row.active, row.failed) == (Outcome.FAILURE, 0, 3)
    assert set(store.states(run)) == {"done"}
    assert _no_books_are_open(store, run)
    assert store.rows(TaskRun, task="meet") == []


def test_a_join_closes_the_joins_behind_it(store: Store) -> None:
    flow = flow_of(
        ("split", ["a", "b", "c"], "end"),
        ("a", "first", "end"),
        ("b", "first", "end"),
        ("first", "last", "end"),
        ("c", "last", "end"),
    )
    run, visits = store.fork(flow)
    store.record(flow, visits["c"])
    store.record(flow, visits["a"])
    recorded = store.record(flow, visits["b"], kind="failure", reason="returned_failure")
    assert recorded.ended == RunStatus.COMPLETED
    assert {row.task for row in store.rows(TaskRun)} == {"split", "a", "b", "c"}
    assert _no_books_are_open(store, run)


def test_a_join_that_nobody_comes_to_is_reset_and_ends_nothing(store: Store) -> None:
    flow = flow_of(
        ("split", ["a", "b"], "end"),
        ("a", "meet", "other"),
        ("b", "meet", "other"),
    )
    run, visits = store.fork(flow)
    store.record(flow, visits["a"], kind="failure", reason="returned_failure")
    (other,) = store.record(flow, visits["b"], kind="failure", reason="returned_failure").started
    assert other.task == "other"
    assert store.record(flow, other).ended == RunStatus.COMPLETED
    assert {row.task for row in store.rows(TaskRun)} == {"split", "a", "b", "other"}
    assert _no_books_are_open(store, run)


def test_a_join_in_a_loop_is_decided_anew_every_round(store: Store) -> None:
    flow = flow_of(
        ("split", ["a", "b"], "end"),
        ("a", "meet", "end"),
        ("b", "meet", "end"),
        ("meet", "end", "split"),
    )
    begun = store.begin(flow)
    visit = begun.visit
    for round_number in (1, 2, 3):
        assert (visit.task, visit.iteration) == ("split", round_number)
        one, other = store.record(flow, visit, keep=2).started
        assert {one.iteration, other.iteration} == {round_number}
        assert store.record(flow, one).started == []
        (meeting,) = store.record(flow, other).started
        assert (meeting.task, meeting.iteration) == ("meet", round_number)
        recorded = store.record(flow, meeting, kind="failure" if round_number < 3 else "success")
        visit = recorded.started[0] if recorded.started else visit
    row = store.run(begun.run)
    assert (row.status, row.outcome) == (RunStatus.COMPLETED, Outcome.SUCCESS)
    assert _no_books_are_open(store, begun.run)


@pytest.mark.parametrize("is_handed_over", [False, True])
def test_the_last_of_a_fork_that_end_at_once_fire_the_join_once(
    store: Store, is_handed_over: bool
) -> None:
    types: set[str] = set() if is_handed_over else {TYPE}
    orders = random.Random(7)
    for _ in range(ROUNDS):
        run, visits = store.fork(MEET)
        tasks = orders.sample("abc", 3)
        store.record(MEET, visits[tasks[0]])
        results = at_once(
            *(partial(store.record, MEET, visits[task], task_types=types) for task in tasks[1:])
        )
        assert all(one.accepted for one in results)
        began = [visit.task for one in results for visit in one.started]
        ready = [branch for one in results for branch in one.ready]
        assert (began, len(ready)) == (([], 1) if is_handed_over else (["meet"], 0))
        assert store.run(run).active == 1
        assert _no_books_are_open(store, run)
        states = ["done", "done", "done", "ready" if is_handed_over else "running"]
        assert store.states(run) == states
    assert len(store.rows(TaskRun, task="meet")) == (0 if is_handed_over else ROUNDS)


def test_another_attempt_at_a_join_is_the_same_visit(store: Store) -> None:
    run, visits = store.fork(MEET)
    for task in ("a", "b"):
        store.record(MEET, visits[task])
    (meeting,) = store.record(MEET, visits["c"]).started
    store.record(MEET, meeting, kind="retry", data=None, error=b"{}", wake_at=NOW)
    assert not waits_at_join(store.branch(meeting.branch_id))
    store.do(wake_due, LEASE_NOW)
    (claimed,) = store.claim(meeting.branch_id)
    assert (claimed.visit.attempt, claimed.visit.joined_by) == (2, meeting.task_run_id)
    assert [visit.task for visit in store.record(MEET, claimed.visit).started] == ["after"]
    assert store.run(run).active == 1
